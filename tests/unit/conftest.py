from __future__ import annotations

import pytest

from small_run import write_images


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Eight images of two classes, for `small_config`."""
    return write_images(tmp_path_factory.mktemp("images") / "train")
