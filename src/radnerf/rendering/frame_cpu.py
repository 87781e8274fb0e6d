"""Frames on CPU cores without doing anything twice.

Rays walk through the occupancy grid once; a pool of rays takes a few samples each at a time, and
a ray that has become opaque leaves it for one that waits, so that no sample behind an opaque one
is ever shaded while the matrix products stay large. What depends on the view alone is added once
a ray. All buffers are made once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from radnerf.fields.encodings import GridEncoding
from radnerf.fields.head import HeadState
from radnerf.fields.torso import TorsoState
from radnerf.geometry.cameras import pixel_directions
from radnerf.geometry.rotations import head_pose_vector
from radnerf.kernels.dispatch import BACKENDS
from radnerf.kernels.encodings import sh_encode
from radnerf.kernels.grid_encode.cpu import described
from radnerf.kernels.mlp.cpu import matrix_dtype
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
from radnerf.rendering.head_parts import by_halves, evens_first, is_odd
from radnerf.rendering.portrait import Portrait

TILE = 8  # pixels a side: neighbours in the image are neighbours in the pool
RAYS_AT_ONCE = 8192
SAMPLES_AT_ONCE = 2  # of a ray
POINTS_AT_ONCE = 8192  # of the torso
FAINT = 1e-4  # a weight whose colour cannot be seen
ROUND = 1024  # matrix products have few different sizes: torch prepares each one once


def lacks(portrait: Portrait) -> str | None:
    """Why this renderer cannot draw a portrait, if so."""
    reason = BACKENDS["cpu"]((portrait.head_grid.value, next(portrait.parameters())))
    return reason or differs(portrait) or is_odd(networks(portrait))


class CpuFrameRenderer:
    """See rendering/frame.py."""

    @torch.inference_mode()
    def __init__(
        self,
        portrait: Portrait,
        focal: float,
        centre: tuple[float, float],
        size: tuple[int, int],
        background: Image,
    ) -> None:
        self.portrait = portrait
        self.size = size
        height, width = size
        row, column = np.divmod(np.arange(height * width), width)
        tile = (row // TILE) * (-(-width // TILE)) + column // TILE
        self.order = np.argsort(tile, kind="stable")
        uv = torch.from_numpy(np.stack([column, row], -1)[self.order] + 0.5).float()
        self.camera = pixel_directions(uv, focal, centre).numpy()
        xy = uv / torch.tensor([width, height]) * 2 - 1
        self.xy = xy.numpy()
        self.background = background.reshape(-1, 3)[self.order].astype(np.float32) / 255
        self.behind = self.background.copy()
        self.head = _Head(portrait, height * width)
        self.torso = _Torso(portrait, portrait.torso_grid.occupied_at(xy).nonzero()[:, 0].numpy())

    @torch.inference_mode()
    def __call__(
        self,
        pose: Float[Tensor, "4 4"],
        code: Float[Tensor, " d"],
        eye: float,
        torso_motion: Float[Tensor, " 3"] | None = None,
        behind: Image | None = None,
    ) -> Image:
        from radnerf.kernels.frame import loops
        from radnerf.kernels.numba_runtime import run

        portrait, index = self.portrait, torch.tensor([-1])
        state = portrait.head.state(code[None].float(), torch.tensor([eye]).float(), index)
        self.head.render(self.camera, pose, state)
        if behind is None:
            np.copyto(self.behind, self.background)
            motion = None if torso_motion is None else torso_motion[None]
            driven = portrait.torso.state(head_pose_vector(pose[None]), index, motion)
            self.torso.render(self.xy, self.head.light, driven, self.behind)
        else:
            np.divide(behind.reshape(-1, 3)[self.order], 255, out=self.behind, dtype=np.float32)
        image = np.empty((len(self.order), 3), np.uint8)
        run(loops.finish, self.head.colour, self.head.light, self.behind, self.order, image)
        return image.reshape(*self.size, 3)


class _Head:
    """Colour and remaining light of every ray."""

    def __init__(self, portrait: Portrait, n_rays: int) -> None:
        from radnerf.kernels.frame.loops import CHUNK, SLOTS

        self.marching = portrait.marching
        field = portrait.head
        low, high = field.box.numpy()
        self.to_unit = low, np.float32(1) / (high - low)
        encoders = grids(portrait)[:2]
        self.spatial, self.ambient = (_Grid(encoder) for encoder in encoders)
        self.field = field
        grid = portrait.head_grid
        corners, cells = grid.box.numpy(), np.array(grid.shape, np.float32)
        self.box = *corners, cells / (corners[1] - corners[0])
        self.empty = steps_to_occupied(grid.occupied.numpy())

        self.directions = _floats(n_rays, 3)
        self.found = _floats(n_rays, self.marching.max_samples)
        self.counts, self.hit = np.zeros(n_rays, np.int64), np.zeros(n_rays + 1, np.int64)
        self.light, self.colour = _floats(n_rays), _floats(n_rays, 3)

        slots = min(RAYS_AT_ONCE, n_rays)
        self.slots, self.cursor = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
        self.starts, self.state = np.zeros(slots + 1, np.int64), np.zeros(2, np.int64)
        rows = -(-slots * SAMPLES_AT_ONCE // ROUND) * ROUND
        in_task = max(SLOTS * SAMPLES_AT_ONCE, CHUNK)
        levels = max(encoder.levels.n_levels for encoder in encoders)
        self.scratch = _scratch(levels, in_task)

        # Rows of features: spatial, the constant 1 and 0, ambient.
        spatial, ambient = (encoder.width for encoder in encoders)
        self.features = _Pairs(rows, spatial + 2 + ambient)
        self.features.values[:, spatial] = 1
        net = HeadMatrices.of(field)
        constant = torch.zeros(len(net.ambient_hidden), 2)
        self.of_code, self.of_eye = net.ambient_of_code, net.sigma_of_eye
        self.of_spatial = net.sigma_of_spatial, net.sigma_of_product
        self.to_ambient = _Product([net.ambient_of_spatial, constant], rows)
        self.ambient_hidden = _Product([net.ambient_hidden], rows)
        self.to_coordinate = by_halves(net.coordinate)
        self.to_sigma = _Product([net.sigma_of_spatial, constant, net.sigma_of_ambient], rows)
        self.sigma_hidden = _Product([net.sigma_hidden], rows)
        spare = torch.zeros_like(net.density)  # pairs need an even number
        out = torch.cat([net.colour_of_sigma, net.density, spare])
        self.out = _Product([out.T], rows, transposed=True)
        self.of_view = evens_first(net.colour_of_view).T.contiguous()
        self.of_appearance = evens_first(net.colour_of_appearance)
        self.to_colour = by_halves(net.colour)
        self.view = _floats(n_rays, len(net.colour_of_view))

    def render(self, camera: np.ndarray, pose: Tensor, state: HeadState) -> None:
        from radnerf.kernels.frame import loops
        from radnerf.kernels.numba_runtime import run

        marching, spatial = self.marching, self.field.spatial.width
        self.to_ambient.constant(spatial, state.code[0] @ self.of_code.T)
        self.to_sigma.constant(spatial, state.eye[0] @ self.of_eye.T)
        self.to_sigma.block(0, torch.addcmul(*self.of_spatial, state.eye))
        run(
            loops.walk, camera, pose[:3].contiguous(), *self.box, self.empty,
            np.float32(marching.near), np.float32(marching.step),
            self.directions, self.found, self.counts,
        )  # fmt: skip
        run(loops.clear, self.counts, self.light, self.colour, self.hit)
        self._look(state)
        stop, step = np.float32(max(STOP, marching.stop)), np.float32(marching.step)
        self.state[:] = 0
        while True:
            run(
                loops.schedule, self.slots, self.cursor, self.state, self.hit, self.counts,
                self.light, stop, SAMPLES_AT_ONCE, self.starts,
            )  # fmt: skip
            n_slots = int(self.state[0])
            if not n_slots:
                break
            n = int(self.starts[n_slots])
            scheduled = self.slots, self.cursor, n_slots, self.starts
            run(
                loops.encode_space, *scheduled, self.found, pose[:3, 3].contiguous(),
                self.directions, *self.to_unit, *self.spatial.arrays, *self.scratch,
                self.features.pairs,
            )  # fmt: skip
            hidden = self.ambient_hidden(self.to_ambient(self.features, n).relu(n), n)
            run(
                loops.encode_ambient, hidden.pairs, n, self.to_coordinate, *self.ambient.arrays,
                *self.scratch, self.features.pairs, spatial // 2 + 1,
            )  # fmt: skip
            hidden = self.sigma_hidden(self.to_sigma(self.features, n).relu(n), n)
            out = self.out(hidden.relu(n), n)
            run(
                loops.absorb, *scheduled, out.pairs, self.view, self.to_colour, step, stop,
                np.float32(FAINT), self.light, self.colour,
            )  # fmt: skip

    def _look(self, state: HeadState) -> None:
        """What each ray that hits something adds to the colour's first layer."""
        hit = torch.from_numpy(self.hit)[1 : 1 + int(self.hit[0])]
        directions = torch.from_numpy(self.directions)[hit]
        term = torch.addmm(
            (state.appearance @ self.of_appearance.T)[0],
            sh_encode(directions, self.field.sh_degree),
            self.of_view,
        )
        torch.from_numpy(self.view).index_copy_(0, hit, term)


class _Torso:
    """The torso over the background, where its grid says so and the head lets it be seen."""

    def __init__(self, portrait: Portrait, candidates: np.ndarray) -> None:
        from radnerf.kernels.frame.loops import CHUNK

        field, encoder = portrait.torso, grids(portrait)[2]
        self.field = field
        self.grid = _Grid(encoder)
        self.candidates = candidates
        self.chosen = np.zeros(len(candidates) + 1, np.int64)
        rows = -(-min(POINTS_AT_ONCE, max(1, len(candidates))) // ROUND) * ROUND
        self.rows = rows
        points = 2 + 4 * field.point_octaves
        net = TorsoMatrices.of(field)
        grid = encoder.width
        self.points = _floats(2, rows)
        self.scratch = _scratch(encoder.levels.n_levels, CHUNK)
        # Rows: the encoded point, then the constant 1 and 0; the same behind the grid's features.
        self.encoded = _Pairs(rows, points + 2)
        self.encoded.values[:, points] = 1
        self.features = _Pairs(rows, grid + points + 2)
        self.columns = points, grid + points
        self.shared = net.deform_of_frame, net.torso_of_frame
        constants = [torch.zeros(len(shared), 2) for shared in self.shared]
        self.to_deform = _Product([net.deform_of_point, constants[0]], rows)
        self.deform_hidden = _Product([net.deform_hidden], rows)
        self.to_offset = by_halves(net.offset)
        self.to_torso = _Product([net.torso_of_grid, net.torso_of_point, constants[1]], rows)
        self.torso_hidden = _Product([net.torso_hidden], rows)
        self.to_colour = by_halves(net.colour)

    def render(
        self, xy: np.ndarray, light: np.ndarray, state: TorsoState, behind: np.ndarray
    ) -> None:
        from radnerf.kernels.frame import loops
        from radnerf.kernels.numba_runtime import run

        run(loops.needs_torso, self.candidates, light, np.float32(STOP), self.chosen)
        for product, shared, column in (
            (self.to_deform, self.shared[0], self.columns[0]),
            (self.to_torso, self.shared[1], self.columns[1]),
        ):
            product.constant(column, state.features[0] @ shared.T)
        shift, turn = state.motion[0, :2].contiguous(), state.motion[0, 2]
        for start in range(0, int(self.chosen[0]), self.rows):
            n = min(self.rows, int(self.chosen[0]) - start)
            run(
                loops.encode_points, xy, self.chosen, start, n, shift,
                np.float32(turn.cos()), np.float32(turn.sin()), np.float32(self.field.shrink),
                self.field.point_octaves, self.points, self.encoded.pairs,
            )  # fmt: skip
            hidden = self.deform_hidden(self.to_deform(self.encoded, n).relu(n), n)
            run(
                loops.encode_torso, hidden.pairs, n, self.to_offset, self.points,
                *self.grid.arrays, *self.scratch, self.encoded.pairs, self.features.pairs,
            )  # fmt: skip
            hidden = self.torso_hidden(self.to_torso(self.features, n).relu(n), n)
            run(loops.lay_torso, hidden.pairs, n, self.to_colour, self.chosen, start, behind)


class _Grid:
    """A grid's table as bfloat16 pairs, and its levels, as the loops want them."""

    def __init__(self, encoding: GridEncoding) -> None:
        pairs = encoding.table.detach().to(torch.bfloat16).contiguous().view(torch.int32)
        self.arrays: tuple[Any, ...] = (
            pairs.view(-1).numpy().view(np.uint32),
            *described(encoding.levels),
        )


class _Pairs:
    """Rows of bfloat16, for torch as `values`, for the loops as `pairs`."""

    def __init__(self, rows: int, columns: int) -> None:
        self.values = torch.zeros(rows, columns, dtype=torch.bfloat16)
        self.pairs = self.values.view(torch.int32).numpy().view(np.uint32)

    def relu(self, n: int) -> _Pairs:
        """Negative values of the first n rows become 0."""
        self.values[:n].relu_()
        return self


class _Product:
    """A matrix that rows are multiplied by, into rows of its own.

    Args:
        blocks: [outputs, inputs] side by side.
        rows: at most.
        transposed: the blocks are [inputs, outputs].
    """

    def __init__(self, blocks: list[Tensor], rows: int, transposed: bool = False) -> None:
        matrix = torch.cat(blocks, 1)
        self.dtype = matrix_dtype()
        self.matrix = (matrix if transposed else matrix.T).to(self.dtype).contiguous()
        self.out = _Pairs(rows, self.matrix.shape[1])

    def constant(self, column: int, bias: Float[Tensor, " o"]) -> None:
        """What the input column that is always 1 adds."""
        self.matrix[column] = bias.to(self.dtype)

    def block(self, column: int, block: Float[Tensor, "o i"]) -> None:
        """What the input columns from this one on are multiplied by."""
        self.matrix[column : column + block.shape[1]] = block.T.to(self.dtype)

    def __call__(self, rows: _Pairs, n: int) -> _Pairs:
        n = min(-(-n // ROUND) * ROUND, len(self.out.values))
        x, out = rows.values[:n, : len(self.matrix)], self.out.values[:n]
        if self.dtype == torch.bfloat16:
            torch.mm(x, self.matrix, out=out)
        else:  # no such products here: float32 between the loops
            out.copy_(x.float() @ self.matrix)
        return self.out


def _scratch(n_levels: int, in_task: int) -> tuple[np.ndarray, np.ndarray]:
    """What each thread of a loop writes to, see loops.encode_space."""
    from numba.core import config

    threads = int(config.NUMBA_NUM_THREADS)
    return _floats(threads, 3, in_task), np.zeros((threads, 8 + n_levels, in_task), np.uint32)


def _floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)
