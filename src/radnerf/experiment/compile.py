"""Compile the kernels before the clock of a training stage runs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from radnerf.data.datamodule import ClipDataModule
from radnerf.losses import distortion
from radnerf.modules.rays import PIECE
from radnerf.rendering.portrait import Portrait
from radnerf.runtime import ranks
from radnerf.runtime.devices import host_waits
from radnerf.types import Batch, to_device

RAYS, CELLS = 64, 8
TRIAL_S, TRIALS = 0.5, 3  # at least


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
        _call(trial, data, RAYS - 1, PIECE, precision)
    trial.head.carve(lambda points: torch.arange(len(points)) < CELLS)  # or it would take long
    trial.head.finalize(trial.rest_code[None], torch.ones(1, device=trial.rest_code.device))


def trial_seconds(
    portrait: Portrait,
    data: ClipDataModule,
    device: torch.device,
    n_rays: int,
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> float:
    """Seconds that a trial step takes here and now, after compile_ahead().

    That is a pass there and one back of an untrained portrait, whose rays end nowhere.

    Args:
        precision: the trainer's context of a step.
    """
    trial = deepcopy(portrait).to(device).eval()
    batch, jitter = _batch(data, n_rays, device)
    began = time.monotonic()
    took: list[float] = []
    while len(took) < TRIALS or time.monotonic() - began < TRIAL_S:
        start = time.monotonic()
        with ranks.alone(), precision():
            loss = _step(trial, batch, jitter, None)
        loss.backward()
        if host_waits(device):
            torch.get_device_module(device).synchronize()
        took.append(time.monotonic() - start)
    return statistics.median(took)


def _call(
    trial: Portrait,
    data: ClipDataModule,
    n_rays: int,
    capacity: int | None,
    precision: Callable[[], AbstractContextManager[Any]],
) -> None:
    device = trial.rest_code.device
    batch, jitter = _batch(data, n_rays, device)
    with ranks.alone():  # the others wait until this one is done
        with torch.no_grad():  # as between steps
            trial.head.before_step(trial.head_state(batch.conditioning), _generator(device))
            trial.torso.before_step(trial.torso_state(batch.conditioning), _generator(device))
        with precision():
            loss = _step(trial, batch, jitter, capacity)
        loss.backward()


def _batch(data: ClipDataModule, n_rays: int, device: torch.device) -> tuple[Batch, Tensor]:
    """Pixels of two frames, and where along their rays the samples are."""
    frames = torch.tensor([0, data.clip.n_train - 1])
    generator = torch.Generator().manual_seed(0)
    height, width = data.clip.size
    slot, row, column = (
        torch.randint(high, (n_rays,), generator=generator) for high in (2, height, width)
    )
    batch = to_device(data.gather(frames, slot, row, column), device)
    return batch, torch.full((n_rays,), 0.5, device=device)


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def _step(trial: Portrait, batch: Batch, jitter: Tensor, capacity: int | None) -> Tensor:
    """A loss of everything that is rendered."""
    driving = batch.conditioning
    state = trial.head_state(driving)
    head, samples = trial.head.render(batch.rays, state, jitter, capacity)
    with torch.no_grad():
        trial.head.after_render(head, samples, head.alpha > 2)  # nothing counts against any cell
    rgb, alpha = trial.torso.render(batch.xy, batch.rays.frame, trial.torso_state(driving))
    sums = [head.rgb, head.alpha, head.ambient, head.depth, rgb, alpha]
    if samples is not None and head.weights is not None:
        sums.append(distortion(head.weights, samples))
    return torch.stack([value.sum() for value in sums]).sum()
