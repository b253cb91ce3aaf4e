"""On which line an element of an XML file stands; worked out only once something is wrong with it."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element
from xml.parsers import expat

from jaxdet.paths import to_path


def element_lines(path: str | Path, tree: Element) -> dict[Element, int]:
    """The line, from 1, on which each element of a file begins; ``tree`` is what it parses to."""
    lines: list[int] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda tag, attributes: lines.append(parser.CurrentLineNumber)
    parser.Parse(to_path(path).read_bytes(), True)
    return dict(zip(tree.iter(), lines, strict=True))  # both in the order of the file
