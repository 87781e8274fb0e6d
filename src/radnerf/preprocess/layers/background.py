"""The background: the picture as it would be with nobody in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from radnerf.data.clip import read_image, write_image
from radnerf.errors import UserError
from radnerf.preprocess.pictures import frame_reader, matte_reader
from radnerf.preprocess.stages import Stage, Workspace, file_hash

MAX_SAMPLES = 48
MAX_BYTES = 256 << 20
# In image heights. The matte's faint foot, motion blur and compression reach this far from the
# person,
NEAR = 0.015
# and loose hair this far: what is nearer counts only where nothing else was seen.
FAR = 0.06
SURE_BACKGROUND = 13  # of 255
MOST_STRETCHED = 0.02  # that a given background's proportions may differ from the frames'


@dataclass(frozen=True)
class Background(Stage):
    """The background, from the clip's frames or from the user.

    Attributes:
        given: picture of the place without the person; None takes what the frames show.
    """

    name = "background"
    needs = ("parsing",)
    outputs = ("bc.jpg",)
    seconds_a_frame = 0.004

    size: tuple[int, int]
    n_frames: int
    given: Path | None = None

    def settings(self) -> dict[str, Any]:
        return {"background": file_hash(self.given)} if self.given else {}

    def run(self, work: Workspace) -> None:
        if self.given:
            rgb = given_background(self.given, self.size)
        else:
            read, matte = frame_reader(work.root), matte_reader(work.root)
            rgb = median_background(read, matte, self.n_frames)
        write_image(work.out / "bc.jpg", rgb)


def given_background(path: Path, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """A background from the user, at the frames' size (height, width).

    Raises:
        UserError: it cannot be read, or has other proportions than the frames.
    """
    picture = read_image(path)
    (height, width), (own_height, own_width) = size, picture.shape[:2]
    if abs(own_width * height / (own_height * width) - 1) > MOST_STRETCHED:
        raise UserError(
            f"{path} is {own_width} x {own_height}, which are other proportions than the frames' "
            f"{width} x {height}: give the background as the camera sees it."
        )
    smaller = own_height >= height
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), np.uint8)


def median_background(
    read_frame: Callable[[int], UInt8[np.ndarray, "h w 3"]],
    read_alpha: Callable[[int], UInt8[np.ndarray, "h w"]],
    n_frames: int,
) -> UInt8[np.ndarray, "h w 3"]:
    """Temporal median of what was seen beside the person, filled in smoothly where nothing was.

    Frames are sampled over the clip so that memory stays below MAX_BYTES.
    """
    height, width = read_frame(0).shape[:2]
    most = max(1, min(MAX_SAMPLES, MAX_BYTES // (6 * height * width)))
    picked = np.unique(np.linspace(0, n_frames - 1, most).astype(int))
    stacks = np.empty((2, len(picked), height, width, 3), np.uint8)
    count = np.zeros((2, height, width), np.int32)
    for row, i in enumerate(picked):
        frame = read_frame(int(i))
        sure = (read_alpha(int(i)) <= SURE_BACKGROUND).astype(np.uint8)
        away = cv2.distanceTransform(sure, cv2.DIST_L2, 3)
        for k, margin in enumerate((NEAR, FAR)):
            hidden = away <= max(2.0, margin * height)
            stacks[k, row] = frame
            # Hidden values sort behind all others and so cannot be the median of the seen ones.
            stacks[k, row][hidden] = 255
            count[k] += ~hidden
    stacks.sort(axis=1)
    middle = np.maximum(count - 1, 0) // 2
    near, far = np.take_along_axis(stacks, middle[:, None, ..., None], axis=1)[:, 0]
    median = np.where((count[1] > 0)[..., None], far, near)
    return fill_smoothly(median, count[0] > 0)


def fill_smoothly(
    rgb: UInt8[np.ndarray, "h w 3"], known: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Unknown pixels from the known ones around them, the smoother the farther away.

    Pull-push: averages of the known pixels are formed at ever coarser scales, then the holes of
    each scale are filled from the next (Gortler et al., The Lumigraph, 1996, section 3.4).
    """
    if known.all() or not known.any():
        return rgb.copy()
    filled = _pull_push(rgb.astype(np.float32), known.astype(np.float32))
    out = rgb.copy()
    out[~known] = np.clip(filled + 0.5, 0, 255).astype(np.uint8)[~known]
    return out


def _pull_push(
    color: Float[np.ndarray, "h w 3"], weight: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 3"]:
    height, width = weight.shape
    if min(height, width) <= 2:
        total = max(float(weight.sum()), 1e-6)
        mean = (color * weight[..., None]).sum((0, 1)) / total
        coverage = weight[..., None]
        return np.asarray(coverage * color + (1 - coverage) * mean, np.float32)
    small = ((width + 1) // 2, (height + 1) // 2)
    summed = cv2.pyrDown(weight, dstsize=small)
    pulled = cv2.pyrDown(color * weight[..., None], dstsize=small)
    pulled = pulled / np.maximum(summed, 1e-6)[..., None]
    # A pixel counts in full as soon as half of what it stands for is known.
    coarse = _pull_push(pulled, np.minimum(2 * summed, 1))
    coverage = weight[..., None]
    pushed = cv2.pyrUp(coarse, dstsize=(small[0] * 2, small[1] * 2))[:height, :width]
    return np.asarray(coverage * color + (1 - coverage) * pushed, np.float32)
