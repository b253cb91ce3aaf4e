"""Checks for optional packages before work begins. The error has the command that installs a missing package."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable

# For each URL scheme: the package that opens such URLs, and the command that installs it.
_BUCKETS = {
    "gs": ("gcsfs", "pip install 'jaxdet[gcs]'"),
    "s3": ("s3fs", "pip install s3fs"),
}
_KNOWN = " or ".join(f"{scheme}://" for scheme in _BUCKETS)
_SCHEME = re.compile(r"\b([a-z][a-z0-9+.-]*)://")


def require(module: str, extra: str, what: str) -> None:
    """Raises ValueError if a module is not installed.

    Args:
        extra: the extra of jaxdet that installs it; what: the feature that needs it. Both for the message.
    """
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"{what} needs {module}, which is not installed: pip install 'jaxdet[{extra}]'")


def require_buckets(texts: Iterable[str]) -> None:
    """Raises ValueError if a text has a URL that no installed package opens."""
    for scheme in {found for text in texts for found in _SCHEME.findall(text)}:
        if scheme not in _BUCKETS:
            raise ValueError(f"{scheme}:// URLs are not supported: give a path, or a URL with {_KNOWN}")
        if importlib.util.find_spec("tensorflow") is not None:  # etils then uses TensorFlow
            continue
        from fsspec import get_filesystem_class

        module, install = _BUCKETS[scheme]
        try:
            get_filesystem_class(scheme)
        except ImportError:
            raise ValueError(f"{scheme}:// URLs need {module}, which is not installed: {install}") from None
