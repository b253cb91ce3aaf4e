"""The README as the description on a package index, where links into the repository lead nowhere.

With the environment variable ``JAXDET_REPOSITORY``, the address of a repository laid out as on GitHub, they become
absolute. Without it, links become plain text and images are left out.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


def description(text: str, repository: str | None) -> str:
    """Markdown without relative links."""

    def replaced(found: re.Match[str]) -> str:
        image, words, path = found.groups()
        if repository:
            kind = "raw" if image else "blob"
            return f"{image}[{words}]({repository.rstrip('/')}/{kind}/main/{path})"
        return "" if image else words

    return _LINK.sub(replaced, text)


class ReadmeHook(MetadataHookInterface):
    """Makes the description of the package's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = description(text, os.environ.get("JAXDET_REPOSITORY"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
