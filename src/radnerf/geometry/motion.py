"""How a torso shifts and rotates in the image over time."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8


def planar_motion(
    read_frame: Callable[[int], UInt8[np.ndarray, "h w 3"]],
    region: Bool[np.ndarray, "h w"],
    n_frames: int,
    reference: int,
) -> Float[np.ndarray, "t 3"]:
    """Shift (x, y; in half widths and heights) and rotation (radians) of a region in every frame.

    Against the reference frame, about the image's centre, by maximising the enhanced correlation
    coefficient (Evangelidis and Psarakis 2008). A frame that cannot be aligned keeps the motion of
    the one before it.
    """
    still = np.zeros((n_frames, 3), np.float32)
    if region.sum() < 64:
        return still

    def gray(i: int) -> np.ndarray:
        return cv2.cvtColor(read_frame(i), cv2.COLOR_RGB2GRAY).astype(np.float32)

    target, mask = gray(reference), region.astype(np.uint8) * 255
    height, width = target.shape
    centre, half = np.array([width / 2, height / 2]), np.array([width / 2, height / 2])
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    warp = np.eye(2, 3, dtype=np.float32)
    for i in range(n_frames):
        try:
            _, found = cv2.findTransformECC(
                target, gray(i), warp.copy(), cv2.MOTION_EUCLIDEAN, stop, mask, 3
            )
            # A torso does not jump by a tenth of the picture.
            if np.abs((found - np.eye(2, 3)) @ [*centre, 1]).max() < 0.1 * width:
                warp = np.asarray(found, np.float32)
        except cv2.error:
            pass
        still[i, :2] = (warp @ [*centre, 1] - centre) / half
        still[i, 2] = np.arctan2(warp[1, 0], warp[0, 0])
    return still
