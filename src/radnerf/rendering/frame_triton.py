"""Frames on a GPU: two kernels, and a few small products for what the whole frame shares.

On CUDA a frame's work is recorded once and replayed, so that the host only fills in the inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from radnerf.fields.encodings import GridEncoding
from radnerf.geometry.rotations import head_pose_vector
from radnerf.kernels.dispatch import BACKENDS
from radnerf.rendering.frame_parts import (
    STOP,
    HeadMatrices,
    Image,
    TorsoMatrices,
    differs,
    grids,
    networks,
    steps_to_occupied,
)

LEAST = 16  # the narrowest matrix that tensor cores take
HARMONICS = 16


def lacks(portrait: Any) -> str | None:
    """Why this renderer cannot draw a portrait, if so."""
    reason = BACKENDS["triton"]((portrait.rest_code, next(portrait.parameters())))
    if reason is None:
        reason = differs(portrait)
    if reason is not None:
        return reason
    for grid in grids(portrait):
        if not _fits(grid.width):
            return f"a grid has {grid.width} features, not a power of two from {LEAST} on"
    for net, _ in networks(portrait):
        for weight in net.weights[:-1]:
            if not _fits(len(weight)):
                return f"a layer is {len(weight)} wide, not a power of two from {LEAST} on"
    return None


def _fits(width: int) -> bool:
    return width >= LEAST and width & (width - 1) == 0


class TritonFrameRenderer:
    """See rendering/frame.py."""

    @torch.inference_mode()
    def __init__(
        self,
        portrait: Any,
        focal: float,
        centre: tuple[float, float],
        size: tuple[int, int],
        background: Image,
    ) -> None:
        self.portrait = portrait
        self.device = device = portrait.rest_code.device
        self.inputs = _Inputs(len(portrait.rest_code), device)
        self.head = _Head(portrait, focal, centre, size)
        self.torso = _Torso(portrait, size, background)
        self.image = torch.zeros(*size, 3, dtype=torch.uint8, device=device)
        self.graph: Any = None
        if device.type == "cuda":
            self.host = torch.zeros(*size, 3, dtype=torch.uint8, pin_memory=True)
            self._record()

    def _record(self) -> None:
        """Keep the work of a frame, to be replayed: it reads and writes the same buffers always."""
        with torch.cuda.device(self.device):
            ahead = torch.cuda.Stream()
            ahead.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(ahead):  # everything is compiled and allocated before
                for _ in range(3):
                    self._draw()
            torch.cuda.current_stream().wait_stream(ahead)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=ahead):
                self._draw()

    @torch.inference_mode()
    def __call__(
        self,
        pose: Float[Tensor, "4 4"],
        code: Float[Tensor, " d"],
        eye: float,
        torso_motion: Float[Tensor, " 3"] | None = None,
        behind: Image | None = None,
    ) -> Image:
        tracked = self.portrait.torso.field.tracked
        self.inputs.fill(pose, code, eye, torso_motion if tracked else None)
        if behind is not None:
            self.head.render(self.inputs)
            colour, light = self.head.out.split((3, 1), 1)
            under = torch.from_numpy(behind).to(self.device).view(-1, 3).float() / 255
            image = (colour + light * under).clamp(0, 1) * 255
            return image.round().byte().view(*self.image.shape).cpu().numpy()
        if self.graph is None:
            self._draw()
            return self.image.cpu().numpy().copy()
        self.graph.replay()
        self.host.copy_(self.image, non_blocking=True)
        torch.cuda.current_stream(self.device).synchronize()
        return self.host.numpy().copy()

    def _draw(self) -> None:
        """The image, of the inputs; nothing here waits for the device."""
        self.head.render(self.inputs)
        self.torso.render(self.inputs, self.head.out, self.image)


class _Inputs:
    """What drives a frame, on the device."""

    def __init__(self, code_dim: int, device: torch.device) -> None:
        self.pose = torch.eye(4, device=device)
        self.code = torch.zeros(1, code_dim, device=device)
        self.eye = torch.zeros(1, device=device)
        self.motion = torch.zeros(1, 3, device=device)  # NaN is predicted
        self.index = torch.full((1,), -1, device=device)

    def fill(self, pose: Tensor, code: Tensor, eye: float, motion: Tensor | None) -> None:
        self.pose.copy_(pose)
        self.code[0].copy_(code)
        self.eye.fill_(eye)
        if motion is None:
            self.motion.fill_(torch.nan)
        else:
            self.motion[0].copy_(motion)


class _Head:
    """Colour and remaining light of every pixel."""

    def __init__(
        self,
        portrait: Any,
        focal: float,
        centre: tuple[float, float],
        size: tuple[int, int],
    ) -> None:
        self.field, self.size = portrait.head.field, size
        device = portrait.rest_code.device
        self.net = net = HeadMatrices.of(self.field)
        self.spatial, self.ambient = (_grid(grid) for grid in grids(portrait)[:2])
        harmonics = net.colour_of_view.shape[1]
        self.matrices = _matrices(
            net.ambient_of_spatial,
            net.ambient_hidden,
            net.sigma_of_spatial,
            net.sigma_of_ambient,
            net.sigma_hidden,
            net.colour_of_sigma,
            pad(net.colour_of_view, (0, HARMONICS - harmonics)),
        )
        first = net.ambient_of_spatial.numel() + net.ambient_hidden.numel()
        inputs = net.sigma_of_spatial.shape[1]
        self.of_spatial = self.matrices[first:].view(-1, len(net.sigma_hidden))[:inputs]
        self.rows = torch.cat([net.coordinate, net.density, net.colour])
        self.biases = torch.zeros(3, len(net.sigma_hidden), device=device)
        grid, marching = portrait.head.grid, portrait.head.marching
        self.box = grid.box.float().contiguous()
        self.empty = torch.from_numpy(steps_to_occupied(grid.occupied.cpu().numpy())).to(device)
        stop = max(STOP, marching.stop)
        self.marching = float(marching.near), float(marching.step), marching.max_samples, stop
        self.camera = float(focal), float(centre[0]), float(centre[1])
        self.out = torch.zeros(size[0] * size[1], 4, device=device)

    def render(self, inputs: _Inputs) -> None:
        from radnerf.kernels.frame.gpu import WARPS, head_kernel, tiles
        from radnerf.kernels.triton_runtime import launch

        net = self.net
        state = self.field.state(inputs.code, inputs.eye, inputs.index)
        torch.mm(state.code, net.ambient_of_code.T, out=self.biases[0:1])
        torch.mm(state.eye, net.sigma_of_eye.T, out=self.biases[1:2])
        self.of_spatial.copy_(
            torch.addcmul(net.sigma_of_spatial, net.sigma_of_product, state.eye).T
        )
        torch.mm(state.appearance, net.colour_of_appearance.T, out=self.biases[2:3])
        programs, high, wide = tiles(*self.size)
        launch(
            head_kernel, programs,
            inputs.pose, self.box, self.empty, *self.empty.shape, *self.marching,
            *self.spatial, *self.ambient, self.matrices, self.rows, self.biases, self.out,
            *self.size, *self.camera,
            HIGH=high, WIDE=wide, LS=len(self.spatial[1]), LA=len(self.ambient[1]),
            H=self.biases.shape[1], num_warps=WARPS, enable_fp_fusion=True,
        )  # fmt: skip


class _Torso:
    """The torso over the background, where its grid says so and the head lets it be seen."""

    def __init__(self, portrait: Any, size: tuple[int, int], background: Image) -> None:
        self.field, self.size = portrait.torso.field, size
        device = portrait.rest_code.device
        self.net = net = TorsoMatrices.of(self.field)
        self.grid = _grid(grids(portrait)[2])
        # The width of an encoded point, filled up.
        self.encoded = max(LEAST, 1 << (net.deform_of_point.shape[1] - 1).bit_length())
        self.matrices = _matrices(
            pad(net.deform_of_point, (0, self.encoded - net.deform_of_point.shape[1])),
            net.deform_hidden,
            net.torso_of_grid,
            pad(net.torso_of_point, (0, self.encoded - net.torso_of_point.shape[1])),
            net.torso_hidden,
        )
        self.rows = torch.cat([net.offset.flatten(), net.colour.flatten()])
        self.deform_bias = torch.zeros(1, len(net.deform_hidden), device=device)
        self.torso_bias = torch.zeros(1, len(net.torso_hidden), device=device)
        self.motion = torch.zeros(1, 3, device=device)
        height, width = size
        row, column = np.divmod(np.arange(height * width), width)
        uv = torch.from_numpy(np.stack([column, row], -1) + 0.5).float()
        xy = (uv / torch.tensor([width, height]) * 2 - 1).to(device)
        self.candidates = portrait.torso.grid.occupied_at(xy).to(torch.uint8)
        self.background = torch.from_numpy(background).to(device).float() / 255

    def render(self, inputs: _Inputs, head: Tensor, image: Tensor) -> None:
        from radnerf.kernels.frame.gpu import WARPS, finish_kernel, tiles
        from radnerf.kernels.triton_runtime import launch

        field, net = self.field, self.net
        state = field.state(head_pose_vector(inputs.pose[None]), inputs.index)
        torch.where(inputs.motion.isnan(), state.motion, inputs.motion, out=self.motion)
        torch.mm(state.features, net.deform_of_frame.T, out=self.deform_bias)
        torch.mm(state.features, net.torso_of_frame.T, out=self.torso_bias)
        programs, high, wide = tiles(*self.size)
        launch(
            finish_kernel, programs,
            head, self.background, self.candidates, self.motion, float(field.shrink),
            field.point_octaves, STOP, *self.grid, self.matrices, self.rows,
            self.deform_bias, self.torso_bias, image, *self.size,
            HIGH=high, WIDE=wide, E=self.encoded, L=len(self.grid[1]),
            HD=len(net.deform_hidden), HT=len(net.torso_hidden), num_warps=WARPS,
            enable_fp_fusion=True,
        )  # fmt: skip


def _grid(encoding: GridEncoding) -> tuple[Tensor, Tensor, Tensor]:
    """A grid's table as pairs of float16, its levels' scales and the rest that describes them."""
    from radnerf.kernels.grid_encode.triton import described

    table = encoding.table.detach()
    scales, levels = described(encoding.levels, table.device)
    return table.half().view(torch.int32).view(-1), scales, levels.T.contiguous()


def _matrices(*matrices: Float[Tensor, "_ _"]) -> Float[Tensor, " n"]:
    """Matrices [outputs, inputs] one after another as [inputs, outputs]."""
    return torch.cat([matrix.T.flatten() for matrix in matrices]).half()
