"""The head's samples in training on CPU cores: no sample behind an opaque one is ever shaded.

One autograd function takes the place of the encoders, networks and encodings of HeadField. Rays
take a few samples a round; what the rounds compute lies row after row in buffers that the backward
pass multiplies at once. Between the matrix products, which are torch's own, run the loops of
kernels/shade. What depends on a frame or on a ray alone enters as a term of its own.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from radnerf import kernels
from radnerf.fields.head import HeadField, HeadState
from radnerf.kernels.dispatch import AUTO, BACKENDS
from radnerf.kernels.encodings import sh_encode
from radnerf.kernels.grid_encode.cpu import described
from radnerf.kernels.grid_encode.levels import GridLevels
from radnerf.kernels.mlp.cpu import matrix_dtype
from radnerf.rendering.head_parts import (
    by_halves,
    coordinate,
    evens_first,
    head_differs,
    head_grids,
    head_networks,
    is_odd,
)
from radnerf.types import FieldOutput, Rays, Samples

log = logging.getLogger(__name__)
_logged: set[str | None] = set()

AT_ONCE = (3, 2, 3)  # samples of a ray in the first rounds; the last round takes all that are left
ROUND = 1024  # matrix products have few different sizes: torch prepares each one once


def can_shade(field: HeadField, rays: Rays) -> bool:
    """Whether a head can be shaded this way; else its operators run one by one."""
    reason = lacks(field, rays)
    if reason not in _logged:
        _logged.add(reason)
        how = f"operator by operator ({reason})" if reason else "as one"
        log.info("kernels: the head is shaded %s", how)
    return reason is None


def lacks(field: HeadField, rays: Rays) -> str | None:
    """Why a head cannot be shaded this way, if so."""
    chosen = kernels.get_backend()
    if chosen not in (AUTO, "cpu"):
        return f"kernels={chosen}"
    reason = BACKENDS["cpu"]((rays.origins, next(field.parameters())))
    reason = reason or head_differs(field) or is_odd(head_networks(field))
    if reason is None and (rays.origins.requires_grad or rays.directions.requires_grad):
        reason = "the cameras are trained too"
    return reason


def shade(
    field: HeadField, samples: Samples, rays: Rays, state: HeadState, stop: float
) -> FieldOutput:
    """Density, colour and audio coordinate of the samples; those behind an opaque one are 0.

    Args:
        state: rows that rays.frame refers to.
        stop: transmittance below which a ray is opaque.
    """
    (ambient, _), (sigma, _), (color, _) = head_networks(field)
    a, s, c = list(ambient.weights), list(sigma.weights), list(color.weights)
    spatial, point, view = field.spatial.width, sigma.point_dim, field.sh_degree**2
    # The colour's first layer follows the density's last one without anything between them.
    of_geometry = c[0][:, view : color.point_dim] @ s[2][1:]
    spare = torch.zeros_like(s[2][:1])  # pairs need an even number
    of_appearance = state.appearance @ evens_first(c[0][:, color.point_dim :]).T
    harmonics = sh_encode(rays.directions, field.sh_degree)
    density, rgb, moved = _Shade.apply(
        _Task(field, samples, rays, state, stop),
        *(grid.table for grid in head_grids(field)),
        state.code @ evens_first(a[0][:, spatial:]).T,
        state.eye @ evens_first(s[0][:, point:]).T,
        torch.addmm(of_appearance[rays.frame], harmonics, evens_first(c[0][:, :view]).T),
        a[0][:, :spatial],
        a[1],
        a[2],
        s[0][:, :point],
        s[1],
        torch.cat([of_geometry, s[2][:1], spare]),
        c[1],
    )
    return FieldOutput(density, rgb, moved)


class _Task:
    """What a call works on, apart from what is learned."""

    def __init__(
        self, field: HeadField, samples: Samples, rays: Rays, state: HeadState, stop: float
    ) -> None:
        self.t, self.dt, self.offsets = samples.t, samples.dt, samples.offsets
        self.origins, self.directions = rays.origins.contiguous(), rays.directions.contiguous()
        self.frame = rays.frame
        product = coordinate(field).eye_product
        self.product = product != 0
        self.eye = (product * state.eye[:, 0]).detach()
        low, high = field.box
        self.to_unit = low, 1 / (high - low)
        self.opaque = np.float32(-math.log(stop)) if stop > 0 else np.float32(np.inf)
        self.levels = tuple(grid.levels for grid in head_grids(field))


class _Shade(torch.autograd.Function):
    """Tables, then the terms of frames (audio, eyes) and rays (view), then matrices [out, in].

    Terms have their even columns first.
    """

    @staticmethod
    def forward(ctx: Any, task: _Task, *learned: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from radnerf.kernels.numba_runtime import run
        from radnerf.kernels.shade import loops

        tables, terms, matrices = learned[:2], learned[2:5], learned[5:]
        of_audio, of_eye, of_view = (term.detach().contiguous() for term in terms)
        to_ambient, ambient_hidden, to_coordinate, to_sigma, sigma_hidden, to_out, to_colour = (
            matrix.detach() for matrix in matrices
        )
        m, n = len(task.t), len(task.origins)
        rows = -(-m // ROUND) * ROUND
        spatial, ambient = (levels.n_levels for levels in task.levels)  # in pairs
        entries = [_wide(table) for table in tables]
        levels = [described(level) for level in task.levels]
        scratch, dealt = _scratch(ambient), _dealt(spatial)
        density, rgb, moved = torch.zeros(m), torch.zeros(m, 3), torch.zeros(m, 2)
        features = _rows(rows, to_sigma.shape[1])
        a1, a2 = _rows(rows, len(to_ambient)), _rows(rows, len(ambient_hidden))
        s1, s2 = _rows(rows, len(to_sigma)), _rows(rows, len(sigma_hidden))
        out = _rows(rows, len(to_out))
        place, at, xy = (torch.empty(width, rows) for width in (3, 2, 2))
        solid = _unsigned(torch.empty(spatial, rows, dtype=torch.int32))
        frame, sample, ray = (torch.empty(rows, dtype=torch.long) for _ in range(3))
        row = torch.full((m,), -1)
        state = torch.zeros(1, dtype=torch.long)
        taken = torch.zeros(n, dtype=torch.long)
        last_ambient, last_colour = by_halves(to_coordinate), by_halves(to_colour)
        weights = [
            matrix.T.to(matrix_dtype()).contiguous()
            for matrix in (to_ambient, ambient_hidden, to_sigma, sigma_hidden, to_out)
        ]
        for at_once in (*AT_ONCE, m):
            begin = int(state)
            run(
                loops.schedule, task.offsets, task.dt, density, task.opaque, at_once, state,
                taken, sample, ray, row,
            )  # fmt: skip
            end = int(state)
            part = slice(begin, min(rows, begin + -(-(end - begin) // ROUND) * ROUND))
            features[end : end + ROUND] = 0
            run(
                loops.locate, begin, end, sample, ray, task.t, task.origins, task.directions,
                task.frame, *task.to_unit, place, frame,
            )  # fmt: skip
            run(loops.encode_space, begin, end, place, entries[0], *dealt, *levels[0], solid)
            run(loops.lay_out, begin, end, solid, frame, task.eye, task.product, _pairs(features))
            _multiply(features[part, : 2 * spatial], weights[0], a1[part])
            run(loops.rectify, begin, end, _pairs(a1), of_audio, frame)
            _multiply(a1[part], weights[1], a2[part]).relu_()
            run(
                loops.encode_ambient, begin, end, _pairs(a2), last_ambient, sample,
                entries[1], *levels[1], *scratch, at, xy, _pairs(features), spatial, moved,
            )  # fmt: skip
            _multiply(features[part], weights[2], s1[part])
            run(loops.rectify, begin, end, _pairs(s1), of_eye, frame)
            _multiply(s1[part], weights[3], s2[part]).relu_()
            _multiply(s2[part], weights[4], out[part])
            run(
                loops.colour, begin, end, _pairs(out), of_view, last_colour, sample, ray,
                density, rgb,
            )  # fmt: skip
        ctx.task, ctx.n_rows, ctx.n_frames = task, end, len(of_audio)
        for activations in (a1, a2, s1, s2):
            activations[end : end + ROUND] = 0
        ctx.arrays = (last_ambient, last_colour), (place, at, xy, frame, sample, row)
        ctx.save_for_backward(*tables, features, a1, a2, s1, s2, out, rgb, *weights)
        return density, rgb, moved

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        from radnerf.kernels.numba_runtime import run
        from radnerf.kernels.shade import loops

        task, n = ctx.task, ctx.n_rows
        space, plane, features, a1, a2, s1, s2, out, rgb, *weights = ctx.saved_tensors
        to_ambient, ambient_hidden, to_sigma, sigma_hidden, to_out = weights
        (last_ambient, last_colour), (place, at, xy, frame, sample, row) = ctx.arrays
        of_density, of_rgb, of_moved = (gradient.contiguous() for gradient in upstream)
        spatial, ambient = (levels.n_levels for levels in task.levels)
        levels = [described(level) for level in task.levels]
        threads = _threads()
        part = slice(0, min(len(features), -(-n // ROUND) * ROUND))

        slope = torch.zeros_like(out[part])
        of_view = torch.empty(len(task.origins), len(last_colour[0, 0]) * 2)
        of_last_colour = np.zeros((threads, *last_colour.shape), np.float32)
        run(
            loops.of_colour, task.offsets, row, _pairs(out), last_colour, rgb, of_density,
            of_rgb, _pairs(slope), of_view, of_last_colour,
        )  # fmt: skip
        of_out = _product(slope.T, s2[part])
        slope = _product(slope, to_out.T)
        run(loops.of_rectify, n, _pairs(s2), _pairs(slope))
        of_sigma_hidden = _product(slope.T, s1[part])
        slope = _product(slope, sigma_hidden.T)
        of_eye = np.zeros((threads, ctx.n_frames, len(sigma_hidden)), np.float32)
        run(loops.of_biased, n, _pairs(s1), frame, _pairs(slope), of_eye)
        of_to_sigma = _product(slope.T, features[part])
        of_features = _product(slope, to_sigma.T)

        slope = torch.zeros_like(a2[part])
        flat = torch.empty(ambient, len(slope), dtype=torch.int32)
        of_last_ambient = np.zeros((threads, *last_ambient.shape), np.float32)
        run(
            loops.of_ambient, n, sample, of_moved, at, xy, _pairs(a2), last_ambient, _wide(plane),
            *levels[1], *_scratch(0), _pairs(of_features), spatial, _unsigned(flat),
            _pairs(slope), of_last_ambient,
        )  # fmt: skip
        of_ambient_hidden = _product(slope.T, a1[part])
        slope = _product(slope, ambient_hidden.T)
        of_audio = np.zeros((threads, ctx.n_frames, len(ambient_hidden)), np.float32)
        run(loops.of_biased, n, _pairs(a1), frame, _pairs(slope), of_audio)
        of_to_ambient = _product(slope.T, features[part, : 2 * spatial])
        of_coordinate = _product(slope, to_ambient.T)

        solid = torch.empty(spatial, len(slope), dtype=torch.int32)
        run(
            loops.of_space, n, _pairs(of_features), _pairs(of_coordinate), frame, task.eye,
            task.product, _unsigned(solid),
        )  # fmt: skip
        return (
            None,
            _scattered(loops.scatter_space, n, place, solid, task.levels[0], space.shape),
            _scattered(loops.scatter_plane, n, xy, flat, task.levels[1], plane.shape),
            torch.from_numpy(of_audio.sum(0)),
            torch.from_numpy(of_eye.sum(0)),
            of_view,
            of_to_ambient.float(),
            of_ambient_hidden.float(),
            _from_halves(of_last_ambient),
            of_to_sigma.float(),
            of_sigma_hidden.float(),
            of_out.float(),
            _from_halves(of_last_colour),
        )


def _scattered(
    loop: Any, n: int, place: Tensor, upstream: Tensor, levels: GridLevels, shape: torch.Size
) -> Tensor:
    """Gradient of a table [entries, 2] from that of its features, upstream [L, rows]: pairs."""
    from radnerf.kernels.numba_runtime import run

    order, copies = _dealt(levels.n_levels)
    gradients = torch.zeros(copies, shape.numel())
    run(loop, n, place, _unsigned(upstream), order, *described(levels), gradients)
    return (gradients[0] if copies == 1 else gradients.sum(0)).view(shape)


def _dealt(levels: int) -> tuple[np.ndarray, int]:
    """The order in which tasks own levels, and how many share one: see loops.encode_space."""
    from radnerf.kernels.numba_runtime import threads

    # More threads than levels: each group of levels gets a share of the rows, and a copy.
    copies = -(-threads() // levels)
    # Neighbouring levels cost alike: deal them to the threads in turn.
    tasks = np.arange(copies * levels)
    order = np.concatenate([tasks[first :: threads()] for first in range(threads())])
    return order, copies


def _multiply(x: Tensor, matrix: Tensor, out: Tensor) -> Tensor:
    """x @ matrix into out; where the processor has no 16-bit products, in float32."""
    if matrix.dtype == out.dtype:
        return torch.mm(x, matrix, out=out)
    return out.copy_(x.float() @ matrix)


def _product(x: Tensor, y: Tensor) -> Tensor:
    """x @ y, rounded to 16 bits."""
    if matrix_dtype() == torch.bfloat16:
        return x @ y
    return (x.float() @ y.float()).bfloat16()


def _rows(rows: int, columns: int) -> Tensor:
    return torch.empty(rows, columns, dtype=torch.bfloat16)


def _pairs(rows: Tensor) -> np.ndarray:
    """Rows of bfloat16 as the loops want them."""
    return rows.view(torch.int32).numpy().view(np.uint32)


def _unsigned(pairs: Tensor) -> np.ndarray:
    return pairs.numpy().view(np.uint32)


def _wide(table: Tensor) -> np.ndarray:
    """A table's rows of two float32 as one number of 64 bits each."""
    return table.detach().contiguous().view(torch.int64)[:, 0].numpy().view(np.uint64)


def _from_halves(sums: Float[np.ndarray, "threads o 2 half"]) -> Float[Tensor, "o i"]:
    """The threads' sums added up, with columns in order again."""
    return torch.from_numpy(sums.sum(0)).transpose(1, 2).flatten(1)


def _threads() -> int:
    from numba.core import config

    return int(config.NUMBA_NUM_THREADS)


def _scratch(levels: int) -> tuple[np.ndarray, np.ndarray]:
    """What each thread of a loop writes to, see loops.encode_ambient."""
    from radnerf.kernels.shade.loops import CHUNK

    shape = _threads(), 8 + levels, CHUNK
    return np.empty(shape, np.uint32), np.empty((shape[0], 4, CHUNK), np.uint64)
