"""Topologies by name."""

import pytest

from jaxdet.planning import CHIPS, parse_topology


@pytest.mark.parametrize(
    "name, chips, hosts",
    [("v4:4x4x4", 64, 16), ("v5e:16x16", 256, 64), ("v5p:8x8x8", 512, 128), ("v6e:2x4", 8, 2), ("v5e:1x1", 1, 1)],
)
def test_chips_and_hosts(name, chips, hosts):
    topology = parse_topology(name)
    assert (topology.name, topology.chips, topology.hosts) == (name, chips, hosts)
    assert topology.chip is CHIPS[name.split(":")[0]]


@pytest.mark.parametrize(
    "name, message",
    [
        ("v5x:4x4", r"no TPU 'v5x'; known: .*; did you mean 'v5"),
        ("v5e", "v5e has 2 axes, such as v5e:16x16"),
        ("v5e:4x4x4", "v5e has 2 axes"),
        ("v5p:8x8", "v5p has 3 axes, such as v5p:4x4x4"),
        ("v5e:0x4", "is not a topology"),
        ("v5e:4x-4", "is not a topology"),
        ("v5e:3x4", r"the first two sides must be even \(or 1\), not 3"),
        ("v6e:16x32", "512 chips, but the largest v6e slice has 256"),
    ],
)
def test_what_is_no_topology(name, message):
    with pytest.raises(ValueError, match=message):
        parse_topology(name)


def test_a_slice_smaller_than_a_host():
    assert parse_topology("v5e:1x1").host_bounds == (1, 1, 1)
    assert parse_topology("v5p:2x2x1").host_bounds == (2, 2, 1)
