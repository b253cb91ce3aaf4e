"""The official weights of torchvision: their files, and the options that state dicts do not contain."""

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
_TIMEOUT = 30  # seconds without data


@dataclass(frozen=True)
class OfficialWeights:
    """A file that torchvision publishes. Its name ends with the first digits of its SHA-256.

    member: torchvision's name for the weights.
    norm_eps: the eps of the frozen norms that the weights were trained with.
    resize: the size of the shorter side in pixels before the centre crop, for classifiers.
    """

    file: str
    member: str = "COCO_V1"
    norm_eps: float = 1e-5
    resize: int = 256

    @property
    def prefix(self) -> str:
        """The first digits of the file's SHA-256."""
        return Path(self.file).stem.rpartition("-")[2]


# By model; "_v1" and "_v2" are torchvision's IMAGENET1K_V1 and _V2 (its default).
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
    # The first versions were trained with frozen norms with an eps of 0, which torchvision sets after loading them.
    "fasterrcnn_resnet50_fpn": OfficialWeights("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", norm_eps=0.0),
    "fasterrcnn_resnet50_fpn_v2": OfficialWeights("fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"),
    "retinanet_resnet50_fpn": OfficialWeights("retinanet_resnet50_fpn_coco-eeacb38b.pth", norm_eps=0.0),
    "fcos_resnet50_fpn": OfficialWeights("fcos_resnet50_fpn_coco-99b0c9b7.pth"),
    "retinanet_resnet50_fpn_v2": OfficialWeights("retinanet_resnet50_fpn_v2_coco-5905b1c5.pth"),
}


def official_of(model: str) -> dict[str, str]:
    """The official weights of a model: ``{torchvision's name: key in OFFICIAL}``. The last entry is the default."""
    keys = [key for key in OFFICIAL if key in (f"{model}_v1", f"{model}_v2") and OFFICIAL[key].member != "COCO_V1"]
    keys += [model] if model in OFFICIAL and not keys else []
    return {OFFICIAL[key].member: key for key in keys}


class OfficialWeightsError(OSError):
    """Official weights are neither present nor downloadable. The message names the file and where to put it."""


def find_official(name: str) -> Path:
    """The file with a model's official torchvision weights, which is downloaded if necessary.

    The file is looked up in jaxdet's cache (``$JAXDET_CACHE`` or ``~/.cache/jaxdet``) and in torch hub's
    (``$TORCH_HOME/hub`` or ``~/.cache/torch/hub``). A download goes to the first, where the file only appears if it is
    complete and has the correct hash.

    Raises:
        ValueError: no official weights of that name are known.
        OfficialWeightsError: the file cannot be downloaded, or is damaged.
    """
    if name not in OFFICIAL:
        known = ", ".join(OFFICIAL)
        raise ValueError(f"no official weights of {name!r} are known; known: {known}{nearest(name, OFFICIAL)}")
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
    """The official weights that a file contains, by its SHA-256; None if it is another file."""
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
                raise OSError(f"redirected to {response.geturl()}, which is not encrypted")
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{weights.file}.")
            temporary = Path(name)
            with open(handle, "wb") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    bar.update(len(chunk))
        if not digest.hexdigest().startswith(weights.prefix):
            raise OSError(f"the download has a wrong SHA-256, {digest.hexdigest()[:12]}...")
        temporary.chmod(0o644)
        os.replace(temporary, target)
    except OSError as error:  # including urllib's errors
        places = " or ".join(str(folder) for folder in folders)
        raise OfficialWeightsError(
            f"{weights.file} was not found, and {url} cannot be downloaded ({error}): put that file into {places}"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return target


def _progress(response: Any, file: str) -> tqdm:
    size = response.headers.get("Content-Length")
    return tqdm(
        desc=file, total=int(size) if size else None, unit="B", unit_scale=True, disable=None
    )  # shown on terminals only
