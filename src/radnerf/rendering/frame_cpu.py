"""Frames on CPU cores without doing anything twice.

Rays walk through the occupancy grid once; a pool of rays takes a few samples each at a time, and
a ray that has become opaque leaves it for one that waits, so that no sample behind an opaque one
is ever shaded while the matrix products stay large. The colour network's first layer follows the
density network's last one without anything between them: they are one matrix here, and what
depends on the view alone is added once a ray. All buffers are made once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.ndimage import distance_transform_cdt
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
from radnerf.rendering.portrait import Portrait

TILE = 8  # pixels a side: neighbours in the image are neighbours in the pool
RAYS_AT_ONCE = 8192
SAMPLES_AT_ONCE = 2  # of a ray
POINTS_AT_ONCE = 8192  # of the torso
# Transmittance below which nothing behind is seen: half an 8-bit step.
STOP = 1 / 512
FAINT = 1e-4  # a weight whose colour cannot be seen
ROUND = 1024  # matrix products have few different sizes: torch prepares each one once

Image = UInt8[np.ndarray, "h w 3"]


def lacks(portrait: Portrait) -> str | None:
    """Why this renderer cannot draw a portrait, if so."""
    reason = BACKENDS["cpu"]((portrait.head_grid.value, next(portrait.parameters())))
    if reason is not None:
        return reason
    head, torso = portrait.head, portrait.torso
    for name, grid, dim in (
        ("spatial", head.spatial, 3), ("ambient", head.ambient, 2), ("torso", torso.grid, 2)
    ):  # fmt: skip
        if not isinstance(grid, GridEncoding):
            return f"the {name} encoder is no grid"
        if grid.levels.n_features != 2 or grid.levels.dim != dim:
            return f"the {name} grid is not of {dim} dimensions and 2 features"
    shapes = (head.ambient_net, 3), (head.sigma_net, 3), (head.color_net, 2)
    for net, depth in (*shapes, (torso.deform_net, 3), (torso.torso_net, 3)):
        if len(net.weights) != depth or any(len(weight) % 2 for weight in net.weights[:-1]):
            return "a network has other layers than the paper's"
    return None


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
        state = portrait.head.state(code[None].float(), torch.tensor([eye]), index)
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
        self.spatial, self.ambient = _Grid(field.spatial), _Grid(field.ambient)
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
        levels = max(field.spatial.levels.n_levels, field.ambient.levels.n_levels)
        self.scratch = _scratch(levels, in_task)

        # Rows of features: spatial, the constant 1 and 0, ambient.
        spatial, ambient = field.spatial.width, field.ambient.width
        self.features = _Pairs(rows, spatial + 2 + ambient)
        self.features.values[:, spatial] = 1
        ambient_net, sigma_net, color_net = (
            [weight.detach().float() for weight in net.weights]
            for net in (field.ambient_net, field.sigma_net, field.color_net)
        )
        self.shared = ambient_net[0][:, spatial:], sigma_net[0][:, spatial + ambient :]
        constant = torch.zeros(len(ambient_net[0]), 2)
        self.to_ambient = _Product([ambient_net[0][:, :spatial], constant], rows)
        self.ambient_hidden = _Product([ambient_net[1]], rows)
        self.to_coordinate = _by_halves(ambient_net[2])
        inputs = sigma_net[0]
        constant = torch.zeros(len(inputs), 2)
        self.to_sigma = _Product(
            [inputs[:, :spatial], constant, inputs[:, spatial : spatial + ambient]], rows
        )
        self.sigma_hidden = _Product([sigma_net[1]], rows)
        view = field.sh_degree**2
        geometry = len(sigma_net[2]) - 1
        colour = color_net[0][:, view : view + geometry] @ sigma_net[2][1:]
        spare = torch.zeros(1, colour.shape[1])  # pairs need an even number
        self.out = _Product([torch.cat([colour, sigma_net[2][:1], spare]).T], rows, transposed=True)
        first = color_net[0].reshape(-1, 2, color_net[0].shape[1]).transpose(0, 1).flatten(0, 1)
        self.of_view = first[:, :view].T.contiguous()
        self.of_appearance = first[:, view + geometry :]
        self.to_colour = _by_halves(color_net[1])
        self.view = _floats(n_rays, len(color_net[0]))

    def render(self, camera: np.ndarray, pose: Tensor, state: HeadState) -> None:
        from radnerf.kernels.frame import loops
        from radnerf.kernels.numba_runtime import run

        marching, spatial = self.marching, self.field.spatial.width
        self.to_ambient.constant(spatial, state.code[0] @ self.shared[0].T)
        self.to_sigma.constant(spatial, state.eye[0] @ self.shared[1].T)
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

        field = portrait.torso
        self.field = field
        self.grid = _Grid(field.grid)
        self.candidates = candidates
        self.chosen = np.zeros(len(candidates) + 1, np.int64)
        rows = -(-min(POINTS_AT_ONCE, max(1, len(candidates))) // ROUND) * ROUND
        self.rows = rows
        points = 2 + 4 * field.point_octaves
        deform, torso = (
            [weight.detach().float() for weight in net.weights]
            for net in (field.deform_net, field.torso_net)
        )
        grid = field.grid.width
        self.points = _floats(2, rows)
        self.scratch = _scratch(field.grid.levels.n_levels, CHUNK)
        # Rows: the encoded point, then the constant 1 and 0; the same behind the grid's features.
        self.encoded = _Pairs(rows, points + 2)
        self.encoded.values[:, points] = 1
        self.features = _Pairs(rows, grid + points + 2)
        self.columns = points, grid + points
        self.shared = deform[0][:, points:], torso[0][:, grid + points :]
        constants = torch.zeros(len(deform[0]), 2), torch.zeros(len(torso[0]), 2)
        self.to_deform = _Product([deform[0][:, :points], constants[0]], rows)
        self.deform_hidden = _Product([deform[1]], rows)
        self.to_offset = _by_halves(deform[2])
        self.to_torso = _Product([torso[0][:, : grid + points], constants[1]], rows)
        self.torso_hidden = _Product([torso[1]], rows)
        self.to_colour = _by_halves(torso[2])

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

    def __call__(self, rows: _Pairs, n: int) -> _Pairs:
        n = min(-(-n // ROUND) * ROUND, len(self.out.values))
        x, out = rows.values[:n, : len(self.matrix)], self.out.values[:n]
        if self.dtype == torch.bfloat16:
            torch.mm(x, self.matrix, out=out)
        else:  # no such products here: float32 between the loops
            out.copy_(x.float() @ self.matrix)
        return self.out


def steps_to_occupied(occupied: np.ndarray) -> UInt8[np.ndarray, "rx ry rz"]:
    """Cells to go, in any direction, to the next occupied one: 0 in an occupied cell."""
    distance = distance_transform_cdt(~occupied, "chessboard") if occupied.any() else None
    if distance is None:  # as far as it counts
        return np.full(occupied.shape, 255, np.uint8)
    return np.clip(distance, 0, 255).astype(np.uint8)


def _by_halves(matrix: Float[Tensor, "o i"]) -> Float[np.ndarray, "o 2 half"]:
    """Even columns before odd ones."""
    return matrix.view(len(matrix), -1, 2).transpose(1, 2).contiguous().numpy()


def _scratch(n_levels: int, in_task: int) -> tuple[np.ndarray, np.ndarray]:
    """What each thread of a loop writes to, see loops.encode_space."""
    from numba.core import config

    threads = int(config.NUMBA_NUM_THREADS)
    return _floats(threads, 3, in_task), np.zeros((threads, 8 + n_levels, in_task), np.uint32)


def _floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)
