"""Files that promise 10^12 numbers, or unfold to them, are refused without the memory or the time for these."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from robustness.attempt import Trial, bounded_memory
from robustness.formats import FORMATS

HUGE = 10**12
FORM = {form.name: form for form in FORMATS}


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """What puts something in the place of a part of the valid file."""

    def change(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new)

    return change


def json_set(*keys: Any, to: Any = HUGE) -> Callable[[bytes], bytes]:
    """What sets a value of the valid JSON file."""

    def change(content: bytes) -> bytes:
        root = json.loads(content)
        holder = root
        for key in keys[:-1]:
            holder = holder[key]
        holder[keys[-1]] = to
        return json.dumps(root).encode()

    return change


def whole(content: bytes) -> Callable[[bytes], bytes]:
    """What puts something in the place of the whole valid file."""
    return lambda _: content


def laughs(last: str, item: str) -> str:
    """YAML whose aliases stand for 10^12 values, by a last line."""
    lines = ["a0: &a0 [x, y]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 13)]
    return "\n".join([*lines, last.format(item)]) + "\n"


MERGES = "\n".join(
    ["a0: &a0 {x: 1, y: 2}", *(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 13))]
)
XML_LAUGHS = (
    "<!DOCTYPE a [<!ENTITY e0 'x'>"
    + "".join(f"<!ENTITY e{i} '{f'&e{i - 1};' * 10}'>" for i in range(1, 13))
    + "]><annotation>&e12;</annotation>"
).encode()
YOLO = "train: images/train\n"


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of this size without pixels."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, data in ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")):
        parts += [struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(kind + data))]
    return b"".join(parts)


def _head(content: bytes) -> bytes:
    """Length and type of the pixels' chunk of a PNG."""
    place = content.index(b"IDAT")
    return content[place - 4 : place + 4]


def jpeg_of(height: int, width: int) -> Callable[[bytes], bytes]:
    """The valid JPEG with another size in its frame header."""

    def change(content: bytes) -> bytes:
        for marker in (b"\xff\xc0", b"\xff\xc2"):
            place = content.find(marker)
            if place >= 0:
                return content[: place + 5] + struct.pack(">HH", height, width) + content[place + 9 :]
        raise AssertionError("no frame header")

    return change


def deflated(size: int) -> bytes:
    """So many zeros, compressed: a thousandth of them."""
    block = bytes(1 << 24)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    part = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    return part * (size // len(block)) + zlib.compressobj(9, zlib.DEFLATED, -15).flush()


def bomb(name: str, size: int) -> Callable[[bytes], bytes]:
    """The valid archive, in which one entry unfolds to so many zeros."""

    def change(content: bytes) -> bytes:
        data = deflated(size)
        entries, directory = [], []
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for info in archive.infolist():
                raw, method, length = archive.read(info), 0, info.file_size
                checksum = info.CRC
                if info.filename == name:
                    raw, method, length = data, 8, min(size, 2**32 - 2)
                place, text = sum(map(len, entries)), info.filename.encode()
                fields = (20, 0, method, 0, 33, checksum, len(raw), length, len(text), 0)
                entries.append(struct.pack("<4s5H3I2H", b"PK\3\4", *fields) + text + raw)
                directory.append(struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, *fields, 0, 0, 0, 0, place) + text)
        start, central = sum(map(len, entries)), b"".join(directory)
        count = len(directory)
        end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(central), start, 0)
        return b"".join([*entries, central, end])

    return change


def data_pkl(pickle: bytes) -> Callable[[bytes], bytes]:
    """An archive with this for its data.pkl."""
    return lambda _: FORM["torch zip's data.pkl"].wrap(pickle)


def tensor_pickle(shape: bytes, strides: bytes, numel: bytes = b"K\x6c") -> bytes:
    """A state dict of one tensor, by opcodes."""
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpu" + numel + b"tQ"
    return b"\x80\2}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + shape + strides + b"\x89}tRs."


def safetensors(shape: list[int], offsets: list[int]) -> Callable[[bytes], bytes]:
    """A file of one tensor."""
    header = {"a": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}
    return lambda _: FORM["safetensors header"].wrap(json.dumps(header).encode())


BIG = b"\x8a\x06" + HUGE.to_bytes(6, "little")
TRILLION8 = struct.pack("<Q", HUGE)
LEGACY_HEAD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}X\r\0\0\0little_endian\x88s."

CASES: tuple[tuple[str, str, Callable[[bytes], bytes]], ...] = (
    ("COCO", "size", json_set("images", 0, "width")),
    ("COCO", "both sides", json_set("images", 0, "height", to=2**40)),
    ("COCO", "id", json_set("annotations", 0, "id", to=10**400)),
    ("COCO", "box", json_set("annotations", 0, "bbox", to=[0, 0, 10**400, 1])),
    ("COCO", "nesting", whole(b"[" * 10**6)),
    ("VOC xml", "size", replaced(b"<width>24", b"<width>1000000000000")),
    ("VOC xml", "entities", whole(XML_LAUGHS)),
    ("SCUT-HEAD xml", "entities", whole(XML_LAUGHS)),
    ("YOLO labels", "box", whole(b"0 1e300 1e300 1e300 1e300\n")),
    ("YOLO yaml", "nc", whole(f"{YOLO}nc: {HUGE}\n".encode())),
    ("YOLO yaml", "aliases", whole(laughs("{}\nnames: *a12", YOLO).encode())),
    ("YOLO yaml", "aliases in a path", whole(laughs("train: {}\nnames: [a]", "*a12").encode())),
    ("YOLO yaml", "merges", whole(f"{MERGES}\n{YOLO}names: [a, b]\n".encode())),
    ("YOLO yaml", "device", whole(b"train: /dev/zero\nnames: [a, b]\n")),
    ("YOLO yaml", "cycle", whole(f"{YOLO}names: &a [*a]\n".encode())),
    ("YOLO yaml", "nesting", whole(b"names: " + b"[" * 600)),
    ("HeadHunter YAML", "aliases", replaced(b"mean_std:", laughs("mean_std: {}\n#", "*a12").encode())),
    ("HeadHunter YAML", "aliases in a key", whole(laughs("? {}\n: 1", "*a12").encode())),
    ("HeadHunter YAML", "merges", whole(f"{MERGES}\n".encode())),
    ("HeadHunter YAML", "nesting", whole(b"DATASET: " + b"[" * 600)),
    ("head list", "flag", whole(b"# heads/1.png\n1 2 11 12 1" + b"0" * 300 + b"\n")),
    ("CroHD seqinfo.ini", "seqLength", replaced(b"seqLength=2", b"seqLength=1000000000000")),
    ("CroHD gt.txt", "frame", whole(b"1e300,1,2,3,8,8,1,1,1\n")),
    ("CrowdHuman entry", "box", replaced(b"[1, 2, 8, 8]", b"[1, 2, 8, 1" + b"0" * 400 + b"]")),
    ("MOT", "frame", whole(b"1e300,-1,2,3,8,8,0.5\n")),
    ("packed index", "shards", json_set("shards", to=[HUGE])),
    ("packed index", "size", json_set("pictures", 0, "size", to=[HUGE, HUGE])),
    ("packed index", "label", json_set("pictures", 0, "labels", 0)),
    ("model.json", "blocks", json_set("config", "backbone", "blocks", to=[HUGE] * 4)),
    ("model.json", "conv_depth", json_set("config", "rpn", "conv_depth")),
    ("run.json", "nesting", whole(b'{"config":' * 10**5)),
    ("COCO results", "box", json_set(0, "bbox", to=[0, 0, 10**400, 1])),
    ("PNG", "2^31", whole(png(2**31 - 1, 2**31 - 1))),
    ("PNG", "just allowed", whole(png(13_000, 13_000))),
    ("JPEG", "just allowed", jpeg_of(13_000, 13_000)),
    ("JPEG, progressive", "just allowed", jpeg_of(13_000, 13_000)),
    ("PNG", "chunk", lambda content: content.replace(_head(content), b"\xff" * 4 + b"IDAT")),
    ("PNG", "text", whole(png(8, 8, (b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26)))))),
    ("PNG", "profile", whole(png(8, 8, (b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 26)))))),
    ("JPEG", "65500", jpeg_of(65_500, 65_500)),
    ("PPM", "side", whole(b"P6 1000000 1000000 255\n" + bytes(100))),
    ("BMP", "side", lambda content: content[:18] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + content[26:]),
    ("torch zip", "unfolding pickle", bomb("archive/data.pkl", 3 << 30)),
    ("torch zip", "unfolding storage", bomb("archive/data/0", 3 << 30)),
    ("torch zip", "unfolding byte order", bomb("archive/byteorder", 3 << 30)),
    ("torch zip", "shape", data_pkl(tensor_pickle(BIG + b"\x85", b"K\1\x85"))),
    ("torch zip", "shape of stride 0", data_pkl(tensor_pickle(BIG + b"\x85", b"K\0\x85"))),
    ("torch zip", "empty shape", data_pkl(tensor_pickle(BIG + b"K\0\x86", b"K\1K\1\x86"))),
    ("torch zip", "storage", data_pkl(tensor_pickle(b"K\1\x85", b"K\1\x85", BIG))),
    ("torch zip", "bytes", data_pkl(b"\x80\5\x8e" + TRILLION8 + b"abc.")),
    ("torch zip", "byte array", data_pkl(b"\x80\5\x96" + TRILLION8 + b"abc.")),
    ("torch zip", "text", data_pkl(b"\x80\5\x8d" + TRILLION8 + b"abc.")),
    ("torch zip", "frame", data_pkl(b"\x80\5\x95" + TRILLION8 + b"N.")),
    ("torch zip", "memo", data_pkl(b"\x80\2}r\xff\xff\xff\x7f.")),
    ("torch zip", "integer", data_pkl(b"\x80\2\x8b\xff\xff\xff\x7f1.")),
    ("torch legacy", "bytes", whole(b"\x80\5\x8e" + TRILLION8 + b"abc.")),
    ("torch legacy", "2 GB of bytes", whole(b"\x80\3B\xff\xff\xff\x7fabc.")),
    ("torch legacy", "bytes of the value", whole(LEGACY_HEAD + b"\x80\5\x96" + TRILLION8 + b"abc.")),
    ("torch legacy", "storage", replaced(struct.pack("<q", 108), struct.pack("<q", HUGE))),
    ("safetensors", "header", lambda content: TRILLION8 + content[8:]),
    ("safetensors", "shape", safetensors([HUGE], [0, 464])),
    ("safetensors", "empty shape", safetensors([0, 2**63 - 1], [0, 0])),
    ("safetensors", "offsets", safetensors([1], [0, 4 * HUGE])),
    ("Darknet", "images seen", lambda content: content[:12] + b"\xff" * 8 + content[20:]),
)  # fmt: skip


@pytest.mark.parametrize(
    "name, change",
    [pytest.param(name, change, id=f"{name}: {what}") for name, what, change in CASES],
)
def test_promises_of_a_header(name, change, tmp_path):
    trial = Trial(FORM[name], tmp_path)
    valid = trial.content([])
    content = change(valid)
    assert content != valid
    with bounded_memory():
        trial.run_content(content)


def test_memory_is_bounded():
    with pytest.raises(MemoryError), bounded_memory(1 << 28):
        bytes(1 << 29)
