"""Bounds and weak scaling, by hand."""

from dataclasses import replace

import pytest

from jaxdet.planning import CHIPS, parse_topology
from jaxdet.planning.bounds import Bounds, all_reduce_seconds, bfloat16_passes, bounds
from jaxdet.planning.compiler import Compiled
from jaxdet.planning.hlo import Collective, Program, Shape
from jaxdet.planning.scaling import weak_scaling

HOP = 1e-6


def test_an_all_reduce_on_a_torus():
    # Both axes of 16 are rings: four links of 45 GB/s, and 8 hops along each, there and back.
    size = 90_000_000
    assert all_reduce_seconds(size, parse_topology("v5e:16x16")) == pytest.approx(
        2 * size * 255 / 256 / 180e9 + 32 * HOP
    )
    # Sides of 4 are no rings on a v5e: one way each, and 3 hops; on a v5p they are.
    assert all_reduce_seconds(size, parse_topology("v5e:4x4")) == pytest.approx(2 * size * 15 / 16 / 90e9 + 12 * HOP)
    assert all_reduce_seconds(size, parse_topology("v5p:4x4x4")) == pytest.approx(2 * size * 63 / 64 / 540e9 + 12 * HOP)
    # 4 divides the first two sides of a v5p, not the third: that one has one way, and 5 hops.
    one_line = all_reduce_seconds(size, parse_topology("v5p:4x4x6"))
    assert one_line == pytest.approx(2 * size * 95 / 96 / (5 * 90e9) + 2 * (2 + 2 + 5) * HOP)
    assert all_reduce_seconds(size, parse_topology("v5e:1x1")) == 0


def test_bounds_of_a_step():
    compiled = Compiled(1, 1, 1, 1, flops=1.0e12, bytes=500e9, text="", seconds=1.0)
    travelling = Collective("all-reduce", (Shape("bf16", (45_000_000,)),), "", False)
    program = Program((travelling,), (), (), (), cycles=0, traffic=81_900_000_000)
    found = bounds(compiled, program, 985 * 10**9, parse_topology("v5e:16x16"))
    assert found.compute == pytest.approx(2 * 985e9 / 197e12)  # the layers' count, which is the larger
    assert found.bandwidth == pytest.approx(0.1)
    assert found.by == "bandwidth" and found.step == found.bandwidth
    assert found.collectives == pytest.approx(2 * 90e6 * 255 / 256 / 180e9 + 32 * HOP)
    alone = replace(program, collectives=())
    thrice = bounds(
        compiled, alone, 985 * 10**9, parse_topology("v5e:16x16"), passes=bfloat16_passes("float32", "high")
    )
    assert thrice.compute == pytest.approx(3 * found.compute) and thrice.collectives == 0
    counted = replace(compiled, flops=3.94e12)  # what the layers do not know of, such as an optimizer's products
    assert bounds(counted, program, 985 * 10**9, parse_topology("v5e:16x16")).compute == pytest.approx(0.02)
    assert Bounds(0.01, 0.09, 0.01).efficiency == pytest.approx(0.9)


def test_passes_of_a_product():
    """Six of bfloat16 for all of float32's digits, three for most of them; a bfloat16 product needs one."""
    assert [bfloat16_passes("float32", precision) for precision in ("highest", "high", "default")] == [6, 3, 1]
    assert bfloat16_passes("bfloat16", "highest") == 1


def test_memory_needed():
    assert Compiled(5, 3, 10, 2, 0, 0, "", 0).needed == 16


def test_weak_scaling():
    travelling = Collective("all-reduce", (Shape("bf16", (45_000_000,)),), "", False)
    rows = weak_scaling(Bounds(0.05, 0.1, 0.0), (travelling,), 8, CHIPS["v5p"])
    assert [row.topology.chips for row in rows] == [1, 4, 16, 64, 128, 256, 512]
    assert (rows[0].efficiency, rows[0].images, rows[0].images_per_host) == (1, 80, 80)
    last = rows[-1]
    assert last.collectives == pytest.approx(2 * 90e6 * 511 / 512 / 540e9 + 24 * HOP)
    assert last.efficiency == pytest.approx(0.1 / (0.1 + last.collectives))
    assert last.images == pytest.approx(512 * 80 * last.efficiency)
    assert last.images_per_host == pytest.approx(4 * 80 * last.efficiency)
