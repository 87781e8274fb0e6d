"""Held-out evaluation of a portrait, with the controls that its figures need."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from rich.progress import track
from torch import Tensor
from torchmetrics import Metric

from radnerf.audio import load_audio
from radnerf.data.clip import SAMPLE_RATE
from radnerf.data.datamodule import ClipDataModule
from radnerf.errors import UserError
from radnerf.fields.audio_net import smooth_track
from radnerf.inference.video import Sound, VideoWriter, comparison_strip, side_by_side
from radnerf.memory import give_back
from radnerf.metrics.image import psnr, ssim
from radnerf.metrics.landmarks import FaceLandmarks, LandmarkDistance, MouthCorrelation
from radnerf.metrics.lpips import load_lpips
from radnerf.rendering.frame import frame_renderer
from radnerf.rendering.portrait import Portrait

Frame = UInt8[np.ndarray, "h w 3"]

SHUFFLED, FROZEN = "control.shuffled_audio", "control.frozen_mouth"
STRIP = 5  # frames in the picture
GIVE_BACK_EVERY = 50  # frames


@torch.inference_mode()
def evaluate(
    portrait: Portrait, data: ClipDataModule, video: Path, seed: int = 0
) -> dict[str, Any]:
    """Metrics of the held-out frames; also writes the video and a strip of frames beside it.

    Everything is rendered as it is at inference: zero appearance codes, smoothed audio codes. The
    controls render the same frames with the audio of other held-out frames, and with the mean
    audio code of the training frames. One frame is held at a time, however long the clip.
    """
    portrait.eval()
    clip = data.clip
    held_out = list(range(clip.n_train, len(clip)))
    mean_frame = to_bytes(data.frames.images[:: max(1, clip.n_train // 100)].float().mean(0) / 255)
    image, mouth, perceptual = ImageMetrics(), MouthMetrics.open(), PerceptualMetric.open()
    strip: list[tuple[Frame, Frame, Frame]] = []
    picked = set(np.linspace(held_out[0], held_out[-1], STRIP).round().astype(int).tolist())

    with ExitStack() as stack:
        if mouth.detector is not None:
            stack.enter_context(mouth.detector)
        writer = stack.enter_context(VideoWriter(video, clip.fps, held_out_sound(data)))
        for i, shown in track(renderings(portrait, data, seed), "test", len(held_out)):
            if i % GIVE_BACK_EVERY == 0:
                give_back()
            truth, full = clip_image(data, i), shown["full"]
            for name in ("head", "full", "full_pose_alone"):
                image.update(name, shown[name], truth)
            image.update("control.mean_frame", mean_frame, truth)
            mouth.update({name: shown[name] for name in ("full", SHUFFLED, FROZEN)}, truth)
            perceptual.update(full, truth)
            writer.write(side_by_side((truth, full)))
            if i in picked:
                strip.append((truth, full, shown["head"]))
    comparison_strip(
        video.with_suffix(".png"),
        [list(row) for row in zip(*strip, strict=True)],
        ["truth", "rendering", "head over true torso"],
    )
    return {
        **image.compute(),
        **mouth.compute(),
        **perceptual.compute(),
        "speed.render_fps": render_fps(portrait, data, held_out[:: max(1, len(held_out) // 20)]),
        "device": str(next(portrait.parameters()).device),
        "frames.train": clip.n_train,
        "frames.test": len(held_out),
    }


def renderings(
    portrait: Portrait, data: ClipDataModule, seed: int
) -> Iterator[tuple[int, dict[str, Frame]]]:
    """Every held-out frame in every way that is measured, by name."""
    n_train, n_frames = data.clip.n_train, len(data.clip)
    codes = smooth_track(encode(portrait, data, torch.arange(n_frames)))
    generator = torch.Generator().manual_seed(seed)
    shuffle = n_train + torch.randperm(n_frames - n_train, generator=generator)
    frozen = codes[:n_train].mean(0)
    drawn = Renderings(portrait, data)
    for i in range(n_train, n_frames):
        shown = {
            "full": drawn.full(i, codes[i]),
            "full_pose_alone": drawn.full(i, codes[i], torso_track=False),
            "head": drawn.head(i, codes[i]),
            SHUFFLED: drawn.full(i, codes[shuffle[i - n_train]]),
            FROZEN: drawn.full(i, frozen),
        }
        yield i, shown


def render_fps(portrait: Portrait, data: ClipDataModule, frames: list[int]) -> float:
    """Finished frames a second, one at a time."""
    codes = encode(portrait, data, torch.tensor(frames))
    drawn = Renderings(portrait, data)
    drawn.full(frames[0], codes[0])
    began = time.monotonic()
    for i, code in zip(frames, codes, strict=True):
        drawn.full(i, code)
    return len(frames) / (time.monotonic() - began)


def encode(portrait: Portrait, data: ClipDataModule, frames: Tensor) -> Float[Tensor, "f d"]:
    """Audio codes of frames, unsmoothed."""
    return torch.cat(
        [portrait.encode_audio(data.conditioning(part).audio) for part in frames.split(64)]
    )


class Renderings:
    """The clip's frames, with its cameras, eyes and background.

    Args:
        portrait: its weights are read now.
    """

    def __init__(self, portrait: Portrait, data: ClipDataModule) -> None:
        self.data = data
        clip = data.clip
        self.background = data.frames.background.cpu().numpy()
        self.draw = frame_renderer(portrait, clip.focal, clip.centre, clip.size, self.background)

    def full(self, i: int, code: Float[Tensor, " d"], torso_track: bool = True) -> Frame:
        """Frame i, all learned; its torso where it was, or where the head pose lets expect it."""
        motion = self.data.frames.torso_motion[i] if torso_track else None
        return self.draw(self.data.poses[i], code, float(self.data.eye[i]), motion)

    def head(self, i: int, code: Float[Tensor, " d"]) -> Frame:
        """Frame i with the learned head over the true torso and the background plate."""
        data = self.data
        torso = data.frames.torso[i].cpu().numpy()
        alpha = torso[..., 3:] / 255
        behind = torso[..., :3] * alpha + self.background * (1 - alpha)
        behind = (behind + 0.5).astype(np.uint8)
        return self.draw(data.poses[i], code, float(data.eye[i]), behind=behind)


class ImageMetrics:
    """PSNR of several renderings, and SSIM of the full one."""

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {"full.ssim": ssim()}

    def update(self, name: str, rendered: Frame, truth: Frame) -> None:
        self.metrics.setdefault(f"{name}.psnr", psnr())
        for key, metric in self.metrics.items():
            if key.rpartition(".")[0] == name:
                metric.update(_image(rendered), _image(truth))

    def compute(self) -> dict[str, float]:
        return {key: float(metric.compute()) for key, metric in self.metrics.items()}


@dataclass
class MouthMetrics:
    """Landmark distance and mouth correlation of several renderings; nothing without a detector."""

    detector: FaceLandmarks | None
    reason: str = ""
    distance: dict[str, LandmarkDistance] = field(default_factory=dict)
    correlation: dict[str, MouthCorrelation] = field(default_factory=dict)

    @classmethod
    def open(cls) -> MouthMetrics:
        try:
            return cls(FaceLandmarks())
        except UserError as error:
            return cls(None, str(error))

    def update(self, rendered: dict[str, Frame], truth: Frame) -> None:
        """Add a frame."""
        true = None if self.detector is None else self.detector.track([truth])
        for name, frame in rendered.items():
            distance = self.distance.setdefault(name, LandmarkDistance())
            correlation = self.correlation.setdefault(name, MouthCorrelation())
            if self.detector is not None and true is not None:
                found = self.detector.track([frame])
                distance.update(found, true)
                correlation.update(found, true)

    def compute(self) -> dict[str, Any]:
        if self.detector is None:
            names = [f"{name}.lmd" for name in self.distance]
            return dict.fromkeys(names) | {f"{name}.reason": self.reason for name in names}
        distance = {
            f"{name}.lmd": float(metric.compute()) for name, metric in self.distance.items()
        }
        correlation = {
            f"{name}.mouth_correlation": float(metric.compute())
            for name, metric in self.correlation.items()
        }
        return distance | correlation


@dataclass
class PerceptualMetric:
    """LPIPS of the full rendering, or nothing with the reason."""

    model: Callable[[Tensor, Tensor], Tensor] | None
    reason: str = ""
    distances: list[float] = field(default_factory=list)

    @classmethod
    def open(cls) -> PerceptualMetric:
        try:
            return cls(load_lpips())
        except UserError as error:
            return cls(None, str(error))

    def update(self, rendered: Frame, truth: Frame) -> None:
        """Add a frame."""
        if self.model is not None:
            self.distances.append(float(self.model(_image(rendered), _image(truth))))

    def compute(self) -> dict[str, Any]:
        if self.model is None:
            return {"full.lpips": None, "full.lpips.reason": self.reason}
        return {"full.lpips": float(np.mean(self.distances))}


def held_out_sound(data: ClipDataModule) -> Sound:
    """The sound of the held-out frames."""
    clip = data.clip
    wave = load_audio(clip.root / "aud.wav")
    first, last = (int(clip.ids[i] / clip.fps * SAMPLE_RATE) for i in (clip.n_train, -1))
    return Sound.of_samples(wave[first : last + round(SAMPLE_RATE / clip.fps)], SAMPLE_RATE)


def clip_image(data: ClipDataModule, i: int) -> Frame:
    return data.frames.images[i].cpu().numpy()


def to_bytes(image: Float[Tensor, "h w 3"]) -> Frame:
    return (image.clamp(0, 1) * 255).round().byte().cpu().numpy()


def _image(frame: Frame) -> Float[Tensor, "1 3 h w"]:
    return torch.tensor(frame).permute(2, 0, 1)[None].float() / 255
