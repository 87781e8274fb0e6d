"""The Numba loop of the occupancy update, on one core: samples share cells."""

# Numba infers the types: float32 arrays, int64 cells.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

from radnerf.kernels.numba_runtime import serial_loop


@serial_loop
def raise_cells(value, cell, weight, settled, decay, before):
    """before [m]: room for the values from before."""
    for i in range(len(cell)):
        before[i] = value[cell[i]]
    for i in range(len(cell)):
        if settled[i]:
            value[cell[i]] = decay * before[i]
    for i in range(len(cell)):
        if weight[i] > value[cell[i]]:
            value[cell[i]] = weight[i]
