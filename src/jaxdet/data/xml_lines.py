"""XML files with the line of every element."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat


def parse_xml(path: str | Path) -> tuple[Element, dict[Element, int]]:
    """The root of an XML file, and the line (from 1) on which each of its elements begins.

    Raises:
        OSError: the file cannot be read.
        xml.parsers.expat.ExpatError: it is not XML; the message says where.
    """
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    lines: dict[Element, int] = {}

    def start(tag: str, attributes: dict[str, str]) -> None:
        lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    with open(path, "rb") as file:
        parser.ParseFile(file)
    return builder.close(), lines
