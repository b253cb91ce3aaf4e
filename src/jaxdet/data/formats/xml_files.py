"""Parsing XML annotation files with any encoding and namespaces, and finding the lines of elements."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.parsers import expat

from jaxdet.paths import PathLike, to_path

# The errors of parsing; the last two for an unknown or wrong encoding.
NOT_XML = (OSError, ElementTree.ParseError, ValueError, LookupError)

_DECLARED = re.compile(rb"""(?:\xef\xbb\xbf)?<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)["']""")
_EXPATS_OWN = frozenset({"utf-8", "utf-16", "iso-8859-1", "us-ascii"})
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030"}  # files that declare the older encodings use characters of the newest


def parse_xml(path: PathLike) -> Element:
    """The root element of a file, with tags without namespaces.

    Raises:
        FileNotFoundError: no such file.
        NOT_XML: the file cannot be read, or is not XML in its declared encoding.
    """
    tree = ElementTree.fromstring(_content(path))
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
    return tree


def error_line(error: BaseException) -> int | None:
    """The line of an error of `parse_xml`, if known."""
    return error.position[0] if isinstance(error, ElementTree.ParseError) else None


def element_lines(path: PathLike, tree: Element) -> dict[Element, int]:
    """The line, from 1, on which each element of a file begins; ``tree``: the parsed file."""
    lines: list[int] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda tag, attributes: lines.append(parser.CurrentLineNumber)
    parser.Parse(_content(path), True)
    return dict(zip(tree.iter(), lines, strict=True))  # both in the order of the file


def _content(path: PathLike) -> bytes | str:
    """The content of a file for expat; decoded text if expat does not support the declared encoding."""
    raw = to_path(path).read_bytes()
    declared = _DECLARED.match(raw)
    encoding = declared[1].decode("latin-1").lower() if declared else "utf-8"
    if encoding in _EXPATS_OWN:
        return raw
    return raw.decode(_WIDER.get(encoding, encoding))  # for text, expat ignores the declaration
