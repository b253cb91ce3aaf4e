"""A bucket in memory, which etils uses for ``gs://`` URLs if Google's package is not installed."""

from __future__ import annotations

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FakeBucket(MemoryFileSystem):
    """An object store: objects cannot be appended to, and appear when they are closed."""

    protocol = ("gs", "gcs")
    store: dict = {}  # noqa: RUF012 - shared in this way by fsspec
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol("memory://" + path.removeprefix("gs://").removeprefix("gcs://").lstrip("/"))

    def _open(self, path, mode="rb", **options):
        assert "a" not in mode and "+" not in mode, f"a bucket's objects cannot be appended to: {path}"
        return super()._open(path, mode, **options)


def install():
    """Makes ``gs://`` URLs refer to an empty bucket in memory, in this process."""
    fsspec.register_implementation("gcs", FakeBucket, clobber=True)
    fsspec.register_implementation("gs", FakeBucket, clobber=True)
    FakeBucket.store.clear()
    FakeBucket.pseudo_dirs[:] = [""]
