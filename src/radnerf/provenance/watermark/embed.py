"""Puts the watermark into frames."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from radnerf.kernels.watermark import activity, add_pattern
from radnerf.provenance.watermark.pattern import tile_of, unit_of
from radnerf.provenance.watermark.payload import encode

# Levels of luma (root mean square): on plain areas, more for each level that neighbouring pixels
# differ, and at most.
PLAIN, PER_LEVEL, MOST = 1.0, 0.4, 5.0
LEAST_PSNR = 42.5  # dB; busy frames get less, so that none is further from the unmarked one
FOLLOW = 0.2  # of the way to the next frame's strength: the strength must not flicker


class Watermark:
    """The watermark of a portrait, for the frames of one video in their order.

    The pattern stands still; only how strong it is follows the picture, and slowly.

    Args:
        portrait: the first nine hexadecimal digits of the portrait file's SHA-256.
    """

    def __init__(self, portrait: str) -> None:
        self.symbols = encode(portrait)
        self._tile: Float[np.ndarray, "side side"] | None = None
        self._strength: Float[np.ndarray, "rows columns"] | None = None

    def mark(self, frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The frame with the mark; all have the size of the first."""
        frame = np.ascontiguousarray(frame)
        if self._tile is None:
            self._tile = tile_of(self.symbols, unit_of(*frame.shape[:2]))
        wanted = strength_of(frame)
        if self._strength is None:
            self._strength = wanted
        self._strength += np.float32(FOLLOW) * (wanted - self._strength)
        return add_pattern(frame, self._tile, self._strength)


def strength_of(frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "rows columns"]:
    """How strong the mark may be in each block of a frame, in levels."""
    strength = np.minimum(PLAIN + PER_LEVEL * cv2.blur(activity(frame), (3, 3)), MOST)
    allowed = 255 * 10 ** (-LEAST_PSNR / 20)
    strength *= min(1.0, allowed / float(np.sqrt(np.square(strength).mean())))
    return np.asarray(strength, np.float32)
