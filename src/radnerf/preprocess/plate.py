"""The background plate: the picture as it would be with nobody in it."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

MAX_SAMPLES = 48
MAX_BYTES = 256 << 20
# The matte's faint foot, motion blur and video compression reach this far, in image heights.
MARGIN = 0.02
SURE_BACKGROUND = 13  # of 255


def background_plate(
    read_frame: Callable[[int], UInt8[np.ndarray, "h w 3"]],
    read_alpha: Callable[[int], UInt8[np.ndarray, "h w"]],
    n_frames: int,
) -> UInt8[np.ndarray, "h w 3"]:
    """Temporal median of what was seen beside the person, filled in smoothly where nothing was.

    Frames are sampled over the clip so that memory stays below MAX_BYTES.
    """
    height, width = read_frame(0).shape[:2]
    most = max(1, min(MAX_SAMPLES, MAX_BYTES // (3 * height * width)))
    picked = np.unique(np.linspace(0, n_frames - 1, most).astype(int))
    reach = 2 * max(2, round(MARGIN * height)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    stack = np.empty((len(picked), height, width, 3), np.uint8)
    count = np.zeros((height, width), np.int32)
    for row, i in enumerate(picked):
        person = cv2.dilate((read_alpha(int(i)) > SURE_BACKGROUND).astype(np.uint8), disc) > 0
        stack[row] = read_frame(int(i))
        # Hidden values sort behind all others and so cannot be the median of the seen ones.
        stack[row][person] = 255
        count += ~person
    stack.sort(axis=0)
    middle = np.maximum(count - 1, 0) // 2
    median = np.take_along_axis(stack, middle[None, ..., None], axis=0)[0]
    return fill_smoothly(median, count > 0)


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
    colour: Float[np.ndarray, "h w 3"], weight: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 3"]:
    height, width = weight.shape
    if min(height, width) <= 2:
        total = max(float(weight.sum()), 1e-6)
        mean = (colour * weight[..., None]).sum((0, 1)) / total
        share = weight[..., None]
        return np.asarray(share * colour + (1 - share) * mean, np.float32)
    small = ((width + 1) // 2, (height + 1) // 2)
    summed = cv2.pyrDown(weight, dstsize=small)
    pulled = cv2.pyrDown(colour * weight[..., None], dstsize=small)
    pulled = pulled / np.maximum(summed, 1e-6)[..., None]
    # A pixel counts in full as soon as half of what it stands for is known.
    coarse = _pull_push(pulled, np.minimum(2 * summed, 1))
    share = weight[..., None]
    pushed = cv2.pyrUp(coarse, dstsize=(small[0] * 2, small[1] * 2))[:height, :width]
    return np.asarray(share * colour + (1 - share) * pushed, np.float32)
