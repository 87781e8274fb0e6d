"""Compile the kernels before the clock of a training stage runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from radnerf.data.datamodule import ClipDataModule
from radnerf.kernels.occupancy import raise_cells
from radnerf.modules.head import ROOM
from radnerf.rendering.head import distortion
from radnerf.rendering.portrait import Portrait
from radnerf.runtime.devices import host_waits
from radnerf.types import Batch, to_device

RAYS = 64


def compile_ahead(
    portrait: Portrait,
    data: ClipDataModule,
    device: torch.device | str,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> None:
    """Call, on a copy of a portrait, everything that training calls, on a few rays.

    Compiled code is kept on disk, so that this takes a moment from the second run on. Without it,
    the first run on a machine would spend a minute of its budget on compilers.

    Args:
        precision: the trainer's context of a step.
    """
    trial = deepcopy(portrait).to(device).eval()
    _call(trial, data, RAYS, None, precision)
    if host_waits(trial.rest_code.device):
        # Triton compiles anew for numbers of rays, and of samples, that 16 divides.
        _call(trial, data, RAYS - 1, ROOM, precision)


def _call(
    trial: Portrait,
    data: ClipDataModule,
    n_rays: int,
    room: int | None,
    precision: Callable[[], AbstractContextManager[Any]],
) -> None:
    device = trial.rest_code.device
    frames = torch.tensor([0, data.clip.n_train - 1])
    generator = torch.Generator().manual_seed(0)
    height, width = data.clip.size
    slot, row, column = (
        torch.randint(high, (n_rays,), generator=generator) for high in (2, height, width)
    )
    batch = to_device(data.gather(frames, slot, row, column), device)
    jitter = torch.full((n_rays,), 0.5, device=device)
    with torch.no_grad():  # as between steps
        state = trial.head_state(batch.conditioning)
        trial.head.density(trial.head_grid.box, slot.new_zeros(2, device=device), state)
        trial.torso_grid.occupied_at(batch.xy)
    with precision():
        loss = _step(trial, batch, jitter, room)
    loss.backward()


def _step(trial: Portrait, batch: Batch, jitter: Tensor, room: int | None) -> Tensor:
    """A loss of everything that is rendered."""
    driving = batch.conditioning
    state = trial.head_state(driving)
    head, samples = trial.render_head(batch.rays, state, jitter, room)
    # Not grid.observe(): it would wait for the processes that train together.
    value, cells = trial.head_grid.value.view(-1), samples.cell
    raise_cells(value, cells, head.weights.detach(), cells == 0, 1.0)
    rgb, alpha = trial.torso(batch.xy, batch.rays.frame, trial.torso_state(driving))
    sums = [head.rgb, head.alpha, head.ambient, head.depth, rgb, alpha]
    sums.append(distortion(head.weights, samples))
    return torch.stack([value.sum() for value in sums]).sum()
