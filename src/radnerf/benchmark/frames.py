"""Whole frames: head, torso and background, to 8-bit pixels in the machine's memory."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from radnerf import kernels
from radnerf.benchmark.portraits import Subject
from radnerf.benchmark.report import FAILED, SIZE_KEYS, Report, refuse
from radnerf.benchmark.timing import measure
from radnerf.geometry.cameras import rays_through
from radnerf.kernels.march import march
from radnerf.rendering.frame import FrameRenderer, Image, PlainFrameRenderer, frame_renderer

MIN_PSNR = 45.0  # dB, of a fast frame against the reference
LEAST_FRAMES = 10  # fewer have no 95th percentile to speak of


class Frames:
    """The frames of a subject, one after another, by one renderer and back end."""

    def __init__(self, subject: Subject, side: int, backend: str) -> None:
        self.subject, self.backend = subject, backend
        kernels.set_backend(backend)
        make: Any = PlainFrameRenderer if backend == "reference" else frame_renderer
        self.renderer: FrameRenderer = make(subject.portrait, *subject.view(side))
        self.count = itertools.count()

    def draw(self, i: int) -> Image:
        """Frame i: other poses than the one before, as in a video."""
        subject = self.subject
        kernels.set_backend(self.backend)
        frame = 7 * i % len(subject.poses)
        code = subject.codes[i % len(subject.codes)]
        return self.renderer(subject.poses[frame], code, float(subject.eye[frame]))

    def next(self) -> Image:
        return self.draw(next(self.count))


def benchmark_frames(
    subject: Subject,
    backend: str,
    seconds: float,
    sizes: tuple[int, ...],
    refused: str | None = None,
) -> Report:
    """Parity, frames a second, latency, and the ratio to plain torch of the same run.

    Args:
        seconds: of each size.
        refused: why no speed may be given, whatever the frames look like.
    """
    report: Report = {}
    qualities = []
    for size in sizes:
        fast, plain = (Frames(subject, size, name) for name in (backend, "reference"))
        quality = psnr(fast.draw(0), plain.draw(0))
        qualities.append(quality)
        report[f"parity.frame.{size}.psnr_db"] = quality
        reason = refused
        if quality < MIN_PSNR:
            reason = f"{FAILED}: {quality:.1f} dB is below {MIN_PSNR:g} dB"
        if reason:
            report |= refuse(reason, *(f"render.{size}.{key}" for key in SIZE_KEYS))
            report |= refuse(reason, "ratio_to_reference.render") if size == sizes[0] else {}
            continue
        timing = measure({"fast": fast.next}, seconds, least=LEAST_FRAMES)["fast"]
        report |= {
            f"render.{size}.fps": 1e3 / timing.median,
            f"render.{size}.latency_ms.median": timing.median,
            f"render.{size}.latency_ms.p95": timing.p95,
            f"render.{size}.frames_timed": timing.calls,
        }
        if size == sizes[0]:
            both = measure({"fast": fast.next, "plain": plain.next}, seconds, warm_up=1)
            report["ratio_to_reference.render"] = both["plain"].median / both["fast"].median
    report["parity.frame.psnr_db"] = min(qualities)
    if min(qualities) < MIN_PSNR:
        report["parity.frame.psnr_db.reason"] = f"{FAILED}: it is below {MIN_PSNR:g} dB"
    return report


def benchmark_scaling(
    subject: Subject,
    backend: str,
    seconds: float,
    sides: tuple[int, ...],
    clips: tuple[int, ...],
    refused: str | None = None,
) -> Report:
    """Milliseconds of a frame at several numbers of pixels, samples, and frames of the clip.

    Args:
        seconds: of each of the three tables.
        sides: of the frames, in pixels; the others are drawn at the middle one.
        clips: frames of the clips that the portrait might have been trained on.
        refused: why no speed may be given.
    """
    side = sides[len(sides) // 2]
    step = subject.head.marching.step
    finer = [with_step(subject, step / divisor) for divisor in (1, 2, 4)]
    tables = {
        "pixels": {n * n: Frames(subject, n, backend) for n in sides},
        "samples": {count_samples(s, side): Frames(s, side, backend) for s in finer},
        "frames": {n: Frames(of_clip(subject, n), side, backend) for n in clips},
    }
    report: Report = {}
    for name, row in tables.items():
        keys = {str(n): f"scaling.{name}.{n}.ms" for n in row}
        if refused:
            report |= refuse(refused, *keys.values())
            continue
        times = measure({str(n): frames.next for n, frames in row.items()}, seconds)
        report |= {keys[n]: timing.median for n, timing in times.items()}
    return report


def with_step(subject: Subject, step: float) -> Subject:
    """The subject, its rays sampled at other distances."""
    changed = replace(subject, portrait=copy.deepcopy(subject.portrait))
    marching = changed.head.marching
    limit = round(marching.max_samples * marching.step / step)
    changed.head.marching = replace(marching, step=step, max_samples=limit)
    return changed


def of_clip(subject: Subject, n: int) -> Subject:
    """The subject as if its clip had n frames: poses, eyes and codes are repeated."""
    portrait: Any = copy.deepcopy(subject.portrait)
    for part, name in ((portrait.head.field, "appearance"), (portrait.torso.field, "codes")):
        codes = getattr(part, name)
        setattr(part, name, nn.Parameter(codes.detach()[torch.arange(n) % len(codes)]))
    repeated = torch.arange(n) % len(subject.poses)
    return replace(
        subject, portrait=portrait, poses=subject.poses[repeated], eye=subject.eye[repeated]
    )


def count_samples(subject: Subject, side: int) -> int:
    """Samples of the subject's first frame."""
    focal, centre, (height, width), _ = subject.view(side)
    pixel = torch.arange(height * width)
    uv = torch.stack([pixel % width, pixel // width], -1) + 0.5
    device = subject.portrait.rest_code.device
    frame = torch.zeros_like(pixel)
    origins, directions = rays_through(subject.poses[:1], frame, uv, focal, centre)
    grid, marching = subject.head.grid, subject.head.marching
    found = march(
        origins.to(device),
        directions.to(device),
        grid.occupied,
        grid.box,
        marching.near,
        marching.step,
        marching.max_samples,
    )
    return len(found.t)


def psnr(a: Image, b: Image) -> float:
    """In dB; two equal images get that of a thousandth of an 8-bit step."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-6)))
