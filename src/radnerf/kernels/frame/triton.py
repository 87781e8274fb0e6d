"""Frames on a GPU: two kernels, and a few small products for what the whole frame has.

On CUDA a frame's work is recorded once and replayed, so that the host only fills in the inputs.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from radnerf.kernels.frame.cells import steps_to_occupied
from radnerf.kernels.frame.scene import UNSEEN, Image, Scene
from radnerf.kernels.frame.triton_loops import WARPS, finish_kernel, head_kernel, tiles
from radnerf.kernels.grid_encode.triton import described
from radnerf.kernels.tensors import GridTensors, HeadTensors, TorsoTensors, unsupported_grid
from radnerf.kernels.triton_runtime import launch

LEAST = 16  # the narrowest matrix that tensor cores take
HARMONICS = 16


def unsupported_reason(scene: Scene) -> str | None:
    """Why a scene cannot be drawn this way, if so."""
    parts = scene.parts()
    if (reason := unsupported_grid(parts)) is not None:
        return reason
    for part in parts:
        for grid, _ in part.grids().values():
            if not _fits(grid.levels.n_outputs):
                n = grid.levels.n_outputs
                return f"a grid has {n} features, not a power of two from {LEAST} on"
        for width in part.hidden_widths():
            if not _fits(width):
                return f"a layer is {width} wide, not a power of two from {LEAST} on"
    return None


def _fits(width: int) -> bool:
    return width >= LEAST and width & (width - 1) == 0


class Renderer:
    """See FrameRenderer."""

    @torch.inference_mode()
    def __init__(self, scene: Scene) -> None:
        head, torso = scene.detached_parts()
        self.device = device = scene.occupied.device
        size = scene.camera.size
        self.inputs = _Inputs(head.ambient_of_code.shape[1], device)
        self.tracked = torso.tracked
        self.head, self.torso = _Head(head, scene), _Torso(torso, scene)
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
        self.inputs.fill(pose, code, eye, torso_motion if self.tracked else None)
        if behind is not None:
            self.head.render(self.inputs)
            color, transmittance = self.head.out.split((3, 1), 1)
            under = torch.from_numpy(behind).to(self.device).view(-1, 3).float() / 255
            image = (color + transmittance * under).clamp(0, 1) * 255
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

    def fill(self, pose: Tensor, code: Tensor, eye: float, motion: Tensor | None) -> None:
        self.pose.copy_(pose)
        self.code[0].copy_(code)
        self.eye.fill_(eye)
        if motion is None:
            self.motion.fill_(torch.nan)
        else:
            self.motion[0].copy_(motion)


class _Head:
    """Color and transmittance of every pixel."""

    def __init__(self, tensors: HeadTensors, scene: Scene) -> None:
        self.state, self.size = scene.head_state, scene.camera.size
        device = scene.occupied.device
        self.tensors = net = tensors
        self.of_product = net.scaled_product()
        self.spatial, self.ambient = _grid(net.spatial), _grid(net.ambient)
        harmonics = net.color_of_view.shape[1]
        self.matrices = _matrices(
            net.ambient_of_spatial,
            net.ambient_hidden,
            net.sigma_of_spatial,
            net.sigma_of_ambient,
            net.sigma_hidden,
            net.color_of_sigma(),
            pad(net.color_of_view, (0, HARMONICS - harmonics)),
        )
        first = net.ambient_of_spatial.numel() + net.ambient_hidden.numel()
        inputs = net.sigma_of_spatial.shape[1]
        self.of_spatial = self.matrices[first:].view(-1, len(net.sigma_hidden))[:inputs]
        self.rows = torch.cat([net.coordinate, net.density, net.color])
        self.biases = torch.zeros(3, len(net.sigma_hidden), device=device)
        self.box = scene.box.float().contiguous()
        self.empty = torch.from_numpy(steps_to_occupied(scene.occupied.cpu().numpy())).to(device)
        stop = max(UNSEEN, scene.stop)
        self.marching = float(scene.near), float(scene.step), scene.max_samples, stop
        focal, centre = scene.camera.focal, scene.camera.centre
        self.camera = float(focal), float(centre[0]), float(centre[1])
        self.out = torch.zeros(self.size[0] * self.size[1], 4, device=device)

    def render(self, inputs: _Inputs) -> None:
        net = self.tensors
        state = self.state(inputs.code, inputs.eye)
        torch.mm(state.code, net.ambient_of_code.T, out=self.biases[0:1])
        torch.mm(state.eye, net.sigma_of_eye.T, out=self.biases[1:2])
        self.of_spatial.copy_(torch.addcmul(net.sigma_of_spatial, self.of_product, state.eye).T)
        torch.mm(state.appearance, net.color_of_appearance.T, out=self.biases[2:3])
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

    def __init__(self, tensors: TorsoTensors, scene: Scene) -> None:
        self.state, self.size = scene.torso_state, scene.camera.size
        device = scene.occupied.device
        self.tensors = net = tensors
        self.grid = _grid(net.grid)
        # The width of an encoded point, filled up.
        self.encoded = max(LEAST, 1 << (net.deform_of_point.shape[1] - 1).bit_length())
        self.matrices = _matrices(
            pad(net.deform_of_point, (0, self.encoded - net.deform_of_point.shape[1])),
            net.deform_hidden,
            net.torso_of_grid,
            pad(net.torso_of_point, (0, self.encoded - net.torso_of_point.shape[1])),
            net.torso_hidden,
        )
        self.rows = torch.cat([net.offset.flatten(), net.color.flatten()])
        self.deform_bias = torch.zeros(1, len(net.deform_hidden), device=device)
        self.torso_bias = torch.zeros(1, len(net.torso_hidden), device=device)
        self.motion = torch.zeros(1, 3, device=device)
        self.candidates = scene.torso_pixels.to(torch.uint8)
        self.background = torch.from_numpy(scene.background).to(device).float() / 255

    def render(self, inputs: _Inputs, head: Tensor, image: Tensor) -> None:
        net = self.tensors
        state = self.state(inputs.pose)
        torch.where(inputs.motion.isnan(), state.motion, inputs.motion, out=self.motion)
        torch.mm(state.features, net.deform_of_frame.T, out=self.deform_bias)
        torch.mm(state.features, net.torso_of_frame.T, out=self.torso_bias)
        programs, high, wide = tiles(*self.size)
        launch(
            finish_kernel, programs,
            head, self.background, self.candidates, self.motion, float(net.shrink),
            net.point_octaves, UNSEEN, *self.grid, self.matrices, self.rows,
            self.deform_bias, self.torso_bias, image, *self.size,
            HIGH=high, WIDE=wide, E=self.encoded, L=len(self.grid[1]),
            HD=len(net.deform_hidden), HT=len(net.torso_hidden), num_warps=WARPS,
            enable_fp_fusion=True,
        )  # fmt: skip


def _grid(grid: GridTensors) -> tuple[Tensor, Tensor, Tensor]:
    """A grid's table as pairs of float16, its levels' scales and the rest that describes them."""
    scales, levels = described(grid.levels, grid.table.device)
    return grid.table.half().view(torch.int32).view(-1), scales, levels.T.contiguous()


def _matrices(*matrices: Float[Tensor, "_ _"]) -> Float[Tensor, " n"]:
    """Matrices [outputs, inputs] one after another as [inputs, outputs]."""
    return torch.cat([matrix.T.flatten() for matrix in matrices]).half()
