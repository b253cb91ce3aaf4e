"""What is found, written down as it is found: whole lines count, torn ones do not, and nothing counts twice."""

from __future__ import annotations

import numpy as np
import pytest

from jaxdet.detect.parts import Found, Part, check_detect_record, read_parts


def _found(name, count=2, seed=0):
    generator = np.random.default_rng(seed)
    boxes, scores = generator.uniform(0, 900, (count, 4)).astype(np.float32), generator.random(count, np.float32)
    return Found(name, (480, 640), boxes, np.arange(count, dtype=np.int32), scores)


def _same(one, two):
    assert (one.file, one.size, one.error) == (two.file, two.size, two.error)
    for name in ("boxes", "labels", "scores"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_every_bit_of_a_image_comes_back(tmp_path):
    given = [_found("a.jpg"), _found("b/ü \udcff.jpg", 0), _found("c.jpg", 300, seed=1)]
    with Part(tmp_path, 0) as part:
        for one in given:
            part.add(one)
        part.add(Found("d.jpg", error="cut short"))
        seen = read_parts(tmp_path)  # by another process, while this one is at work
    assert list(seen) == ["a.jpg", "b/ü \udcff.jpg", "c.jpg", "d.jpg"] and seen["d.jpg"].error == "cut short"
    for one in given:
        _same(seen[one.file], one)


@pytest.mark.parametrize("torn", ['{"file": "c.jpg", "size": [4', '{"file": "c.jpg", "error": "x"}', "\x00\x00", "\n"])
def test_a_torn_last_line_counts_nothing_and_is_taken_back(tmp_path, torn):
    with Part(tmp_path, 3) as part:
        part.add(_found("a.jpg"))
    path = tmp_path / "part-00003.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + torn.encode())
    assert list(read_parts(tmp_path)) == ["a.jpg"]
    with Part(tmp_path, 3) as part:
        assert path.read_bytes() == whole
        part.add(_found("b.jpg"))
    assert list(read_parts(tmp_path)) == ["a.jpg", "b.jpg"]


def test_of_two_lines_the_first_with_detections_counts(tmp_path):
    first, second = _found("a.jpg", seed=1), _found("a.jpg", seed=2)
    for index, ones in enumerate([(Found("a.jpg", error="cut short"), first), (second,)]):
        with Part(tmp_path, index) as part:
            for one in ones:
                part.add(one)
    _same(read_parts(tmp_path)["a.jpg"], first)


def test_a_part_has_one_writer(tmp_path):
    with Part(tmp_path, 1), Part(tmp_path, 2), pytest.raises(ValueError, match=r"part-00001\.jsonl: another process"):
        Part(tmp_path, 1)
    Part(tmp_path, 1).__exit__(None, None, None)


def test_other_detections_are_not_mixed_in(tmp_path):
    check_detect_record(tmp_path, {"model": "a", "pictures": 3})
    check_detect_record(tmp_path, {"model": "a", "pictures": 3})
    with pytest.raises(ValueError, match=r"model \(was a, now b\).*--overwrite"):
        check_detect_record(tmp_path, {"model": "b", "pictures": 3})
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        check_detect_record(tmp_path, {"model": "a"})
