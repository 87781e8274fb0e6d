"""Frames on CPU cores without doing anything twice: what the loops beside this file are told.

All buffers are made once; weights are put in the loops' order once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from radnerf.geometry.cameras import pixel_directions
from radnerf.kernels.frame.cells import occupied_blocks, steps_to_occupied
from radnerf.kernels.frame.scene import UNSEEN, Image, Scene
from radnerf.kernels.tensors import (
    GridTensors,
    HeadState,
    HeadTensors,
    TorsoState,
    TorsoTensors,
    odd_width,
    unsupported_grid,
)

# A ray with so little transmittance left is opaque: it takes the color that it has.
OPAQUE = 1 / 64
# What all of a ray's samples without a color may weigh: half an 8-bit step.
FAINT = 1 / 512
BLOCK = 4  # cells a side, of what tiles of pixels are told about the occupancy grid


def unsupported_reason(scene: Scene) -> str | None:
    """Why a scene cannot be drawn this way, if so."""
    parts = scene.parts()
    reason = unsupported_grid(parts) or odd_width(parts)
    if reason is None and not 1 <= parts[0].sh_degree <= 4:
        reason = f"harmonics are of degree 1 to 4, not {parts[0].sh_degree}"
    return reason


class Renderer:
    """See FrameRenderer."""

    @torch.inference_mode()
    def __init__(self, scene: Scene) -> None:
        from radnerf.kernels.frame.march import TILE

        self.scene = scene
        camera = scene.camera
        height, width = camera.size
        row, column = np.divmod(np.arange(height * width), width)
        tile = (row // TILE) * -(-width // TILE) + column // TILE
        self.order = np.argsort(tile, kind="stable")
        self.tiles = np.append(0, np.bincount(tile).cumsum()).astype(np.int64)
        uv = torch.from_numpy(np.stack([column, row], -1)[self.order] + 0.5).float()
        self.camera = pixel_directions(uv, camera.focal, camera.centre).numpy()
        self.lens = np.float32(camera.focal), *(np.float32(c) for c in camera.centre), width, height
        self.xy = (uv / torch.tensor([width, height]) * 2 - 1).numpy()
        self.background = scene.background.reshape(-1, 3)[self.order]
        self.needed = scene.torso_pixels.numpy()[self.order]
        self.no_torso = np.zeros_like(self.needed)
        self.nearest, self.farthest = _floats(len(self.tiles) - 1), _floats(len(self.tiles) - 1)
        self.transmittance, self.color = _floats(len(uv)), _floats(len(uv), 3)
        self.tiles_taken = np.zeros((2, 1), np.int64)
        head, torso = scene.detached_parts()
        self.head, self.torso = _Head(head, scene), _Torso(torso)

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
        from radnerf.kernels.numba_runtime import run, run_threads

        scene, head, torso = self.scene, self.head, self.torso
        camera = pose[:3].float().contiguous().numpy()
        head.drive(scene.head_state(code[None].float(), torch.tensor([eye]).float()))
        torso.drive(scene.torso_state(pose), torso_motion)
        needed, back = self.needed, self.background
        if behind is not None:
            needed, back = self.no_torso, behind.reshape(-1, 3)[self.order]
        image = np.empty((len(self.order), 3), np.uint8)
        opaque = np.float32(OPAQUE)
        self.tiles_taken[:] = 0
        run(cull, head.space, camera, *self.lens, self.nearest, self.farthest)
        run_threads(
            draw_head, self.camera, camera, self.tiles, self.nearest, self.farthest,
            self.tiles_taken[0], head.space, head.spatial, head.ambient, head.net, head.pool,
            scene.max_samples, max(opaque, np.float32(scene.stop)), opaque,
            np.float32(FAINT / scene.max_samples), self.transmittance, self.color,
        )  # fmt: skip
        run_threads(
            draw_torso, self.xy, self.tiles, self.tiles_taken[1], torso.grid, torso.net, torso.pool,
            needed, np.float32(UNSEEN), self.transmittance, self.color, back, self.order, image,
        )  # fmt: skip
        return image.reshape(*scene.camera.size, 3)


class _Head:
    """The head as the loops want it."""

    def __init__(self, tensors: HeadTensors, scene: Scene) -> None:
        from radnerf.kernels.dense import packed
        from radnerf.kernels.frame.head import LAST, N_FLOATS, POOL, HeadNet, HeadPool
        from radnerf.kernels.frame.march import TILE, Space

        occupied = scene.occupied.numpy()
        low, high = scene.box.numpy()
        cell = (high - low) / np.array(occupied.shape, np.float32)
        self.space = Space(
            low=low,
            high=high,
            per_unit=1 / cell,
            empty=steps_to_occupied(occupied),
            blocks=low + BLOCK * cell * occupied_blocks(occupied, BLOCK),
            extent=BLOCK * cell,
            near=np.float32(scene.near),
            step=np.float32(scene.step),
        )
        low, high = tensors.box.numpy()
        self.spatial, self.ambient = grid_arrays(tensors.spatial), grid_arrays(tensors.ambient)
        self.tensors = m = tensors
        hidden = torch.from_numpy(_whole(m.color_of_sigma()))
        self.of_product = m.scaled_product()
        view = pad(m.color_of_view, (0, m.color_of_view.shape[1] % 2))
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
            to_rgb=_whole(m.color),
            of_code=_padded(len(m.ambient_hidden)),
            of_eye=_padded(len(m.sigma_hidden)),
            zeros=_padded(len(m.sigma_hidden)),
            of_appearance=_padded(len(m.color_of_view)),
            degree=m.sh_degree,
        )
        n = _workers()
        net = self.net
        words = max(m.shape[1] for m in (net.to_ambient, net.to_sigma, net.to_color)) // 2
        self.pool = HeadPool(
            waiting=_floats(n, LAST + 1, TILE**2),
            begin=np.zeros((n, 2, TILE**2), np.int32),
            view_pairs=_words(n, view.shape[1] // 2, TILE**2),
            scratch=_floats(n, max(3, view.shape[1]), TILE**2),
            ray=_ints(n, POOL),
            piece=_ints(n, POOL),
            left=_ints(n, POOL),
            floats=_floats(n, N_FLOATS, POOL),
            numbers=np.arange(POOL, dtype=np.int64),
            frame=_ints(POOL),
            visible=_ints(n, POOL),
            cell=_ints(n, POOL),
            place=_floats(n, 3, POOL),
            rows=_words(n, 8, POOL),
            wide=np.zeros((n, 4, POOL), np.uint64),
            features=_words(n, m.spatial.levels.n_levels + m.ambient.levels.n_levels, POOL),
            first=_words(n, POOL, words),
            second=_words(n, POOL, words + view.shape[1] // 2),
        )

    def drive(self, state: HeadState) -> None:
        """Take in what a frame is driven by."""
        from radnerf.kernels.dense import packed

        net, m = self.net, self.tensors
        _fill(net.of_code[0], state.code[0] @ m.ambient_of_code.T)
        _fill(net.of_eye[0], state.eye[0] @ m.sigma_of_eye.T)
        _fill(net.of_appearance[0], state.appearance[0] @ m.color_of_appearance.T)
        of_spatial = packed(torch.addcmul(m.sigma_of_spatial, self.of_product, state.eye))
        net.to_sigma[: len(of_spatial)] = of_spatial


class _Torso:
    """The torso as the loops want it."""

    def __init__(self, tensors: TorsoTensors) -> None:
        from radnerf.kernels.dense import packed
        from radnerf.kernels.frame.torso import N_FLOATS, PIXELS, TorsoNet, TorsoPool

        self.grid = grid_arrays(tensors.grid)
        self.tensors = m = tensors
        self.net = TorsoNet(
            to_deform=packed(m.deform_of_point),
            deform_hidden=packed(m.deform_hidden),
            to_offset=_whole(m.offset),
            to_torso=packed(torch.cat([m.torso_of_grid, m.torso_of_point], 1)),
            torso_hidden=packed(m.torso_hidden),
            to_color=_whole(m.color),
            deform_of_frame=_padded(len(m.deform_hidden)),
            torso_of_frame=_padded(len(m.torso_hidden)),
            deform_zeros=_padded(len(m.deform_hidden)),
            torso_zeros=_padded(len(m.torso_hidden)),
            motion=_floats(4),
            shrink=np.float32(m.shrink),
            octaves=m.point_octaves,
        )
        n = _workers()
        hidden = n, PIXELS, max(self.net.to_deform.shape[1], self.net.to_torso.shape[1]) // 2
        points = m.grid.levels.n_outputs + m.torso_of_point.shape[1]
        self.pool = TorsoPool(
            pixel=_ints(n, PIXELS),
            numbers=np.arange(PIXELS, dtype=np.int64),
            frame=_ints(PIXELS),
            floats=_floats(n, N_FLOATS, PIXELS),
            place=_floats(n, 2, PIXELS),
            rows=_words(n, 4, PIXELS),
            wide=np.zeros((n, 2, PIXELS), np.uint64),
            features=_words(n, points // 2, PIXELS),
            first=_words(*hidden),
            second=_words(*hidden),
        )

    def drive(self, state: TorsoState, motion: Tensor | None) -> None:
        """Take in what a frame is driven by; a motion in place of the predicted one."""
        net, m = self.net, self.tensors
        _fill(net.deform_of_frame[0], state.features[0] @ m.deform_of_frame.T)
        _fill(net.torso_of_frame[0], state.features[0] @ m.torso_of_frame.T)
        moved = motion if motion is not None and m.tracked else state.motion[0]
        shift, rotation = moved.split([2, 1])
        _fill(net.motion, torch.cat([shift, rotation.cos(), rotation.sin()]))


def grid_arrays(grid: GridTensors) -> Any:
    """A grid as the loops want it."""
    from radnerf.kernels.lookup import empty_grid, fill

    arrays = empty_grid(grid.levels)
    fill(grid.table.detach().contiguous().numpy(), arrays)
    return arrays


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
