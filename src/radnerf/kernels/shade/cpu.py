"""The head in training on CPU cores: no sample behind an opaque one is ever shaded.

One autograd function takes the place of HeadField's encoders and networks and of compositing. Rays
take a few samples a round; what the rounds compute lies row after row in buffers for backward. All
work is done by the loops beside this file. What depends on a frame or on a ray alone enters as a
term of its own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from radnerf.kernels.encodings import sh_encode
from radnerf.kernels.grid_encode.levels import GridLevels
from radnerf.kernels.tensors import HeadState, HeadTensors, odd_width, unsupported_grid
from radnerf.types import Rays, RenderOutput, Samples

AT_ONCE = (2, 2, 3)  # samples of a ray in the first rounds; the last round takes all that are left


def unsupported_reason(head: HeadTensors, rays: Rays) -> str | None:
    """Why a head cannot be shaded this way, if so."""
    if rays.origins.requires_grad or rays.directions.requires_grad:
        return "the cameras are trained too"
    return unsupported_grid([head]) or odd_width([head])


@torch.autocast("cpu", enabled=False)  # its own precisions are as good and as fast
def shade(
    head: HeadTensors, samples: Samples, rays: Rays, state: HeadState, stop: float
) -> RenderOutput:
    of_appearance = state.appearance @ head.color_of_appearance.T
    harmonics = sh_encode(rays.directions, head.sh_degree)
    sums, alpha, depth, weights = _Shade.apply(
        *_batch(head, samples, rays, state, stop),
        head.spatial.table,
        head.ambient.table,
        state.code.float() @ head.ambient_of_code.T,
        state.eye @ head.sigma_of_eye.T,
        torch.addmm(of_appearance.index_select(0, rays.frame), harmonics, head.color_of_view.T),
        head.ambient_of_spatial,
        head.ambient_hidden,
        head.coordinate,
        torch.cat([head.sigma_of_spatial, head.sigma_of_ambient, head.sigma_of_product], 1),
        head.sigma_hidden,
        head.density,
        head.color_of_sigma(),
        head.color,
    )
    return RenderOutput(sums[:, :3], alpha, sums[:, 3], depth, weights)


class _Shade(torch.autograd.Function):
    """Tables, then the terms of frames (audio, eyes) and rays (view), then matrices [out, in]."""

    @staticmethod
    def forward(
        ctx: Any, batch: Any, levels: tuple[GridLevels, ...], *learned: Tensor
    ) -> tuple[Tensor, ...]:
        from radnerf.kernels.dense import ROWS
        from radnerf.kernels.lookup import empty_grid
        from radnerf.kernels.numba_runtime import run_threads
        from radnerf.kernels.shade.networks import PHASES_A_ROUND, Shaded, forward
        from radnerf.kernels.workers import phases

        tables, terms, matrices = learned[:2], learned[2:5], learned[5:]
        m, grids = len(batch.t), [empty_grid(level) for level in levels]
        spatial, ambient = (level.n_levels for level in levels)
        net = _forward(terms, [matrix.detach() for matrix in matrices])
        entries = [table.detach().contiguous().numpy() for table in tables]
        per_round = np.array([*AT_ONCE, m], np.int64)
        rows = _rows(m, spatial * (1 + batch.product) + ambient, net.zeros.shape[1])
        n = len(batch.frame)
        shapes = (m,), (m, 4), (m,), (n, 4), (n,), (n,)
        shaded = Shaded(*(np.zeros(shape, np.float32) for shape in shapes))
        run_threads(
            forward, phases(2 + PHASES_A_ROUND * len(per_round)), per_round, batch, rows, net,
            *entries, *grids, np.zeros(n, np.int64), shaded,
        )  # fmt: skip
        end = rows.ends[-1]
        # Rows go on to whole blocks of them, which must add nothing.
        for activations in (rows.a1, rows.a2, rows.s1, rows.s2, rows.features.T):
            activations[end : end + ROWS] = 0
        ctx.kept = batch, grids, rows, shaded
        ctx.save_for_backward(*learned)
        outputs = shaded.sums, shaded.alpha, shaded.depth, shaded.weights
        return tuple(map(torch.from_numpy, outputs))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        from radnerf.kernels.dense import ROWS
        from radnerf.kernels.numba_runtime import run_threads
        from radnerf.kernels.shade.networks import Shaded, backward
        from radnerf.kernels.workers import phases

        batch, grids, rows, shaded = ctx.kept
        learned = list(ctx.saved_tensors)
        tables, terms, matrices = learned[:2], learned[2:5], learned[5:]
        padded, hidden = len(rows.sample), 2 * rows.c.shape[1]
        sums = _sums(tables, len(rows.features), hidden, len(terms[0]), len(batch.frame), grids)
        grad_c = np.empty((padded, hidden // 2 + 1), np.uint32)
        grad_c[rows.ends[-1] :][:ROWS] = 0
        of_sums, of_alpha, of_depth, of_weights = (u.contiguous().numpy() for u in upstream)
        grad_out = Shaded(
            density=np.empty_like(shaded.density),
            values=np.empty_like(shaded.values),
            weights=of_weights,
            sums=of_sums,
            alpha=of_alpha,
            depth=of_depth,
        )
        run_threads(
            backward, phases(3), batch, rows,
            _backward([matrix.detach() for matrix in matrices]), sums, *grids, shaded, grad_out,
            grad_c, *(np.empty((len(grid.scales), padded), np.uint32) for grid in reversed(grids)),
        )  # fmt: skip
        of_audio, of_eye, _ = terms
        to_ambient, ambient_hidden, to_coordinate, to_sigma = matrices[:4]
        sigma_hidden, to_density, to_color, to_rgb = matrices[4:]
        return (
            None,
            None,
            torch.from_numpy(sums.space),
            torch.from_numpy(sums.plane),
            _total(sums.of_audio)[:, : of_audio.shape[1]],
            _total(sums.of_eye)[:, : of_eye.shape[1]],
            torch.from_numpy(sums.of_view)[:, : len(to_color)],
            _of_inputs(sums.to_ambient, to_ambient),
            _of_hidden(sums.ambient_hidden, ambient_hidden),
            _of_last(sums.to_coordinate, to_coordinate),
            _of_inputs(sums.to_sigma, to_sigma),
            _of_hidden(sums.sigma_hidden, sigma_hidden),
            _of_last(sums.to_density, to_density),
            _of_hidden(sums.to_color, to_color),
            _of_last(sums.to_rgb, to_rgb),
        )


def _batch(
    head: HeadTensors, samples: Samples, rays: Rays, state: HeadState, stop: float
) -> tuple[Any, tuple[GridLevels, ...]]:
    """What a call works on, apart from what is learned, and the grids' levels."""
    from radnerf.kernels.shade.networks import Batch

    product = head.eye_product
    low, high = head.box
    batch = Batch(
        t=samples.t.numpy(),
        dt=samples.dt.numpy(),
        offsets=samples.offsets.numpy(),
        origins=rays.origins.contiguous().numpy(),
        directions=rays.directions.contiguous().numpy(),
        frame=rays.frame.contiguous().numpy(),
        low=low.numpy(),
        per_unit=(1 / (high - low)).numpy(),
        eye=(product * state.eye[:, 0]).detach().numpy(),
        product=product != 0,
        stop=np.float32(stop),
        opaque=np.float32(-math.log(stop)) if stop > 0 else np.float32(np.inf),
    )
    return batch, (head.spatial.levels, head.ambient.levels)


def _forward(terms: tuple[Tensor, ...], matrices: list[Tensor]) -> Any:
    """What networks.forward() multiplies with."""
    from radnerf.kernels.dense import packed
    from radnerf.kernels.shade.networks import Forward

    to_ambient, ambient_hidden, to_coordinate, to_sigma, sigma_hidden, density, color, rgb = (
        matrices
    )
    of_audio, of_eye, of_view = (_padded(term.detach()).contiguous().numpy() for term in terms)
    return Forward(
        to_ambient=packed(to_ambient),
        ambient_hidden=packed(ambient_hidden),
        to_coordinate=_padded(to_coordinate).numpy(),
        to_sigma=packed(to_sigma),
        sigma_hidden=packed(sigma_hidden),
        to_density=_padded(density).numpy(),
        to_color=packed(color),
        to_rgb=_padded(rgb).numpy(),
        zeros=np.zeros_like(of_audio[:1]),
        of_audio=of_audio,
        of_eye=of_eye,
        of_view=of_view,
    )


def _backward(matrices: list[Tensor]) -> Any:
    """What networks.backward() multiplies with."""
    from radnerf.kernels.dense import packed
    from radnerf.kernels.shade.networks import Backward

    to_ambient, ambient_hidden, to_coordinate, to_sigma, sigma_hidden, density, color, rgb = (
        matrices
    )
    return Backward(
        to_color=packed(torch.cat([_padded(color.T), density.T], 1)),
        sigma_hidden=packed(sigma_hidden.T),
        to_sigma=packed(to_sigma.T),
        ambient_hidden=packed(ambient_hidden.T),
        to_ambient=packed(to_ambient.T),
        to_coordinate=_by_halves(_padded(to_coordinate)),
        to_rgb=_by_halves(_padded(rgb)),
    )


def _rows(m: int, words: int, hidden: int) -> Any:
    """Buffers for so many samples, and for whole pieces of them."""
    from radnerf.kernels.shade.networks import PIECE, Rows

    padded = m + PIECE

    def layer() -> np.ndarray:
        return np.empty((padded, hidden // 2), np.uint32)

    return Rows(
        sample=np.empty(padded, np.int64),
        ray=np.zeros(padded, np.int64),
        frame=np.zeros(padded, np.int64),
        row=np.full(m, -1, np.int64),
        ends=np.zeros(len(AT_ONCE) + 1, np.int64),
        place=np.empty((3, padded), np.float32),
        coordinate=np.empty((2, padded), np.float32),
        point=np.empty((2, padded), np.float32),
        features=np.empty((words, padded), np.uint32),
        a1=layer(),
        a2=layer(),
        s1=layer(),
        s2=layer(),
        c=layer(),
        logarithm=np.empty(padded, np.float32),
    )


def _sums(
    tables: list[Tensor], words: int, hidden: int, n_frames: int, n_rays: int, grids: list[Any]
) -> Any:
    """Where networks.backward() adds up."""
    from radnerf.kernels.dense import ROWS
    from radnerf.kernels.shade.networks import PORTIONS, Sums

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros((PORTIONS, *shape), np.float32)

    inputs, spatial = (-(-n // ROWS) * ROWS for n in (2 * words, 2 * len(grids[0].scales)))
    return Sums(
        to_color=zeros(hidden, hidden),
        to_density=zeros(2, hidden // 2),
        sigma_hidden=zeros(hidden, hidden),
        to_sigma=zeros(inputs, hidden),
        ambient_hidden=zeros(hidden, hidden),
        to_ambient=zeros(spatial, hidden),
        to_coordinate=zeros(2, 2, hidden // 2),
        of_audio=zeros(n_frames, hidden),
        to_rgb=zeros(3, 2, hidden // 2),
        of_eye=zeros(n_frames, hidden),
        of_view=np.empty((n_rays, hidden), np.float32),
        space=np.empty(tables[0].shape, np.float32),
        plane=np.empty(tables[1].shape, np.float32),
    )


def _total(sums: np.ndarray) -> Tensor:
    """The portions' sums added up."""
    return torch.from_numpy(sums.sum(0))


def _by_halves(matrix: Float[Tensor, "o i"]) -> Float[np.ndarray, "o 2 half"]:
    """Even columns before odd ones."""
    return matrix.view(len(matrix), -1, 2).transpose(1, 2).contiguous().numpy()


def _in_order(values: Float[Tensor, "... h"]) -> Float[Tensor, "... h"]:
    """Hidden units that came evens first."""
    return values.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)


def _of_hidden(sums: np.ndarray, matrix: Tensor) -> Tensor:
    """Gradient of a matrix between hidden layers."""
    outputs, inputs = matrix.shape
    return _in_order(_in_order(_total(sums)).T)[:outputs, :inputs]


def _of_inputs(sums: np.ndarray, matrix: Tensor) -> Tensor:
    """Gradient of a first layer."""
    outputs, inputs = matrix.shape
    return _in_order(_total(sums))[:inputs, :outputs].T


def _of_last(sums: np.ndarray, matrix: Tensor) -> Tensor:
    """Gradient of a last layer."""
    outputs, inputs = matrix.shape
    return _in_order(_total(sums).reshape(outputs, -1))[:, :inputs]


def _padded(matrix: Float[Tensor, "o h"]) -> Float[Tensor, "o padded"]:
    """Hidden units filled up to whole vectors."""
    from radnerf.kernels.dense import LANES

    missing = -matrix.shape[1] % LANES
    return pad(matrix, (0, missing)) if missing else matrix
