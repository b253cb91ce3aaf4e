"""The search for the largest batch, with a compiler whose memory is a formula."""

import pytest

from jaxdet.planning.fit import largest_batch

LIMIT = 16.0


def compiler(needs, limit=LIMIT):
    """A compiler that says what a batch needs, if that is no more than there is."""
    calls = []

    def compile_batch(batch):
        calls.append(batch)
        need = needs(batch)
        return need if need <= limit else None

    return compile_batch, calls


def test_a_line_is_found_in_three_compilations():
    compile_batch, calls = compiler(lambda batch: 0.5 + 1.1 * batch)
    found = largest_batch(compile_batch, 8, LIMIT)
    assert found.batch == 14 and calls == [8, 4, 14]
    assert found.next_needs == pytest.approx(0.5 + 1.1 * 15)  # extrapolated, and above what there is


def test_a_beginning_that_does_not_fit():
    compile_batch, calls = compiler(lambda batch: 0.5 + 1.1 * batch)
    found = largest_batch(compile_batch, 32, LIMIT)
    assert found.batch == 14 and calls == [32, 16, 8, 4, 14]
    assert found.compiled[32] is None


def test_a_compiler_that_squeezes():
    # Near the limit memory grows slower than the line says, and less than promised is left.
    compile_batch, calls = compiler(lambda batch: min(2.0 * batch, 10 + 0.5 * batch))
    found = largest_batch(compile_batch, 4, LIMIT)
    assert found.batch == 12 and found.compiled[12] == 16 and 13 not in found.compiled
    assert len(calls) <= 6 and len(set(calls)) == len(calls)


def test_a_line_that_promises_too_much():
    compile_batch, _ = compiler(lambda batch: batch + (3 if batch > 10 else 0))
    found = largest_batch(compile_batch, 8, LIMIT)
    assert found.compiled[16] is None and found.compiled[found.batch] is not None
    assert found.batch == 13


def test_not_even_one():
    compile_batch, calls = compiler(lambda batch: 20.0 * batch)
    assert largest_batch(compile_batch, 4, LIMIT).batch == 0 and calls == [4, 2, 1]


def test_one_image_of_one():
    compile_batch, _ = compiler(lambda batch: 12.0 * batch)
    found = largest_batch(compile_batch, 1, LIMIT)
    assert found.batch == 1 and found.next_needs is None
