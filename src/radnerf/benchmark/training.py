"""Steps of the head stage as it trains: forward, losses, backward, optimizer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from radnerf import kernels
from radnerf.audio.mouth import N_COEFFICIENTS
from radnerf.benchmark.portraits import Subject
from radnerf.benchmark.report import FAILED, Report, refuse
from radnerf.benchmark.timing import measure
from radnerf.experiment.build import build_stage
from radnerf.geometry.cameras import rays_through
from radnerf.geometry.rotations import head_pose_vector
from radnerf.heads import RadianceHead
from radnerf.kernels.march import march
from radnerf.modules.budget import Budget
from radnerf.modules.head import HeadModule
from radnerf.modules.stage import StageModule
from radnerf.types import Batch, Conditioning, Rays

SPEEDS = (
    "train.steps_per_s",
    "train.rays_per_s",
    "ratio_to_reference.train",
    "train.audio_driven_ms",
    "train.landmark_driven_ms",
    "ratio_to_reference.train_audio_driven",
)
FRACTIONS = {"audio-driven": 0.0, "landmark-driven": 1.0}  # of the steps that landmarks drive
LIMIT = 2e-2  # of the loss's relative error: 16-bit products


class BenchmarkedHead(HeadModule):
    """The head stage without a trainer and a clip around it."""

    @property
    def data(self) -> Any:
        generator = torch.Generator().manual_seed(0)
        n_frames = len(cast(RadianceHead, self.portrait.head).field.appearance)
        return SimpleNamespace(mouth=torch.randn(n_frames, N_COEFFICIENTS, generator=generator))

    @property
    def global_step(self) -> int:
        return 0


def benchmark_training(
    subject: Subject,
    conf: Path,
    backend: str,
    seconds: float,
    n_rays: int | None = None,
    refused: str | None = None,
) -> Report:
    """Steps and rays a second, and the ratio to plain torch of the same run.

    Some of the stage's steps are driven by mouths as landmarks show them, without the audio net:
    the speed is that of the mixture.

    Args:
        n_rays: of a step; None for as many as make the number of samples of the default config.
        refused: why no speed may be given, whatever the loss is.
    """
    with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
        config = compose("train")
    stage = config.model.stages.head
    module: Any = build_stage(
        config,
        "head",
        subject.portrait,
        Budget(steps=1000),
        _target_=f"{__name__}.BenchmarkedHead",
    ).to(subject.portrait.rest_code.device)
    module.setup("fit")
    optimizer = module.configure_optimizers()["optimizer"]
    for group in optimizer.param_groups:  # the same weights for all that is timed
        group["lr"] = 0.0
    samples = None if n_rays else int(stage.samples_per_step)
    batch = make_batch(subject, stage.sampling.n_frames, n_rays or stage.sampling.n_rays, samples)
    first, last = module.landmark_driven
    by_landmarks = (first + last) / 2

    def drive(name: str, fraction: float) -> Tensor:
        module.landmark_driven = (fraction, fraction)
        return step(module, optimizer, batch, name)

    steps = {
        f"{name}, {kind}": partial(drive, name, fraction)
        for name in (backend, "reference")
        for kind, fraction in FRACTIONS.items()
    }
    # Without dropout, both see the same.
    losses = {name: run() for name, run in steps.items()}
    ratios = [losses[f"{backend}, {kind}"] / losses[f"reference, {kind}"] for kind in FRACTIONS]
    error = float((torch.stack(ratios) - 1).abs().max())  # NaN, where one is
    report: Report = {"parity.train.loss": error, "train.rays_per_step": len(batch.xy)}
    if not error <= LIMIT:
        refused = f"{FAILED}: the loss's error {error:.2g} is above {LIMIT:g}"
        report["parity.train.loss.reason"] = refused
    if refused:
        return report | refuse(refused, *SPEEDS)
    subject.portrait.train()
    times = measure(steps, seconds, warm_up=1)
    subject.portrait.eval()
    ms = {name: timing.median for name, timing in times.items()}
    mean, reference = (
        by_landmarks * ms[f"{name}, landmark-driven"]
        + (1 - by_landmarks) * ms[f"{name}, audio-driven"]
        for name in (backend, "reference")
    )
    return report | {
        "train.steps_per_s": 1e3 / mean,
        "train.rays_per_s": len(batch.xy) * 1e3 / mean,
        "ratio_to_reference.train": reference / mean,
        "train.audio_driven_ms": ms[f"{backend}, audio-driven"],
        "train.landmark_driven_ms": ms[f"{backend}, landmark-driven"],
        "ratio_to_reference.train_audio_driven": ms["reference, audio-driven"]
        / ms[f"{backend}, audio-driven"],
    }


def step(
    module: StageModule, optimizer: torch.optim.Optimizer, batch: Batch, backend: str
) -> Tensor:
    """One training step; its loss."""
    kernels.set_backend(backend)
    loss, _ = module.loss(batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def make_batch(subject: Subject, n_frames: int, n_rays: int, n_samples: int | None) -> Batch:
    """Rays at the head through random pixels of the subject's cameras, with random colors.

    Args:
        n_rays: at most.
        n_samples: about so many are met; None does not care.
    """
    device = subject.portrait.rest_code.device
    generator = torch.Generator().manual_seed(0)
    height, width = subject.size
    poses = subject.poses[torch.linspace(0, len(subject.poses) - 1, n_frames).long()]
    frame = torch.randint(n_frames, (8 * n_rays,), generator=generator)
    uv = torch.rand(len(frame), 2, generator=generator) * torch.tensor([width, height])
    origins, directions = rays_through(poses, frame, uv, subject.focal, subject.centre)
    portrait = subject.portrait
    origins, directions = origins.to(device), directions.to(device)
    grid, marching = subject.head.grid, subject.head.marching
    met = march(
        origins, directions, grid.occupied, grid.box, marching.near, marching.step,
        marching.max_samples,
    )  # fmt: skip
    counts = met.offsets.diff()
    hits = (counts > 0).nonzero()[:, 0][:n_rays]
    if n_samples is not None:
        hits = hits[counts[hits].cumsum(0) <= n_samples]
    n = len(hits)
    rows = frame.to(device)[hits]
    order = rows.argsort()  # a batch goes frame by frame
    hits, rows = hits[order], rows[order]
    return Batch(
        rays=Rays(origins[hits], directions[hits], rows),
        xy=(uv.to(device)[hits] / torch.tensor([width, height], device=device)) * 2 - 1,
        target=torch.rand(n, 3, generator=generator).to(device),
        behind=torch.rand(n, 3, generator=generator).to(device),
        background=torch.zeros(n, 3, device=device),
        torso_alpha=torch.zeros(n, device=device),
        head=torch.ones(n, dtype=torch.bool, device=device),
        face=torch.rand(n, generator=generator).to(device) < 0.5,
        eyes=torch.zeros(n, dtype=torch.bool, device=device),
        conditioning=Conditioning(
            audio=torch.randn(n_frames, 8, 16, portrait.audio_net.dim, generator=generator).to(
                device
            ),
            eye=torch.ones(n_frames, device=device),
            pose=head_pose_vector(poses).to(device),
            index=torch.arange(n_frames, device=device) % len(subject.head.field.appearance),
            torso=torch.zeros(n_frames, 3, device=device),
        ),
    )
