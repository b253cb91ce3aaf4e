"""Darknet files, made by hand: both headers, files without a classifier, and numbers that do not fit."""

import struct

import numpy as np
import pytest

from jaxdet_convert.read.darknet_file import DarknetHeader, DarknetLayer, darknet_tensors, read_darknet
from jaxdet_convert.read.errors import WeightsError
from jaxdet_convert.read.weights import read_weights

LAYERS = (DarknetLayer("conv1", 2, 3, 3), DarknetLayer("conv2", 4, 2, 1), DarknetLayer("fc", 5, 4, 1, batch_norm=False))
BACKBONE = (4 * 2 + 2 * 3 * 9) + (4 * 4 + 4 * 2)
WHOLE = BACKBONE + 5 + 5 * 4


def write(path, count, *, old=False):
    head = struct.pack("<4i", 0, 1, 0, 77) if old else struct.pack("<3iQ", 0, 2, 5, 2**33)
    path.write_bytes(head + np.arange(count, dtype="<f4").tobytes())
    return path


def test_both_headers(tmp_path):
    header, flat = read_darknet(write(tmp_path / "new.weights", 7))
    assert header == DarknetHeader(0, 2, 5, 2**33)
    np.testing.assert_array_equal(flat, np.arange(7))
    header, flat = read_darknet(write(tmp_path / "old.weights", 7, old=True))
    assert header == DarknetHeader(0, 1, 0, 77)
    np.testing.assert_array_equal(flat, np.arange(7))


@pytest.mark.parametrize(("version", "wide"), [((0, 1), False), ((0, 2), True), ((0, 10), True), ((1, 0), True)])
def test_the_count_of_images_is_wide_from_0_2(tmp_path, version, wide):
    path = tmp_path / "net.weights"
    path.write_bytes(struct.pack("<3iQ" if wide else "<3ii", *version, 5, 9) + struct.pack("<3f", 1, 2, 3))
    header, flat = read_darknet(path)
    assert header == DarknetHeader(*version, 5, 9) and flat.tolist() == [1, 2, 3]


@pytest.mark.parametrize("version", [(1000, 0, 0), (0, 1000, 0), (0, 2, 1000), (-1, 2, 0), (0, -1, 0), (0, 2, -1)])
def test_versions_that_do_not_exist(tmp_path, version):
    path = tmp_path / "net.weights"
    path.write_bytes(struct.pack("<3iQ", *version, 0) + bytes(12))
    with pytest.raises(WeightsError, match="no Darknet header"):
        read_darknet(path)


def test_layers_by_hand(tmp_path):
    weights = read_weights(write(tmp_path / "net.weights", WHOLE), layers=LAYERS)
    tensors = weights.tensors
    assert weights.source == "darknet" and weights.header.minor == 2
    assert tensors["conv1.bn.bias"].tolist() == [0, 1]
    assert tensors["conv1.bn.weight"].tolist() == [2, 3]
    assert tensors["conv1.bn.running_mean"].tolist() == [4, 5]
    assert tensors["conv1.bn.running_var"].tolist() == [6, 7]
    assert tensors["conv1.conv.weight"].shape == (2, 3, 3, 3)
    assert tensors["conv1.conv.weight"][1, 0, 0].tolist() == [35, 36, 37]
    assert tensors["fc.bias"].tolist() == [BACKBONE + i for i in range(5)]
    assert tensors["fc.weight"].shape == (5, 4, 1, 1)
    assert tensors["fc.weight"].flat[-1] == WHOLE - 1
    assert sum(tensor.size for tensor in tensors.values()) == WHOLE == sum(layer.numbers for layer in LAYERS)


def test_without_the_classifier(tmp_path):
    tensors = read_weights(write(tmp_path / "net.conv.74", BACKBONE), layers=LAYERS).tensors
    assert not any(name.startswith("fc") for name in tensors)
    assert len(tensors) == 10


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (WHOLE + 3, "3 are left over"),
        (WHOLE - 1, "1 are missing"),
        (BACKBONE - 1, f"have {WHOLE} .{BACKBONE} without the classifier.: 26 are missing"),
        (BACKBONE + 1, "24 are missing"),
        (0, f"{WHOLE} are missing"),
    ],
)
def test_numbers_that_do_not_fit(tmp_path, count, message):
    path = write(tmp_path / "net.weights", count)
    with pytest.raises(WeightsError, match=f"net.weights: the file has {count} numbers.*{message}"):
        read_weights(path, layers=LAYERS)


def test_a_network_of_normalised_layers_only_may_not_be_short():
    with pytest.raises(WeightsError, match="24 are missing"):
        darknet_tensors(np.zeros(62, np.float32), LAYERS[:2])


def test_damaged_files(tmp_path):
    path = write(tmp_path / "net.weights", 9)
    whole = path.read_bytes()
    with pytest.raises(WeightsError, match="does not describe its layers"):
        read_weights(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            read_weights(path, layers=LAYERS)
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(WeightsError, match="no Darknet header"):
        read_weights(path, layers=LAYERS)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_darknet(tmp_path / "absent.weights")
