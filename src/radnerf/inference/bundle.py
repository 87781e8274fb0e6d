"""The portrait file: everything rendering needs, in one safetensors file.

Tensors sit in the file as they are; everything else is JSON in the header's metadata. The file is
untrusted: it is read without pickle, names no class but registered components, holds no path but
that of the speech model it learned from, whose files are checked by their hash.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from radnerf.errors import UserError
from radnerf.files import whole_file
from radnerf.inference.versions import from_version_2
from radnerf.registry import check

FORMAT = "radnerf-portrait"
VERSION = 3
WEIGHT = "weights/"
MAX_HEADER = 16 << 20  # bytes; more is not a header of ours


@dataclass
class PortraitBundle:
    """A trained portrait and the tracks of the clip it was trained on."""

    id: str
    portrait: dict[str, Any]  # Portrait.from_config takes it
    weights: dict[str, Tensor]
    extractor: dict[str, Any]  # name and settings of the audio feature extractor
    poses: Float[Tensor, "t 4 4"]  # camera-to-world, memory convention of data/clip.py
    eye: Float[Tensor, " t"]  # opening of the eyes: 0 shut, 1 open
    torso_motion: Float[Tensor, "t 3"]  # shift and rotation of the torso, geometry/motion.py
    focal: float  # pixels
    centre: tuple[float, float]
    size: tuple[int, int]  # height, width
    fps: float
    background: UInt8[Tensor, "h w 3"]
    n_train: int  # the first n_train frames were trained on
    audio_offset: float  # seconds by which the clip's mouth moves ahead of its sound
    consent: str | None = None  # who agreed, and when
    version: int = VERSION

    def save(self, path: str | Path) -> None:
        """Write the file; it appears whole or not at all.

        Raises:
            UserError: the file cannot be written.
        """
        path = Path(path)
        tensors = {WEIGHT + name: value for name, value in self.weights.items()}
        tensors |= {name: getattr(self, name) for name in _TRACKS}
        # A copy each: safetensors refuses tensors that share memory.
        tensors = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
        facts = {name: getattr(self, name) for name in (*_FACTS, "consent")}
        metadata = {"format": FORMAT, "version": str(self.version), "facts": json.dumps(facts)}
        with whole_file(path) as part:
            part.write_bytes(save(tensors, metadata))

    @classmethod
    def load(cls, path: str | Path) -> PortraitBundle:
        """Read a portrait file.

        Raises:
            UserError: missing, not a portrait, cut short, of another version, or its parts do not
                fit together.
        """
        path = Path(path)
        metadata = _read_metadata(path)
        try:
            facts = json.loads(metadata["facts"])
            tensors = load_file(path)
            if metadata["version"] == "2":
                facts, tensors = from_version_2(facts, tensors, WEIGHT)
            bundle = cls(
                weights={k[len(WEIGHT) :]: v for k, v in tensors.items() if k.startswith(WEIGHT)},
                poses=tensors["poses"],
                eye=tensors["eye"],
                torso_motion=tensors["torso_motion"],
                background=tensors["background"],
                version=VERSION,
                consent=_text(facts.get("consent")),  # portraits of before have none
                **{name: read(facts[name]) for name, read in _FACTS.items()},
            )
        except (
            *(SafetensorError, OSError, AttributeError, ArithmeticError),
            *(KeyError, TypeError, ValueError),
        ) as error:
            raise UserError(f"{path} is damaged ({error}): make the portrait again.") from error
        _check(bundle, path)
        return bundle


def _pair(kind: type) -> Any:
    def read(value: Any) -> tuple[Any, Any]:
        first, second = value
        return kind(first), kind(second)

    return read


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


# What is stored as tensors beside the weights.
_TRACKS = ("poses", "eye", "torso_motion", "background")

# What is stored as JSON, and how it is read back.
_FACTS: dict[str, Any] = {
    "id": str,
    "portrait": dict,
    "extractor": dict,
    "focal": float,
    "centre": _pair(float),
    "size": _pair(int),
    "fps": float,
    "n_train": int,
    "audio_offset": float,
}


def _read_metadata(path: Path) -> dict[str, str]:
    """The header's metadata, after checking what the file is and that all of it is there."""
    if not path.is_file():
        raise UserError(f"There is no portrait file {path}: check the path.")
    strange = f"{path} is not a portrait file: give the portrait.safetensors of a training run."
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= MAX_HEADER:
                raise UserError(strange)
            head = file.read(length)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}).") from error
    short = f"{path} is cut short: copy it again or make the portrait again."
    if not head.startswith(b"{"):
        raise UserError(strange)
    if len(head) < length:
        raise UserError(short)
    try:
        header = json.loads(head)
        metadata = header.get("__metadata__") or {}
        ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
    except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        raise UserError(strange) from error
    if metadata.get("format") != FORMAT:
        raise UserError(strange)
    if metadata.get("version") not in ("2", str(VERSION)):
        raise UserError(
            f"{path} is a portrait of version {metadata.get('version')}, and this program reads "
            f"versions 2 and {VERSION}: train it again or use the program that made it."
        )
    if size < 8 + length + max(ends, default=0):
        raise UserError(short)
    return dict(metadata)


def _check(bundle: PortraitBundle, path: Path) -> None:
    """Refuse what does not fit together or names a class that is no component."""
    n_frames, (height, width) = len(bundle.poses), bundle.size
    shapes = {
        "poses": (bundle.poses, (n_frames, 4, 4), torch.float32),
        "eye": (bundle.eye, (n_frames,), torch.float32),
        "torso_motion": (bundle.torso_motion, (n_frames, 3), torch.float32),
        "background": (bundle.background, (height, width, 3), torch.uint8),
    }
    for name, (tensor, shape, dtype) in shapes.items():
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise UserError(
                f"{path} is damaged: its {name} is {tensor.dtype} {tuple(tensor.shape)} "
                f"instead of {dtype} {shape}."
            )
    numbers = (bundle.focal, bundle.fps, bundle.audio_offset, *bundle.centre)
    finite = all(math.isfinite(v) for v in numbers) and bool(bundle.poses.isfinite().all())
    if not (finite and n_frames and bundle.focal > 0 and bundle.fps > 0):
        raise UserError(f"{path} is damaged: its camera is not a camera.")
    for key, value in _entries([bundle.portrait, bundle.extractor]):
        if key == "_target_":
            check(value)
        elif key.startswith("_"):
            raise UserError(
                f"{path} asks for {key}={value!r}, which is no part of a portrait: do not use it."
            )


def _entries(config: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values of nested dicts and lists."""
    if isinstance(config, dict):
        for key, value in config.items():
            yield str(key), value
            yield from _entries(value)
    elif isinstance(config, list):
        for value in config:
            yield from _entries(value)
