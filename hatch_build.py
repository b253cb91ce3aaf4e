"""Build hook: the README as the description on a package index, where relative links do not work.

If the environment variable ``JAXDET_REPOSITORY`` has the address of a repository with GitHub's layout, relative links
become absolute. Otherwise links become plain text, and images are left out.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)")


def description(text: str, repository: str | None) -> str:
    """The Markdown ``text`` without relative links; ``repository``: base address of the links, None: plain text."""

    def replace_link(found: re.Match[str]) -> str:
        image, words, path = found.groups()
        if repository:
            kind = "raw" if image else "blob"
            return f"{image}[{words}]({repository.rstrip('/')}/{kind}/main/{path})"
        return "" if image else words

    return _LINK.sub(replace_link, text)


class ReadmeHook(MetadataHookInterface):
    """Sets the description in the metadata of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = description(text, os.environ.get("JAXDET_REPOSITORY"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
