"""Compile for GPUs that need not be there every Triton kernel that the package launches.

Operators and the renderer of frames run on CPU tensors with their launches replaced by
compilations, so that every kernel is compiled with the types and constants that it really gets.
Prints a line a compilation. Not a test itself: test_triton.py runs it, without Triton's
interpreter.

Usage: python compile_triton.py CAPABILITY:DTYPE:POINTS ...
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from radnerf.kernels import triton_runtime

TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.uint8: "*u8",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.bool: "*i1",
}


def signature_of(value: Any) -> str:
    """How Triton sees an argument of a launch; 1 and None are constants to it."""
    if isinstance(value, Tensor):
        return TYPES[value.dtype]
    if isinstance(value, float):
        return "fp32"
    if value is None or value == 1:
        return "constexpr"
    return "i32" if value < 2**31 else "i64"


def is_aligned(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.data_ptr() % 16 == 0
    return isinstance(value, int) and value % 16 == 0


class Compiler:
    """Takes the place of triton_runtime.launch."""

    def __init__(self) -> None:
        self.capability = 0
        self.done: set[tuple[object, ...]] = set()

    def __call__(
        self,
        kernel: Any,
        grid: tuple[int, ...],
        *arguments: Any,
        num_warps: int = 4,
        enable_fp_fusion: bool = False,
        **constants: Any,
    ) -> None:
        named = dict(zip(kernel.arg_names, arguments, strict=False))
        fixed = set(kernel.do_not_specialize)
        signature = {n: "i32" if n in fixed else signature_of(v) for n, v in named.items()}
        constants |= {name: named[name] for name, kind in signature.items() if kind == "constexpr"}
        signature |= dict.fromkeys(constants, "constexpr")
        assert set(signature) == set(kernel.arg_names), kernel.__name__
        attrs = {
            (place,): [["tt.divisibility", 16]]
            for place, name in enumerate(kernel.arg_names)
            if signature[name] != "constexpr" and name not in fixed and is_aligned(named[name])
        }
        key = (kernel, self.capability, *signature.items(), *constants.items(), *attrs)
        if key in self.done:
            return
        self.done.add(key)
        compiled = triton.compile(
            ASTSource(kernel, signature, constants, attrs),
            target=GPUTarget("cuda", self.capability, 32),
            options={"enable_fp_fusion": enable_fp_fusion, "num_warps": num_warps},
        )
        assert f".target sm_{self.capability}" in compiled.asm["ptx"] and compiled.asm["cubin"]
        operator = kernel.fn.__module__.split(".")[-2]
        print(f"{operator}.{kernel.__name__} sm_{self.capability}", flush=True)


def backward(*outputs: Tensor) -> None:
    torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])


def call_operators(dtype: torch.dtype, n: int) -> None:
    """Every operator on n points, forward and backward; tables and activations of a dtype."""
    from radnerf.kernels.composite import triton as composite
    from radnerf.kernels.encodings import triton as encodings
    from radnerf.kernels.grid_encode import GridLevels
    from radnerf.kernels.grid_encode import triton as grid_encode
    from radnerf.kernels.march import triton as march
    from radnerf.kernels.mlp import triton as mlp
    from radnerf.kernels.occupancy import triton as occupancy_update
    from radnerf.kernels.ray_sums import triton as ray_sums
    from radnerf.types import Samples

    for dim in (1, 2, 3):
        levels = GridLevels(n_levels=2, dim=dim, log2_table_size=8)
        table = torch.zeros(levels.n_entries, 2, dtype=dtype, requires_grad=True)
        x = torch.zeros(n, dim, requires_grad=True)
        backward(grid_encode.grid_encode(x, table, levels))
    x = torch.zeros(n, 3, dtype=dtype, requires_grad=True)
    backward(encodings.frequency_encode(x, 4))
    backward(encodings.sh_encode(x, 4))
    box, occupancy = torch.zeros(2, 3), torch.ones(8, 8, 8, dtype=torch.bool)
    march.march(torch.zeros(n, 3), torch.zeros(n, 3), occupancy, box, 0.05, 0.027, 16, None, None)
    samples = Samples(
        t=torch.zeros(n),
        dt=torch.zeros(n),
        ray=torch.zeros(n, dtype=torch.long),
        offsets=torch.zeros(n + 1, dtype=torch.long),
        cell=torch.zeros(n, dtype=torch.long),
    )
    values = torch.zeros(n, 4, dtype=dtype, requires_grad=True)
    backward(*composite.composite(values[:, 0], values, samples, 1e-4))
    backward(ray_sums.sums_before(values[:, 0], samples))
    cells, settled = torch.zeros(n, dtype=torch.long), torch.ones(n, dtype=torch.bool)
    occupancy_update.raise_cells(torch.zeros(8), cells, torch.zeros(n), settled, 0.9)
    for widths, frames in (([32, 64, 64, 2], 3), ([64, 64, 64, 65], 1), ([80, 64, 3], 0)):
        x = torch.zeros(n, widths[0], dtype=dtype, requires_grad=True)
        weights = [torch.zeros(o, i, dtype=dtype) for i, o in pairwise(widths)]
        bias = torch.zeros(frames, widths[1]) if frames else None
        frame = torch.zeros(n, dtype=torch.long) if frames else None
        backward(mlp.mlp(x, weights, bias, frame))


def draw_frame(side: int) -> None:
    """A square frame of a portrait of the default widths."""
    from radnerf.fields.audio_net import AudioNet
    from radnerf.fields.conditioning import AudioCoordinate
    from radnerf.fields.encodings import GridEncoding
    from radnerf.fields.head import HeadField
    from radnerf.fields.occupancy import OccupancyGrid
    from radnerf.fields.torso import TorsoField
    from radnerf.heads import RadianceHead
    from radnerf.heads.marching import Marching
    from radnerf.kernels.frame.triton import Renderer
    from radnerf.rendering.frame import scene_of
    from radnerf.rendering.portrait import Portrait
    from radnerf.torsos import PlanarTorso

    def grid(dim: int) -> GridEncoding:
        return GridEncoding(dim, log2_table_size=8)

    box, plane = [[-0.5] * 3, [0.5] * 3], [[-1.0] * 2, [1.0] * 2]
    portrait = Portrait(
        AudioNet(44),
        RadianceHead(
            HeadField(grid(3), AudioCoordinate(grid(2)), box, 1),
            OccupancyGrid(box, [8] * 3, 0.01),
            Marching(),
        ),
        PlanarTorso(TorsoField(grid(2), 1), OccupancyGrid(plane, [8] * 2, 0.01)),
        {},
    )
    background = np.zeros((side, side, 3), np.uint8)
    draw = Renderer(scene_of(portrait, 1.0, (0.0, 0.0), (side, side), background))
    draw(torch.eye(4), torch.zeros(64), 0.25)


if __name__ == "__main__":
    # Before the operators, which take it from there, are imported.
    triton_runtime.launch = compiler = Compiler()
    for argument in sys.argv[1:]:
        capability, dtype, points = argument.split(":")
        compiler.capability = int(capability)
        call_operators(getattr(torch, dtype), int(points))
        draw_frame(int(points))
