"""Numba loops of the occupancy update."""

# Numba infers the types: float32 arrays, int64 cells.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import numpy as np
from numba import prange

from radnerf.kernels.numba_runtime import exact_loop, serial_loop


@exact_loop
def cells_of(points, low, width, shape, cells):
    """Fills cells [m]. Exact: a point must fall in the cell where torch sees it."""
    for i in prange(len(points)):
        cell = 0
        for axis in range(len(shape)):
            size = shape[axis]
            position = (points[i, axis] - low[axis]) / width[axis] * np.float32(size)
            cell = cell * size + min(max(int(position), 0), size - 1)
        cells[i] = cell


@serial_loop
def raise_cells(value, cell, weight, settled, decay, before):
    """On one core, for samples have cells in common. before [m]: scratch, for the old values."""
    for i in range(len(cell)):
        before[i] = value[cell[i]]
    for i in range(len(cell)):
        if settled[i]:
            value[cell[i]] = decay * before[i]
    for i in range(len(cell)):
        if weight[i] > value[cell[i]]:
            value[cell[i]] = weight[i]
