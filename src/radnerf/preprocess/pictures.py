"""Pictures of the clip folder that only the preprocessing reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from radnerf.data import clip as layout


def over(
    rgb: UInt8[np.ndarray, "h w 3"],
    alpha: UInt8[np.ndarray, "h w"],
    behind: UInt8[np.ndarray, "h w 3"],
) -> UInt8[np.ndarray, "h w 3"]:
    """The person over the background plate."""
    share = alpha.astype(np.float32) / 255
    return np.asarray(cv2.blendLinear(rgb, behind, share, 1 - share))


def write_grey(path: Path, grey: UInt8[np.ndarray, "h w"]) -> None:
    layout.write_image(path, grey[..., None])


def read_parsing(root: Path, i: int) -> UInt8[np.ndarray, "h w"]:
    return layout.read_parsing(root / "parsing" / f"{i}.png")


def frame_reader(root: Path) -> Callable[[int], Any]:
    return lambda i: layout.read_image(root / "ori_imgs" / f"{i}.jpg")


def matte_reader(root: Path) -> Callable[[int], Any]:
    return lambda i: cv2.imread(str(root / "matte" / f"{i}.png"), cv2.IMREAD_GRAYSCALE)
