"""Official weights are found in caches, fetched whole or not at all, and known by their hash."""

from __future__ import annotations

import hashlib
import io
import urllib.request
from email.message import Message
from urllib.error import URLError

import pytest

from jaxdet.models import Task, list_models
from jaxdet_convert import OfficialWeightsError, find_official, official
from jaxdet_convert.official import OFFICIAL, OfficialWeights, recognise_official

DATA = b"weights" * 1000
PREFIX = hashlib.sha256(DATA).hexdigest()[:8]
FILE = f"tiny-{PREFIX}.pth"


class Response(io.BytesIO):
    url = "https://download.pytorch.org/models/"
    headers = Message()

    def geturl(self):
        return self.url


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches, one small official file, and no network."""
    monkeypatch.setenv("JAXDET_CACHE", str(tmp_path / "jaxdet"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setitem(OFFICIAL, "tiny", OfficialWeights(FILE, norm_eps=0.0))

    def refuse(url, timeout):
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return tmp_path / "jaxdet", tmp_path / "torch" / "hub" / "checkpoints"


def answer(monkeypatch, data, url=Response.url):
    def urlopen(asked, timeout):
        assert asked == official.URL + FILE
        response = Response(data)
        response.url = url
        return response

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


@pytest.mark.parametrize("which", [0, 1])
def test_found_in_either_cache(caches, which):
    caches[which].mkdir(parents=True)
    (caches[which] / FILE).write_bytes(DATA)
    assert find_official("tiny") == caches[which] / FILE


def test_without_a_network_the_line_says_which_file_goes_where(caches):
    with pytest.raises(OfficialWeightsError) as caught:
        find_official("tiny")
    line = str(caught.value)
    assert FILE in line and all(str(folder) in line for folder in caches) and "no network" in line
    assert "\n" not in line
    assert not any(caches[0].iterdir())


def test_a_damaged_file_is_named(caches):
    caches[1].mkdir(parents=True)
    (caches[1] / FILE).write_bytes(DATA[:-1])
    with pytest.raises(OfficialWeightsError, match=f"{FILE} is damaged .*{PREFIX}.*remove it"):
        find_official("tiny")


def test_a_download_is_checked_and_kept(caches, monkeypatch):
    answer(monkeypatch, DATA)
    path = find_official("tiny")
    assert path == caches[0] / FILE and path.read_bytes() == DATA
    assert list(caches[0].iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644  # others read it, too


@pytest.mark.parametrize("variable", ["JAXDET_CACHE", "TORCH_HOME"])
def test_a_cache_below_the_home_folder(tmp_path, monkeypatch, variable):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/cache")
    folder = tmp_path / "cache" if variable == "JAXDET_CACHE" else tmp_path / "cache" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(DATA)
    assert find_official("tiny") == folder / FILE


@pytest.mark.parametrize(("data", "url"), [(DATA[:-1], Response.url), (DATA, "http://elsewhere/")])
def test_a_wrong_download_leaves_nothing(caches, monkeypatch, data, url):
    answer(monkeypatch, data, url)
    with pytest.raises(OfficialWeightsError, match="put that file into"):
        find_official("tiny")
    assert not any(caches[0].iterdir())


def test_a_cache_that_cannot_be_written_to(monkeypatch):
    monkeypatch.setenv("JAXDET_CACHE", "/sys/jaxdet")
    answer(monkeypatch, DATA)
    with pytest.raises(OfficialWeightsError, match="/sys/jaxdet"):
        find_official("tiny")


def test_unknown_name():
    with pytest.raises(ValueError, match="did you mean 'resnet101'"):
        find_official("resnet100")


def test_known_by_its_bytes_and_not_its_name(tmp_path):
    (tmp_path / "renamed.pth").write_bytes(DATA)
    (tmp_path / FILE).write_bytes(DATA[1:])
    assert recognise_official(tmp_path / "renamed.pth") == OFFICIAL["tiny"]
    assert recognise_official(tmp_path / FILE) is None


def test_the_table_is_torchvisions(torchvision):
    """Names, hashes and the resizing of images, as the installed torchvision has them."""
    models = torchvision.models
    for name, weights in OFFICIAL.items():
        if name == "tiny":
            continue
        builder = name if name in list_models() else name.rpartition("_v")[0]
        wanted = models.get_model_weights(builder)[weights.member]
        assert wanted.url == official.URL + weights.file
        if builder not in list_models(Task.DETECTION):
            assert wanted.transforms().resize_size == [weights.resize]
    assert {name for name, weights in OFFICIAL.items() if weights.norm_eps != 1e-5} == {
        "tiny", "fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn",
    }  # fmt: skip
