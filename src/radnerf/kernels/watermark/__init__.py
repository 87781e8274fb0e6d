"""The watermark's loops over a frame's pixels, on a CPU core: frames are bytes in main memory."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

BLOCK = 8  # pixels of a side


def activity(frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "rows columns"]:
    """How much neighbouring pixels of each block differ, in levels of luma.

    The mean of the differences to the right and below, of every second row; a last block that is
    cut by the frame's edge counts the pixels it has.
    """
    from radnerf.kernels.watermark import loops

    height, width = frame.shape[:2]
    blocks = np.empty((-(-height // BLOCK), -(-width // BLOCK)), np.float32)
    loops.activity(frame, BLOCK, blocks)
    return blocks


def add_pattern(
    frame: UInt8[np.ndarray, "h w 3"],
    tile: Float[np.ndarray, "t t"],
    strength: Float[np.ndarray, "rows columns"],
) -> UInt8[np.ndarray, "h w 3"]:
    """The frame plus a tiled pattern, alike in all three channels.

    Args:
        tile: of unit variance.
        strength: of each block of `BLOCK` pixels, in levels; between their centres it is
            interpolated.
    """
    from radnerf.kernels.watermark import loops

    marked = np.empty_like(frame)
    loops.add_pattern(frame, tile, strength, BLOCK, marked)
    return marked
