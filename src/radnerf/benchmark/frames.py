"""Whole frames: head, torso and background, to 8-bit pixels in the machine's memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from radnerf import kernels
from radnerf.benchmark.operators import Values
from radnerf.benchmark.portraits import Subject
from radnerf.benchmark.timing import measure
from radnerf.rendering.frame import FrameRenderer, Image, PlainFrameRenderer, frame_renderer

SIZES = (256, 450, 512)
MIN_PSNR = 45.0  # dB, of a fast frame against the reference


def benchmark_frames(
    subject: Subject, backend: str, seconds: float, sizes: tuple[int, ...] = SIZES
) -> dict[str, Values]:
    """Parity, frames a second, latency, and the ratio to plain torch of the same run."""
    report: dict[str, Values] = {}
    for size in sizes:
        view = subject.view(size)
        kernels.set_backend(backend)
        fast = Frames(subject, frame_renderer(subject.portrait, *view), backend)
        plain = Frames(subject, PlainFrameRenderer(subject.portrait, *view), "reference")
        quality = psnr(fast.draw(0), plain.draw(0))
        report[f"parity.frame.{size}.psnr_db"] = quality
        if quality < MIN_PSNR:
            report[f"render.{size}.fps"] = None
            report[f"render.{size}.fps.reason"] = f"below {MIN_PSNR} dB of the reference"
            continue
        timing = measure({"fast": fast.next}, seconds)["fast"]
        report |= {
            f"render.{size}.fps": 1e3 / timing.median,
            f"render.{size}.latency_ms.median": timing.median,
            f"render.{size}.latency_ms.p95": timing.p95,
        }
        if size == sizes[0]:
            both = measure({"fast": fast.next, "plain": plain.next}, seconds, warm_up=1)
            report["ratio_to_reference.render"] = both["plain"].median / both["fast"].median
    report["parity.frame.psnr_db"] = min(
        float(value)
        for key, value in report.items()
        if key.endswith("psnr_db") and value is not None
    )
    kernels.set_backend(backend)
    return report


class Frames:
    """The frames of a subject, one after another, by one renderer and back end."""

    def __init__(self, subject: Subject, renderer: FrameRenderer, backend: str) -> None:
        self.subject, self.renderer, self.backend = subject, renderer, backend
        self.count = itertools.count()

    def draw(self, i: int) -> Image:
        subject = self.subject
        kernels.set_backend(self.backend)
        frame = 7 * i % len(subject.poses)
        code = subject.codes[i % len(subject.codes)]
        return self.renderer(subject.poses[frame], code, float(subject.eye[frame]))

    def next(self) -> Image:
        return self.draw(next(self.count))


def benchmark_scaling(subject: Subject, backend: str, seconds: float) -> dict[str, Values]:
    """Milliseconds of a frame at three numbers of pixels, samples and driven frames."""
    report: dict[str, Values] = {}
    kernels.set_backend(backend)
    for side in (128, 256, 512):
        frames = Frames(subject, frame_renderer(subject.portrait, *subject.view(side)), backend)
        report[f"scaling.pixels.{side**2}.ms"] = measure({"": frames.next}, seconds)[""].median
    for n in (16_384, 65_536, 262_144):
        call = partial(_ask, subject, _points(subject, n))
        report[f"scaling.samples.{n}.ms"] = measure({"": call}, seconds)[""].median
    frames = Frames(subject, frame_renderer(subject.portrait, *subject.view(128)), backend)
    for n in (8, 32, 128):
        call = partial(_draw_all, frames.draw, n)
        report[f"scaling.frames.{n}.ms_per_frame"] = measure({"": call}, 0)[""].median / n
    return report


def _points(subject: Subject, n: int) -> torch.Tensor:
    box = subject.portrait.head.box
    generator = torch.Generator(box.device).manual_seed(0)
    return box[0] + torch.rand(n, 3, generator=generator, device=box.device) * (box[1] - box[0])


@torch.inference_mode()
def _ask(subject: Subject, points: torch.Tensor) -> None:
    head = subject.portrait.head
    index = torch.tensor([-1], device=points.device)
    state = head.state(subject.codes[:1], torch.tensor([0.25], device=points.device), index)
    head(points, points, torch.zeros(len(points), dtype=torch.long, device=points.device), state)


def _draw_all(draw: Callable[[int], Image], n: int) -> None:
    for i in range(n):
        draw(i)


def psnr(a: Image, b: Image) -> float:
    """In dB; two equal images get that of a thousandth of an 8-bit step."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-6)))
