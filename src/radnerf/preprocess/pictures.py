"""Pictures of the clip folder that only the preprocessing reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from radnerf.data import clip as layout


def over(
    rgb: UInt8[np.ndarray, "h w 3"],
    alpha: UInt8[np.ndarray, "h w"],
    behind: UInt8[np.ndarray, "h w 3"],
) -> UInt8[np.ndarray, "h w 3"]:
    """The person over the background plate."""
    share = alpha.astype(np.float32)[..., None] / 255
    mixed: Float[np.ndarray, "h w 3"] = share * rgb + (1 - share) * behind
    return (mixed + 0.5).astype(np.uint8)


def write_grey(path: Path, grey: UInt8[np.ndarray, "h w"]) -> None:
    layout.write_image(path, np.repeat(grey[..., None], 3, -1))


def read_parsing(root: Path, i: int) -> UInt8[np.ndarray, "h w"]:
    rgb = layout.read_image(root / "parsing" / f"{i}.png")
    labels = np.zeros(rgb.shape[:2], np.uint8)
    for label, colour in layout.PARSING_RGB.items():
        labels[(rgb == colour).all(-1)] = label
    return labels


def frame_reader(root: Path) -> Callable[[int], Any]:
    return lambda i: layout.read_image(root / "ori_imgs" / f"{i}.jpg")


def matte_reader(root: Path) -> Callable[[int], Any]:
    return lambda i: cv2.imread(str(root / "matte" / f"{i}.png"), cv2.IMREAD_GRAYSCALE)
