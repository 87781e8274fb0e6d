"""Occupancy update on a GPU: all fade, then all rise."""

# Triton infers the types of what runs on the device.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from radnerf.kernels.occupancy.reference import cells_of
from radnerf.kernels.triton_runtime import block, jit, launch, points_of_program

__all__ = ["cells_of", "raise_cells"]

BLOCK = 256  # samples a program


def raise_cells(value: Tensor, cell: Tensor, weight: Tensor, settled: Tensor, decay: float) -> None:
    size = block(len(cell), BLOCK)
    grid = (triton.cdiv(len(cell), size),)
    cell, before = cell.contiguous(), value[cell]
    launch(_fade, grid, value, cell, before, settled.contiguous(), len(cell), decay, BLOCK=size)
    launch(_raise, grid, value, cell, weight.detach().contiguous(), len(cell), BLOCK=size)


@jit
def _fade(value_ptr, cell_ptr, before_ptr, settled_ptr, n, decay, BLOCK: tl.constexpr):
    """Samples of one cell write the same."""
    i = points_of_program(BLOCK)
    settled = tl.load(settled_ptr + i, mask=i < n, other=0).to(tl.int1)
    before = tl.load(before_ptr + i, mask=settled, other=0.0)
    cell = tl.load(cell_ptr + i, mask=settled, other=0)
    tl.store(value_ptr + cell, decay * before, mask=settled)


@jit
def _raise(value_ptr, cell_ptr, weight_ptr, n, BLOCK: tl.constexpr):
    i = points_of_program(BLOCK)
    cell = tl.load(cell_ptr + i, mask=i < n, other=0)
    weight = tl.load(weight_ptr + i, mask=i < n, other=0.0)
    tl.atomic_max(value_ptr + cell, weight, mask=i < n)
