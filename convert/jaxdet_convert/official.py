"""The official weights of torchvision: where they are found, and what their hash tells that no state dict does."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from jaxdet.config import nearest

URL = "https://download.pytorch.org/models/"
_CHUNK = 1 << 20
_TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class OfficialWeights:
    """A file that torchvision publishes; its name ends in the beginning of its SHA-256.

    member: what torchvision calls the weights of the model.
    norm_eps: of the frozen norms that the weights were trained with.
    resize: of the shorter side in pixels, before a classifier's centre is cut out.
    """

    file: str
    member: str = "COCO_V1"
    norm_eps: float = 1e-5
    resize: int = 256

    @property
    def prefix(self) -> str:
        """The first digits of the file's SHA-256."""
        return Path(self.file).stem.rpartition("-")[2]


# By model; "_v1" and "_v2" are torchvision's IMAGENET1K_V1 and _V2, of which its default is the second.
OFFICIAL: dict[str, OfficialWeights] = {
    "resnet50": OfficialWeights("resnet50-11ad3fa6.pth", "IMAGENET1K_V2", resize=232),
    "resnet50_v1": OfficialWeights("resnet50-0676ba61.pth", "IMAGENET1K_V1"),
    "resnet50_v2": OfficialWeights("resnet50-11ad3fa6.pth", "IMAGENET1K_V2", resize=232),
    "resnet101": OfficialWeights("resnet101-cd907fc2.pth", "IMAGENET1K_V2", resize=232),
    "resnet101_v1": OfficialWeights("resnet101-63fe2227.pth", "IMAGENET1K_V1"),
    "resnet101_v2": OfficialWeights("resnet101-cd907fc2.pth", "IMAGENET1K_V2", resize=232),
    "resnet152": OfficialWeights("resnet152-f82ba261.pth", "IMAGENET1K_V2", resize=232),
    "resnet152_v1": OfficialWeights("resnet152-394f9c45.pth", "IMAGENET1K_V1"),
    "resnet152_v2": OfficialWeights("resnet152-f82ba261.pth", "IMAGENET1K_V2", resize=232),
    # torchvision sets the eps of frozen norms to 0 after loading a detector's first file, because it was trained so.
    "fasterrcnn_resnet50_fpn": OfficialWeights("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", norm_eps=0.0),
    "fasterrcnn_resnet50_fpn_v2": OfficialWeights("fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"),
    "retinanet_resnet50_fpn": OfficialWeights("retinanet_resnet50_fpn_coco-eeacb38b.pth", norm_eps=0.0),
    "retinanet_resnet50_fpn_v2": OfficialWeights("retinanet_resnet50_fpn_v2_coco-5905b1c5.pth"),
}


def official_of(model: str) -> dict[str, str]:
    """A model's official weights: torchvision's name of each, and its key in `OFFICIAL`; the last is the default."""
    keys = [key for key in OFFICIAL if key in (f"{model}_v1", f"{model}_v2") and OFFICIAL[key].member != "COCO_V1"]
    keys += [model] if model in OFFICIAL and not keys else []
    return {OFFICIAL[key].member: key for key in keys}


class OfficialWeightsError(OSError):
    """The official weights of a model cannot be had: one line that says which file to put where."""


def find_official(name: str) -> Path:
    """The file of a model's official torchvision weights, downloaded where it is not there yet.

    Looks in jaxdet's cache (``$JAXDET_CACHE`` or ``~/.cache/jaxdet``) and in torch hub's (``$TORCH_HOME/hub`` or
    ``~/.cache/torch/hub``); a download goes to the first, whole and with the right hash or not at all.

    Raises:
        ValueError: no official weights of that name are known.
        OfficialWeightsError: they are nowhere here and cannot be downloaded, or a file of theirs is damaged.
    """
    if name not in OFFICIAL:
        known = ", ".join(OFFICIAL)
        raise ValueError(f"no official weights of {name!r} are known, but of: {known}{nearest(name, OFFICIAL)}")
    weights = OFFICIAL[name]
    folders = list(_folders())
    for folder in folders:
        path = folder / weights.file
        if path.is_file():
            if not sha256(path).startswith(weights.prefix):
                raise OfficialWeightsError(
                    f"{path} is damaged (its SHA-256 does not begin with {weights.prefix}): remove it and try again"
                )
            return path
    return _download(weights, folders)


def recognise_official(path: str | os.PathLike[str]) -> OfficialWeights | None:
    """Which official weights a file is, whatever its name: by the SHA-256 of its bytes."""
    digest = sha256(path)
    return next((weights for weights in OFFICIAL.values() if digest.startswith(weights.prefix)), None)


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folders() -> Iterator[Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    yield Path(os.environ.get("JAXDET_CACHE") or cache / "jaxdet").expanduser()
    yield Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser() / "hub" / "checkpoints"


def _download(weights: OfficialWeights, folders: list[Path]) -> Path:
    target = folders[0] / weights.file
    url = URL + weights.file
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, _progress(response, weights.file) as bar:
            if not response.geturl().startswith("https://"):
                raise OSError(f"it was redirected to {response.geturl()}, which is not encrypted")
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{weights.file}.")
            temporary = Path(name)
            with open(handle, "wb") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    bar.update(len(chunk))
        if not digest.hexdigest().startswith(weights.prefix):
            raise OSError(f"what came has the SHA-256 {digest.hexdigest()[:12]}..., which is not the file's")
        temporary.chmod(0o644)
        os.replace(temporary, target)
    except OSError as error:  # urllib's errors are of this kind
        places = " or ".join(str(folder) for folder in folders)
        raise OfficialWeightsError(
            f"{weights.file} is not here and {url} cannot be downloaded ({error}): put that file into {places}"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return target


def _progress(response: Any, file: str) -> tqdm:
    size = response.headers.get("Content-Length")
    return tqdm(desc=file, total=int(size) if size else None, unit="B", unit_scale=True, disable=None)  # on a terminal
