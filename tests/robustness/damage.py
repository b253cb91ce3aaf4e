"""Ways to damage a file. Each is a pure function of the content and two whole numbers: where, and with what.

A mutation is three numbers (which way, where, what), each taken modulo the choices that there are. So hypothesis can
draw and shrink a list of mutations, and a list that is printed replays a failure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

Mutation = tuple[int, int, int]
Way = Callable[[bytes, int, int], bytes]

LIMIT = 2**32  # the numbers of a mutation lie below it
MOST = 3  # mutations a file

_NESTED: Any = []
for _ in range(200):
    _NESTED = [_NESTED]
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 1.0, 0.5, -0.5, 1e-320, 1e39, 1e308, -1e308, float("nan"), float("inf"),
    float("-inf"), 2**31, -(2**31) - 1, 2**53 + 1, 2**63, 10**12, 10**30, 10**400, "", " ", "0", "1", "1.5", "nan",
    "false", "null", "abc", "é", "\ud800", "a\0b", "a\nb", "../x", "/x", ".", "x" * 5000, "%s", "{0}", [], [0], [[]],
    [None], ["a"], [1, 2, 3, 4], [0, 0, 1e308, 1e308], {}, {"a": 1}, {"type": "ResNetConfig"}, _NESTED,
)  # fmt: skip
TEXTS: tuple[str, ...] = (
    "", " ", "0", "1", "-1", "2", "0.5", "1e-320", "1e39", "1e308", "-1e308", "1e400", "nan", "inf", "-inf", "1_0",
    "0x10", "010", "\uff11\uff12", "2147483648", "9223372036854775808", "1000000000000", "1" + "0" * 30, "9" * 5000,
    "true", "null", "~", "None", "abc", "é", "\ufeff", "\u2028", "\x0c", "\x1c", "\x85", "\0", "x" * 5000, "..", "../x",
    "/x", ".", "#", "%", "%(x)s", ":", ",", "-", "[", "]", "{", "}", "'", '"', "&", "&a", "*a", "<", "<<", "!!set",
    "!!binary", "!!python/object/apply:os.getcwd []", "!", "|", ">", "?", "@", "`", "\t", "2020-01-01", "1:30", ".nan",
    ".inf", "[1, 2]", "{a: 1}", "[]", "{}", "=", ";", "\r",
)  # fmt: skip
_RAW_JSON = (
    "1e400", "-1e400", "01", "0x10", "'a'", "undefined", "NaN", "-Infinity", "9" * 5000, "[" * 100_000,
    "[" * 900 + "]" * 900,
    '"\\ud800"', '"\\u0000"', "1,", "", "// 1\n1", '"\t"', "1 1", '{"a": 1, "a": 2}', "{,}", "]", "}",
)  # fmt: skip
_RAW_XML = (
    "&", "&amp;", "&#0;", "&#xD800;", "&undefined;", "<![CDATA[1]]>", "<!-- 1 -->", "<?x y?>", "<a>", "</a>", "<",
    "]]>", "\0", "1&#10;2",
)  # fmt: skip
_ENCODINGS = (
    "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "gbk", "shift_jis",
    "cp037", "utf-7",
)  # fmt: skip
_DECLARED = (*_ENCODINGS, "GB2312", "rot13", "hex", "idna", "nonsense", "")
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 10**12, 2**62, 2**63, 2**64 - 1)


def damage(content: bytes, syntax: str, mutations: Sequence[Mutation]) -> bytes:
    """The content after some mutations, of which those of its syntax ("json", "xml", "text" or "bytes") and those of
    bytes are drawn equally often."""
    for which, where, what in mutations:
        ways = _BYTES if which % 2 or syntax == "bytes" else _SYNTAXES[syntax]
        content = ways[which // 2 % len(ways)](content, where, what)
    return content


# ---- bytes


def _truncate(content: bytes, where: int, what: int) -> bytes:
    return content[: where % (len(content) + 1)]


def _flip_bit(content: bytes, where: int, what: int) -> bytes:
    return _put(content, where, bytes([content[where % len(content)] ^ 1 << what % 8])) if content else content


def _set_byte(content: bytes, where: int, what: int) -> bytes:
    return _put(content, where, bytes([what % 256]))


def _set_number(content: bytes, where: int, what: int) -> bytes:
    """An integer of two, four or eight bytes in either order."""
    what, size = divmod(what, 3)
    what, order = divmod(what, 2)
    width = 2 << size
    number = _NUMBERS[what % len(_NUMBERS)] % 256**width
    return _put(content, where, number.to_bytes(width, ("little", "big")[order]))


def _delete_bytes(content: bytes, where: int, what: int) -> bytes:
    start = where % (len(content) + 1)
    return content[:start] + content[start + 1 + what % 64 :]


def _repeat_bytes(content: bytes, where: int, what: int) -> bytes:
    start = where % (len(content) + 1)
    return content[: start + what % 64] + content[start:]


def _move_bytes(content: bytes, where: int, what: int) -> bytes:
    start, width = where % (len(content) + 1), 1 + where % 61
    part, rest = content[start : start + width], content[:start] + content[start + width :]
    place = what % (len(rest) + 1)
    return rest[:place] + part + rest[place:]


def _insert_text(content: bytes, where: int, what: int) -> bytes:
    start = where % (len(content) + 1)
    return content[:start] + TEXTS[what % len(TEXTS)].encode() + content[start:]


def _zero_bytes(content: bytes, where: int, what: int) -> bytes:
    return _put(content, where, bytes(1 + what % 512))


def _append(content: bytes, where: int, what: int) -> bytes:
    return content + (bytes(where % 1000), content[: where % 1000], b"\xff", b"\n", b"\0")[what % 5]


def _reencode(content: bytes, where: int, what: int) -> bytes:
    try:
        text = content.decode(_ENCODINGS[where % 2 * 6])  # as UTF-8 or as latin-1, which takes anything
        return text.encode(_ENCODINGS[what % len(_ENCODINGS)])
    except UnicodeError:
        return content


def _other_newlines(content: bytes, where: int, what: int) -> bytes:
    return content.replace(b"\n", (b"\r\n", b"\r", b"\n\n", b" ", b"", b"\x85", b"\x0b")[what % 7])


def _put(content: bytes, where: int, part: bytes) -> bytes:
    """The content with some bytes overwritten; it stays as long."""
    start = where % max(1, len(content))
    return (content[:start] + part + content[start + len(part) :])[: len(content)]


_BYTES: tuple[Way, ...] = (
    _truncate, _flip_bit, _set_byte, _set_number, _delete_bytes, _repeat_bytes, _move_bytes, _insert_text, _zero_bytes,
    _append, _reencode, _other_newlines,
)  # fmt: skip


# ---- JSON


def _json_way(change: Callable[[Any, Any, int, list[Any]], str | None]) -> Way:
    """A way that changes one place of a tree; what it returns is put there as it stands."""

    def run(content: bytes, where: int, what: int) -> bytes:
        try:
            root = {"": json.loads(content)}
            places = list(_places(root))
            holder, key = places[where % len(places)]
            raw = change(holder, key, what, places)
            text = json.dumps(root[""]) if "" in root else ""
        except (ValueError, RecursionError, OverflowError):  # damaged before
            return content
        return text.encode() if raw is None else text.replace(json.dumps("\0raw"), raw).encode()

    return run


def _places(root: dict[str, Any]) -> Any:
    waiting: list[Any] = [root]
    while waiting:
        holder = waiting.pop()
        for key in holder if isinstance(holder, dict) else range(len(holder)):
            yield holder, key
            if isinstance(holder[key], (dict, list)):
                waiting.append(holder[key])


@_json_way
def _json_delete(holder: Any, key: Any, what: int, places: list[Any]) -> None:
    del holder[key]


@_json_way
def _json_duplicate(holder: Any, key: Any, what: int, places: list[Any]) -> str | None:
    if isinstance(holder, list):
        holder.insert(what % (len(holder) + 1), holder[key])
        return None
    first, second = (holder[key], VALUES[what % len(VALUES)])[:: 1 if what % 2 else -1]
    holder[key] = "\0raw"
    return f"{json.dumps(first)}, {json.dumps(key)}: {json.dumps(second)}"


@_json_way
def _json_retype(holder: Any, key: Any, what: int, places: list[Any]) -> None:
    holder[key] = VALUES[what % len(VALUES)]


@_json_way
def _json_raw(holder: Any, key: Any, what: int, places: list[Any]) -> str:
    holder[key] = "\0raw"
    return _RAW_JSON[what % len(_RAW_JSON)]


@_json_way
def _json_swap(holder: Any, key: Any, what: int, places: list[Any]) -> None:
    other, place = places[what % len(places)]
    holder[key], other[place] = other[place], holder[key]
    json.dumps(holder)  # raises ValueError where one lay within the other


@_json_way
def _json_rename(holder: Any, key: Any, what: int, places: list[Any]) -> None:
    if isinstance(holder, dict):
        holder[("", key + " ", key.upper(), "id", "type", "x", "\ud800")[what % 7]] = holder.pop(key)


@_json_way
def _json_wrap(holder: Any, key: Any, what: int, places: list[Any]) -> None:
    value = holder[key]
    choices = ([value], {"a": value}, json.dumps(value), str(value), [value, value], [], {})
    holder[key] = choices[what % len(choices)]


@_json_way
def _json_negate(holder: Any, key: Any, what: int, places: list[Any]) -> None:
    if type(holder[key]) in (int, float):
        value = holder[key]
        choices = (-value, value + 1, value - 1, value * 1e6, value * 10**20, float(value), value + 0.5, str(value))
        holder[key] = choices[what % len(choices)]


# ---- XML


def _xml_way(change: Callable[[Any, list[Any], int], None]) -> Way:
    """A way that changes one element, given all of them."""

    def run(content: bytes, where: int, what: int) -> bytes:
        try:
            items = list(ElementTree.fromstring(content).iter())
            change(items[where % len(items)], items, what)
            text = ElementTree.tostring(items[0])
        except (ElementTree.ParseError, ValueError, LookupError, TypeError, RecursionError):  # damaged before
            return content
        return re.sub(rb"raw(\d+)raw", lambda found: _RAW_XML[int(found[1]) % len(_RAW_XML)].encode(), text)

    return run


def _parent(item: Any, items: list[Any]) -> Any:
    return next((other for other in items if item in list(other)), None)


@_xml_way
def _xml_delete(item: Any, items: list[Any], what: int) -> None:
    parent = _parent(item, items)
    if parent is not None:
        parent.remove(item)


@_xml_way
def _xml_duplicate(item: Any, items: list[Any], what: int) -> None:
    parent = _parent(item, items)
    if parent is not None:
        parent.insert(what % (len(parent) + 1), item)


@_xml_way
def _xml_retype(item: Any, items: list[Any], what: int) -> None:
    item.text = TEXTS[what % len(TEXTS)]


@_xml_way
def _xml_raw(item: Any, items: list[Any], what: int) -> None:
    item.text = f"raw{what % len(_RAW_XML)}raw"


@_xml_way
def _xml_rename(item: Any, items: list[Any], what: int) -> None:
    item.tag = ("object", "name", "x", item.tag.upper(), "{urn:x}" + item.tag, "bndbox", "a" * 5000)[what % 7]


@_xml_way
def _xml_move(item: Any, items: list[Any], what: int) -> None:
    parent, other = _parent(item, items), items[what % len(items)]
    if parent is not None and other not in list(item.iter()):
        parent.remove(item)
        other.append(item)


def _xml_encoding(content: bytes, where: int, what: int) -> bytes:
    """Declared as one thing, and encoded as another, or as the same."""
    text = re.sub(r"^<\?xml[^>]*>", "", content.decode("utf-8", "replace"))
    declared = _DECLARED[where % len(_DECLARED)]
    try:
        written = declared if what % 2 else _ENCODINGS[what // 2 % len(_ENCODINGS)]
        return f'<?xml version="1.0" encoding="{declared}"?>{text}é'.replace("é", "", what % 3 > 0).encode(written)
    except (LookupError, UnicodeError):
        return content


def _xml_doctype(content: bytes, where: int, what: int) -> bytes:
    """Entities, of which one is defined by the next: with ten copies each, 10 GB."""
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i + 1};" * (1, 2, 10)[what % 3]}">' for i in range(10))
    kinds = (f'{entities}<!ENTITY e10 "1">', '<!ENTITY e0 SYSTEM "file:///etc/hostname">', '<!ENTITY e0 "&e0;">')
    doctype = f"<!DOCTYPE annotation [{kinds[where % 3]}]>".encode()
    return doctype + re.sub(rb">[^<]*</", b">&e0;</", content, count=1 + what % 5)


# ---- text by lines and words


def _line_way(change: Callable[[list[str], int, int], None]) -> Way:
    def run(content: bytes, where: int, what: int) -> bytes:
        lines = content.decode("utf-8", "surrogateescape").splitlines(keepends=True) or [""]
        change(lines, where % len(lines), what)
        return "".join(lines).encode("utf-8", "surrogateescape")

    return run


def _word_way(change: Callable[[str, int], str]) -> Way:
    def run(content: bytes, where: int, what: int) -> bytes:
        text = content.decode("utf-8", "surrogateescape")
        words = list(re.finditer(r"[^\s,:=\[\]{}'\"]+", text))
        if not words:
            return content
        start, end = words[where % len(words)].span()
        return (text[:start] + change(text[start:end], what) + text[end:]).encode("utf-8", "surrogateescape")

    return run


@_line_way
def _line_delete(lines: list[str], where: int, what: int) -> None:
    del lines[where]


@_line_way
def _line_duplicate(lines: list[str], where: int, what: int) -> None:
    lines.insert(what % (len(lines) + 1), lines[where])


@_line_way
def _line_insert(lines: list[str], where: int, what: int) -> None:
    lines.insert(where, TEXTS[what % len(TEXTS)] + "\n")


@_line_way
def _line_swap(lines: list[str], where: int, what: int) -> None:
    other = what % len(lines)
    lines[where], lines[other] = lines[other], lines[where]


@_line_way
def _line_indent(lines: list[str], where: int, what: int) -> None:
    lines[where] = (f"  {lines[where]}", f"\t{lines[where]}", lines[where].lstrip(), lines[where].rstrip())[what % 4]


@_line_way
def _line_separate(lines: list[str], where: int, what: int) -> None:
    """Another separator, or twice the same."""
    line = lines[where].rstrip("\n")
    lines[where] = re.sub(r"[ ,:=]", (",", " ", ";", "\t", ", ", ": ", "=", "")[what % 8], line) + "\n"


_word_retype = _word_way(lambda word, what: TEXTS[what % len(TEXTS)])
_word_delete = _word_way(lambda word, what: "")
_word_repeat = _word_way(lambda word, what: (f"{word} {word}", f"{word},{word}", word * 2)[what % 3])
_word_negate = _word_way(lambda word, what: f"-{word}")
_word_prefix = _word_way(lambda word, what: TEXTS[what % len(TEXTS)] + word)


_SYNTAXES: dict[str, tuple[Way, ...]] = {
    "json": (
        _json_delete, _json_duplicate, _json_retype, _json_retype, _json_raw, _json_swap, _json_rename, _json_wrap,
        _json_negate,
    ),
    "xml": (
        _xml_delete, _xml_duplicate, _xml_retype, _xml_retype, _xml_raw, _xml_rename, _xml_move, _xml_encoding,
        _xml_doctype,
    ),
    "text": (
        _line_delete, _line_duplicate, _line_insert, _line_swap, _line_indent, _line_separate, _word_retype,
        _word_retype, _word_delete, _word_repeat, _word_negate, _word_prefix,
    ),
}  # fmt: skip
