"""Optional packages: one that is missing is reported before work begins, with what installs it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable

# By the scheme of a URL: the package that opens it, and what installs that.
_BUCKETS = {
    "gs": ("gcsfs", "pip install 'jaxdet[gcs]'"),
    "s3": ("s3fs", "pip install s3fs"),
}
_KNOWN = ", ".join(f"{scheme}://" for scheme in _BUCKETS)
_SCHEME = re.compile(r"\b([a-z][a-z0-9+.-]*)://")


def require(module: str, extra: str, what: str) -> None:
    """Raises ValueError, which names the extra to install, where a module is not installed."""
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"{what} needs {module}, which is not installed: pip install 'jaxdet[{extra}]'")


def require_buckets(texts: Iterable[str]) -> None:
    """Raises ValueError where one of these texts has a URL that nothing installed opens."""
    for scheme in {found for text in texts for found in _SCHEME.findall(text)}:
        if scheme not in _BUCKETS:
            raise ValueError(f"{scheme}:// is no place that jaxdet reads from: give a path, or a URL of {_KNOWN}")
        if importlib.util.find_spec("tensorflow") is not None:  # which etils prefers
            continue
        from fsspec import get_filesystem_class

        module, install = _BUCKETS[scheme]
        try:
            get_filesystem_class(scheme)
        except ImportError:
            raise ValueError(f"{scheme}:// URLs need {module}, which is not installed: {install}") from None
