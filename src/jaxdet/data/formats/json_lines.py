"""Finding the lines of entries in JSON files, for error messages."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

from jaxdet.paths import PathLike, to_path

_BLANK = re.compile(r"[ \t\n\r]*")


def entry_lines(path: PathLike, wanted: Mapping[str, Collection[int]]) -> dict[tuple[str, int], int]:
    """The lines, from 1, on which entries of the lists in a file's top-level object begin.

    Args:
        path: a valid JSON file.
        wanted: positions from 0 of the entries by the key of the list: ``{"images": {3, 17}}``.

    Returns:
        ``{("images", 3): 25, ...}``, without entries that do not exist.
    """
    raw = to_path(path).read_bytes()
    text = raw.decode(json.detect_encoding(raw), "surrogatepass")
    del raw  # files may have half a gigabyte
    starts: dict[tuple[str, int], int] = {}
    decode = json.JSONDecoder().raw_decode
    position = _next(text, _next(text, 0) + 1)  # past the brace
    while text[position] != "}":
        key, position = decode(text, position)
        position = _next(text, _next(text, position) + 1)  # past the colon
        if key in wanted and text[position] == "[":
            # The last one of duplicate keys is used.
            starts = {place: start for place, start in starts.items() if place[0] != key}
            found, position = _list_starts(text, position, wanted[key])
            starts.update({(key, number): start for number, start in found.items()})
        else:
            _, position = decode(text, position)
        position = _past_comma(text, position)
    return _line_numbers(text, starts)


def _list_starts(text: str, position: int, wanted: Collection[int]) -> tuple[dict[int, int], int]:
    """The positions where the wanted entries of the list at ``position`` begin, and where the list ends."""
    decode = json.JSONDecoder().raw_decode
    starts = {}
    number = 0
    position = _next(text, position + 1)
    while text[position] != "]":
        if number in wanted:
            starts[number] = position
        _, position = decode(text, position)
        position = _past_comma(text, position)
        number += 1
    return starts, position + 1


def _next(text: str, position: int) -> int:
    """The next position that is not blank."""
    match = _BLANK.match(text, position)
    assert match is not None  # it also matches an empty string
    return match.end()


def _past_comma(text: str, position: int) -> int:
    position = _next(text, position)
    return _next(text, position + 1) if text[position] == "," else position


def _line_numbers(text: str, starts: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    lines = {}
    line, counted = 1, 0
    for place, start in sorted(starts.items(), key=lambda item: item[1]):
        line += text.count("\n", counted, start)
        counted = start
        lines[place] = line
    return lines
