"""What is not installed is told before the work begins, with what installs it."""

from __future__ import annotations

import importlib.util
import sys

import pytest

import fake_bucket
from jaxdet.cli.__main__ import main
from jaxdet.extras import require, require_buckets


@pytest.fixture
def without(monkeypatch):
    """Makes a module look as if it were not installed."""
    find = importlib.util.find_spec

    def hide(name):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setattr(importlib.util, "find_spec", lambda one, *rest: None if one == name else find(one, *rest))

    return hide


def test_a_missing_package_is_named_with_its_extra(without):
    require("numpy", "export", "this")
    without("flatbuffers")
    with pytest.raises(ValueError, match=r"this needs flatbuffers, .*: pip install 'jaxdet\[export\]'"):
        require("flatbuffers", "export", "this")


def test_export_asks_before_it_opens_the_model(without, capsys, tmp_path):
    without("flatbuffers")
    assert main(["export", "nowhere", "--out", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err == (
        "jaxdet export: exporting needs flatbuffers, which is not installed: pip install 'jaxdet[export]'\n"
    )


def test_a_bucket_asks_for_what_opens_it(capsys):
    require_buckets(["a/b", "C:\\x", "host:1234", "lr=1"])
    with pytest.raises(ValueError, match="http:// URLs are not supported"):
        require_buckets(["http://x/y"])
    if importlib.util.find_spec("s3fs") is None and importlib.util.find_spec("tensorflow") is None:
        assert main(["train", "finetune", "--out", "x", "--set", "weights=s3://bucket/run"]) == 1
        assert (
            capsys.readouterr().err == "jaxdet train: s3:// URLs need s3fs, which is not installed: pip install s3fs\n"
        )
    fake_bucket.install()
    require_buckets(["gs://bucket/run"])
