"""On which line an entry of a JSON file stands; worked out only once something is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping

from jaxdet.paths import PathLike, to_path

_BLANK = re.compile(r"[ \t\n\r]*")


def entry_lines(path: PathLike, wanted: Mapping[str, Collection[int]]) -> dict[tuple[str, int], int]:
    """The lines, from 1, on which entries of the lists in a file's top-level object begin.

    Args:
        path: a file that `json.loads` reads.
        wanted: positions from 0 of the entries, by the list's key: ``{"images": {3, 17}}``.

    Returns:
        ``{("images", 3): 25, ...}``; what is not there is left out.
    """
    raw = to_path(path).read_bytes()
    text = raw.decode(json.detect_encoding(raw), "surrogatepass")
    del raw  # these files reach half a gigabyte
    starts: dict[tuple[str, int], int] = {}
    decode = json.JSONDecoder().raw_decode
    position = _next(text, _next(text, 0) + 1)  # past the brace
    while text[position] != "}":
        key, position = decode(text, position)
        position = _next(text, _next(text, position) + 1)  # past the colon
        if key in wanted and text[position] == "[":
            # Of a key that occurs twice the last one counts.
            starts = {place: start for place, start in starts.items() if place[0] != key}
            found, position = _list_starts(text, position, wanted[key])
            starts.update({(key, number): start for number, start in found.items()})
        else:
            _, position = decode(text, position)
        position = _past_comma(text, position)
    return _line_numbers(text, starts)


def _list_starts(text: str, position: int, wanted: Collection[int]) -> tuple[dict[int, int], int]:
    """Where the wanted entries of the list at ``position`` begin, and where the list ends."""
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
    """The first position from here on that is not blank."""
    match = _BLANK.match(text, position)
    assert match is not None  # it matches nothing, too
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
