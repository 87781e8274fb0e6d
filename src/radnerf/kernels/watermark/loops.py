"""Numba loops of the watermark.

On one core: the video's encoder is busy on all of them, and threads would wait for it.
"""

# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import numpy as np

from radnerf.kernels.numba_runtime import inlined, serial_loop


@inlined
def _luma(frame, y, x):
    """Of Rec. 601, in 1/256 of a level."""
    return 77 * int(frame[y, x, 0]) + 150 * int(frame[y, x, 1]) + 29 * int(frame[y, x, 2])


@serial_loop
def activity(frame, block, blocks):
    """Fills blocks [rows, columns]."""
    height, width = frame.shape[:2]
    for row in range(len(blocks)):
        for column in range(blocks.shape[1]):
            total, count = 0, 0
            for y in range(row * block, min((row + 1) * block, height - 1), 2):
                for x in range(column * block, min((column + 1) * block, width - 1)):
                    here = _luma(frame, y, x)
                    total += abs(_luma(frame, y, x + 1) - here) + abs(_luma(frame, y + 1, x) - here)
                    count += 2
            blocks[row, column] = np.float32(total) / np.float32(256 * max(count, 1))


@serial_loop
def add_pattern(frame, tile, strength, block, marked):
    """Fills marked [h, w, 3]. A block's strength is that of its centre."""
    height, width = frame.shape[:2]
    rows, columns = strength.shape
    period = len(tile)
    for y in range(height):
        at = (np.float32(y) + np.float32(0.5)) / np.float32(block) - np.float32(0.5)
        above = min(max(int(np.floor(at)), 0), rows - 1)
        below = min(above + 1, rows - 1)
        down = min(max(at - np.float32(above), np.float32(0)), np.float32(1))
        line = np.empty(columns + 1, np.float32)
        for column in range(columns):
            top = strength[above, column]
            line[column] = top + down * (strength[below, column] - top)
        line[columns] = line[columns - 1]
        for x in range(width):
            at = (np.float32(x) + np.float32(0.5)) / np.float32(block) - np.float32(0.5)
            at = max(at, np.float32(0))
            left = int(at)
            here = line[left] + (at - np.float32(left)) * (line[left + 1] - line[left])
            change = here * tile[y % period, x % period]
            for channel in range(3):
                value = np.float32(frame[y, x, channel]) + change + np.float32(0.5)
                marked[y, x, channel] = np.uint8(min(max(value, np.float32(0)), np.float32(255)))
