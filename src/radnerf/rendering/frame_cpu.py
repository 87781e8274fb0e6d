"""Frames on CPU cores without doing anything twice: kernels/frame, and what it is told.

All buffers are made once; weights are put in the loops' order once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from radnerf.fields.encodings import GridEncoding
from radnerf.fields.head import HeadState
from radnerf.fields.torso import TorsoState
from radnerf.geometry.cameras import pixel_directions
from radnerf.geometry.rotations import head_pose_vector
from radnerf.kernels.dispatch import BACKENDS
from radnerf.rendering.frame_parts import (
    HeadMatrices,
    Image,
    TorsoMatrices,
    differs,
    grids,
    networks,
    occupied_blocks,
    steps_to_occupied,
)
from radnerf.rendering.head_parts import is_odd
from radnerf.rendering.portrait import Portrait

# A ray with so little light left is opaque: it takes the colour that it has.
OPAQUE = 1 / 64
# Light behind which nothing is seen, and what all of a ray's samples without a colour may weigh:
# half an 8-bit step.
UNSEEN, FAINT = 1 / 512, 1 / 512
BLOCK = 4  # cells a side, of what tiles of pixels are told about the occupancy grid


def lacks(portrait: Portrait) -> str | None:
    """Why this renderer cannot draw a portrait, if so."""
    reason = BACKENDS["cpu"]((portrait.head_grid.value, next(portrait.parameters())))
    reason = reason or differs(portrait) or is_odd(networks(portrait))
    if reason is None and not 1 <= portrait.head.sh_degree <= 4:
        reason = f"harmonics are of degree 1 to 4, not {portrait.head.sh_degree}"
    return reason


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
        from radnerf.kernels.frame.march import TILE

        self.portrait = portrait
        self.size = size
        height, width = size
        row, column = np.divmod(np.arange(height * width), width)
        tile = (row // TILE) * -(-width // TILE) + column // TILE
        self.order = np.argsort(tile, kind="stable")
        self.tiles = np.append(0, np.bincount(tile).cumsum()).astype(np.int64)
        uv = torch.from_numpy(np.stack([column, row], -1)[self.order] + 0.5).float()
        xy = uv / torch.tensor([width, height]) * 2 - 1
        self.camera = pixel_directions(uv, focal, centre).numpy()
        self.lens = np.float32(focal), *(np.float32(c) for c in centre), width, height
        self.xy = xy.numpy()
        self.background = background.reshape(-1, 3)[self.order]
        self.needed = portrait.torso_grid.occupied_at(xy).numpy()
        self.nowhere = np.zeros_like(self.needed)
        self.nearest, self.farthest = _floats(len(self.tiles) - 1), _floats(len(self.tiles) - 1)
        self.light, self.color = _floats(len(xy)), _floats(len(xy), 3)
        self.taken = np.zeros((2, 1), np.int64)
        self.head, self.torso = _Head(portrait), _Torso(portrait)

    @torch.inference_mode()
    def __call__(
        self,
        pose: Float[Tensor, "4 4"],
        code: Float[Tensor, " d"],
        eye: float,
        torso_motion: Float[Tensor, " 3"] | None = None,
        behind: Image | None = None,
    ) -> Image:
        from radnerf.kernels.frame.head import draw_head
        from radnerf.kernels.frame.march import cull
        from radnerf.kernels.frame.torso import draw_torso
        from radnerf.kernels.numba_runtime import run, share

        portrait, index = self.portrait, torch.tensor([-1])
        camera, head, torso = pose[:3].float().contiguous().numpy(), self.head, self.torso
        head.drive(portrait.head.state(code[None].float(), torch.tensor([eye]).float(), index))
        motion = None if torso_motion is None else torso_motion[None]
        torso.drive(portrait.torso.state(head_pose_vector(pose[None]), index, motion))
        needed, back = self.needed, self.background
        if behind is not None:
            needed, back = self.nowhere, behind.reshape(-1, 3)[self.order]
        image = np.empty((len(self.order), 3), np.uint8)
        marching, opaque = portrait.marching, np.float32(OPAQUE)
        self.taken[:] = 0
        run(cull, head.space, camera, *self.lens, self.nearest, self.farthest)
        share(
            draw_head, self.camera, camera, self.tiles, self.nearest, self.farthest,
            self.taken[0], head.space, head.spatial, head.ambient, head.net, head.pool,
            marching.max_samples, max(opaque, np.float32(marching.stop)), opaque,
            np.float32(FAINT / marching.max_samples), self.light, self.color,
        )  # fmt: skip
        share(
            draw_torso, self.xy, self.tiles, self.taken[1], torso.grid, torso.net, torso.pool,
            needed, np.float32(UNSEEN), self.light, self.color, back, self.order, image,
        )  # fmt: skip
        return image.reshape(*self.size, 3)


class _Head:
    """The head as the loops want it."""

    def __init__(self, portrait: Portrait) -> None:
        from radnerf.kernels.dense import packed
        from radnerf.kernels.frame.head import LAST, N_FLOATS, POOL, HeadNet, HeadPool
        from radnerf.kernels.frame.march import TILE, Space

        field, grid, marching = portrait.head, portrait.head_grid, portrait.marching
        occupied = grid.occupied.numpy()
        low, high = grid.box.numpy()
        cell = (high - low) / np.array(occupied.shape, np.float32)
        self.space = Space(
            low=low,
            high=high,
            per_unit=1 / cell,
            empty=steps_to_occupied(occupied),
            blocks=low + BLOCK * cell * occupied_blocks(occupied, BLOCK),
            extent=BLOCK * cell,
            near=np.float32(marching.near),
            step=np.float32(marching.step),
        )
        spatial, ambient, _ = grids(portrait)
        low, high = field.box.numpy()
        self.spatial, self.ambient = grid_arrays(spatial), grid_arrays(ambient)
        self.matrices = m = HeadMatrices.of(field)
        hidden = torch.from_numpy(_whole(m.colour_of_sigma))
        view = pad(m.colour_of_view, (0, m.colour_of_view.shape[1] % 2))
        self.net = HeadNet(
            low=low,
            per_unit=1 / (high - low),
            to_ambient=packed(m.ambient_of_spatial),
            ambient_hidden=packed(m.ambient_hidden),
            to_coordinate=_whole(m.coordinate),
            to_sigma=packed(torch.cat([m.sigma_of_spatial, m.sigma_of_ambient], 1)),
            sigma_hidden=packed(m.sigma_hidden),
            to_density=_whole(m.density),
            to_color=packed(torch.cat([hidden, view], 1)),
            to_rgb=_whole(m.colour),
            of_code=_padded(len(m.ambient_hidden)),
            of_eye=_padded(len(m.sigma_hidden)),
            of_nothing=_padded(len(m.sigma_hidden)),
            of_appearance=_padded(len(m.colour_of_view)),
            degree=field.sh_degree,
        )
        n = _workers()
        net = self.net
        words = max(m.shape[1] for m in (net.to_ambient, net.to_sigma, net.to_color)) // 2
        self.pool = HeadPool(
            waiting=_floats(n, LAST + 1, TILE**2),
            begin=np.zeros((n, 2, TILE**2), np.int32),
            around=_words(n, view.shape[1] // 2, TILE**2),
            scratch=_floats(n, max(3, view.shape[1]), TILE**2),
            ray=_ints(n, POOL),
            piece=_ints(n, POOL),
            left=_ints(n, POOL),
            floats=_floats(n, N_FLOATS, POOL),
            every=np.arange(POOL, dtype=np.int64),
            frame=_ints(POOL),
            lit=_ints(n, POOL),
            cell=_ints(n, POOL),
            place=_floats(n, 3, POOL),
            rows=_words(n, 8, POOL),
            wide=np.zeros((n, 4, POOL), np.uint64),
            features=_words(n, (spatial.width + ambient.width) // 2, POOL),
            first=_words(n, POOL, words),
            second=_words(n, POOL, words + view.shape[1] // 2),
        )

    def drive(self, state: HeadState) -> None:
        """Take in what a frame is driven by."""
        from radnerf.kernels.dense import packed

        net, m = self.net, self.matrices
        _fill(net.of_code[0], state.code[0] @ m.ambient_of_code.T)
        _fill(net.of_eye[0], state.eye[0] @ m.sigma_of_eye.T)
        _fill(net.of_appearance[0], state.appearance[0] @ m.colour_of_appearance.T)
        of_spatial = packed(torch.addcmul(m.sigma_of_spatial, m.sigma_of_product, state.eye))
        net.to_sigma[: len(of_spatial)] = of_spatial


class _Torso:
    """The torso as the loops want it."""

    def __init__(self, portrait: Portrait) -> None:
        from radnerf.kernels.dense import packed
        from radnerf.kernels.frame.torso import N_FLOATS, PIXELS, TorsoNet, TorsoPool

        field, encoder = portrait.torso, grids(portrait)[2]
        self.grid = grid_arrays(encoder)
        self.matrices = m = TorsoMatrices.of(field)
        self.net = TorsoNet(
            to_deform=packed(m.deform_of_point),
            deform_hidden=packed(m.deform_hidden),
            to_offset=_whole(m.offset),
            to_torso=packed(torch.cat([m.torso_of_grid, m.torso_of_point], 1)),
            torso_hidden=packed(m.torso_hidden),
            to_color=_whole(m.colour),
            deform_of_frame=_padded(len(m.deform_hidden)),
            torso_of_frame=_padded(len(m.torso_hidden)),
            deform_of_nothing=_padded(len(m.deform_hidden)),
            torso_of_nothing=_padded(len(m.torso_hidden)),
            motion=_floats(4),
            shrink=np.float32(field.shrink),
            octaves=field.point_octaves,
        )
        n = _workers()
        hidden = n, PIXELS, max(self.net.to_deform.shape[1], self.net.to_torso.shape[1]) // 2
        points = encoder.width + m.torso_of_point.shape[1]
        self.pool = TorsoPool(
            pixel=_ints(n, PIXELS),
            every=np.arange(PIXELS, dtype=np.int64),
            frame=_ints(PIXELS),
            floats=_floats(n, N_FLOATS, PIXELS),
            place=_floats(n, 2, PIXELS),
            rows=_words(n, 4, PIXELS),
            wide=np.zeros((n, 2, PIXELS), np.uint64),
            features=_words(n, points // 2, PIXELS),
            first=_words(*hidden),
            second=_words(*hidden),
        )

    def drive(self, state: TorsoState) -> None:
        """Take in what a frame is driven by."""
        net, m = self.net, self.matrices
        _fill(net.deform_of_frame[0], state.features[0] @ m.deform_of_frame.T)
        _fill(net.torso_of_frame[0], state.features[0] @ m.torso_of_frame.T)
        shift, turn = state.motion[0, :2], state.motion[0, 2:]
        _fill(net.motion, torch.cat([shift, turn.cos(), turn.sin()]))


def grid_arrays(encoding: GridEncoding) -> Any:
    """A grid as the loops want it."""
    from radnerf.kernels.lookup import empty_grid, fill

    grid = empty_grid(encoding.levels)
    fill(encoding.table.detach().contiguous().numpy(), grid)
    return grid


def _whole(matrix: Float[Tensor, "n o"]) -> Float[np.ndarray, "n padded"]:
    """A matrix with its outputs padded to whole vectors."""
    from radnerf.kernels.dense import LANES

    return pad(matrix, (0, -matrix.shape[1] % LANES)).contiguous().numpy()


def _padded(width: int) -> Float[np.ndarray, "1 padded"]:
    return _whole(torch.zeros(1, width))


def _fill(row: np.ndarray, values: Tensor) -> None:
    """The rest of the row stays."""
    row[: len(values)] = values.numpy()


def _workers() -> int:
    from numba.core import config

    return int(config.NUMBA_NUM_THREADS)


def _ints(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.int64)


def _floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def _words(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.uint32)
