"""Pictures of the clip folder that only the preprocessing reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from radnerf.data import clip as layout


def write_gray(path: Path, gray: UInt8[np.ndarray, "h w"]) -> None:
    layout.write_image(path, gray[..., None])


def read_parsing(root: Path, i: int) -> UInt8[np.ndarray, "h w"]:
    return layout.read_parsing(root / "parsing" / f"{i}.png")


def frame_reader(root: Path) -> Callable[[int], Any]:
    return lambda i: layout.read_image(root / "ori_imgs" / f"{i}.jpg")


def matte_reader(root: Path) -> Callable[[int], Any]:
    return lambda i: cv2.imread(str(root / "matte" / f"{i}.png"), cv2.IMREAD_GRAYSCALE)
