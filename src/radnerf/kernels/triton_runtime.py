"""How Triton kernels are compiled and launched here. Imported at the first call only.

With TRITON_INTERPRET=1 the same kernels run on CPU tensors, in numpy, for tests.
"""

# Triton infers the types of what runs on the device.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl

from radnerf.kernels.dispatch import triton_interprets

INTERPRETED = tl.constexpr(triton_interprets())
# The interpreter's cost is one of calls, not of elements.
INTERPRETED_BLOCK = 16_384


def jit(function: Callable[..., Any], do_not_specialize: Sequence[str] = ()) -> Any:
    """Compile a kernel, or a helper that kernels call.

    Args:
        do_not_specialize: whole numbers of which no kernel of its own is made when they are 1, or
            divisible by 16.
    """
    # Without what the tests wrap around every function to check its shapes.
    return triton.jit(inspect.unwrap(function), do_not_specialize=do_not_specialize)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a kernel's programs on the device of its first argument; none where the grid is empty.

    Products and sums are rounded apart, as torch rounds them, unless a kernel asks for their
    fusion: a sample, or a point, falls into the cell where the reference sees it.
    """
    if 0 in grid:
        return
    on_device = torch.cuda.device(arguments[0].device) if arguments[0].is_cuda else nullcontext()
    with on_device:
        kernel[grid](*arguments, **{"enable_fp_fusion": False} | constants)


def block(n: int, on_device: int) -> int:
    """Points a program takes: on_device of them, or what the interpreter likes better."""
    if not triton_interprets():
        return on_device
    return max(on_device, min(padded(n), INTERPRETED_BLOCK))


def padded(width: int, least: int = 1) -> int:
    """The next power of two, the only widths that Triton has."""
    return max(triton.next_power_of_2(width), least)


@jit
def points_of_program(BLOCK: tl.constexpr):
    """Indices, 64 bits wide, of the points that a program of the first axis takes."""
    return tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)


@jit
def rounded(x, dtype: tl.constexpr):
    """float32 to the nearest number of a dtype."""
    if INTERPRETED and dtype == tl.bfloat16:
        # The interpreter cuts the lower 16 bits off: carry them into the upper ones first.
        bits = x.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
        x = bits.to(tl.float32, bitcast=True)
    return x.to(dtype)


@jit
def dot(a, b, PRECISION: tl.constexpr):
    """Matrix product added up in float32."""
    if INTERPRETED:
        # numpy has no bfloat16. Products of 16-bit numbers are exact in float32.
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision=PRECISION)
