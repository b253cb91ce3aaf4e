"""A bucket in memory: what ``gs://`` URLs mean to etils where Google's own package is not installed."""

from __future__ import annotations

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FakeBucket(MemoryFileSystem):
    """An object store: nothing can be appended to, and an object appears when it is closed."""

    protocol = ("gs", "gcs")
    store: dict = {}  # noqa: RUF012 - fsspec's own way to share it
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol("memory://" + path.removeprefix("gs://").removeprefix("gcs://").lstrip("/"))

    def _open(self, path, mode="rb", **options):
        assert "a" not in mode and "+" not in mode, f"a bucket's objects cannot be appended to: {path}"
        return super()._open(path, mode, **options)


def install():
    """From here on this process finds ``gs://`` in memory."""
    fsspec.register_implementation("gcs", FakeBucket, clobber=True)
    fsspec.register_implementation("gs", FakeBucket, clobber=True)
    FakeBucket.store.clear()
    FakeBucket.pseudo_dirs[:] = [""]
