"""Held-out evaluation of a portrait, with the controls that its figures need."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from rich.progress import track
from torch import Tensor

from radnerf.audio import load_audio
from radnerf.conventions import SAMPLE_RATE
from radnerf.data.clip import eye_ratio
from radnerf.data.datamodule import ClipDataModule
from radnerf.fields.audio_net import smooth_track
from radnerf.geometry.face68 import mouth_opening
from radnerf.inference.video import Sound, VideoWriter, comparison_strip, side_by_side
from radnerf.metrics.eyes import eye_response
from radnerf.metrics.frames import Frame, ImageMetrics, MouthMetrics, PerceptualMetric, SyncMetric
from radnerf.metrics.landmarks import FaceLandmarks
from radnerf.metrics.syncnet import face_boxes
from radnerf.rendering.frame import frame_renderer
from radnerf.rendering.portrait import Portrait
from radnerf.runtime.memory import release_memory

SHUFFLED, FROZEN = "control.shuffled_audio", "control.frozen_mouth"
STRIP = 5  # frames in the picture
RELEASE_MEMORY_EVERY = 50  # frames
EYE_FRAMES, EYE_CONTROLS = 4, 6  # rendered to measure the eye control


@torch.inference_mode()
def evaluate(
    portrait: Portrait,
    data: ClipDataModule,
    video: Path,
    seed: int = 0,
    lpips: str | None = None,
    syncnet: str | None = None,
    note: str | None = None,
) -> dict[str, Any]:
    """Metrics of the held-out frames; also writes the video and a strip of frames beside it.

    Everything is rendered as it is at inference: zero appearance codes, smoothed audio codes. The
    controls render the same frames with the audio of other held-out frames, and with the mean
    audio code of the training frames. One frame is held at a time, however long the clip.

    Args:
        lpips, syncnet: paths of weights, see load_lpips and load_syncnet.
        note: what to say on the strip.
    """
    portrait.eval()
    clip = data.clip
    held_out = list(range(clip.n_train, len(clip)))
    mean_frame = to_bytes(data.frames.images[:: max(1, clip.n_train // 100)].float().mean(0) / 255)
    wave = held_out_wave(data)
    image, perceptual = ImageMetrics(), PerceptualMetric.open(lpips)
    mouth = MouthMetrics.open(wave, clip.fps)
    sync = SyncMetric.open(syncnet, wave, clip.fps, ("full", "truth"))
    boxes = face_boxes(data.frames.landmarks[clip.n_train :].numpy())
    strip: list[tuple[Frame, Frame, Frame]] = []
    picked = set(np.linspace(held_out[0], held_out[-1], STRIP).round().astype(int).tolist())

    with ExitStack() as stack:
        sound = Sound.of_samples(wave, SAMPLE_RATE)
        writer = stack.enter_context(VideoWriter(video, clip.fps, sound))
        for i, rendered in track(renderings(portrait, data, seed), "test", len(held_out)):
            if i % RELEASE_MEMORY_EVERY == 0:
                release_memory()
            truth, full = clip_image(data, i), rendered["full"]
            for name in ("head", "full", "full_pose_alone"):
                image.update(name, rendered[name], truth)
            image.update("control.mean_frame", mean_frame, truth)
            mouth.update({name: rendered[name] for name in ("full", SHUFFLED, FROZEN)}, truth)
            perceptual.update(full, truth)
            sync.update({"full": full, "truth": truth}, boxes[i - clip.n_train])
            writer.write(side_by_side((truth, full)))
            if i in picked:
                strip.append((truth, full, rendered["head"]))
        eyes = eye_metrics(portrait, data, mouth.detector, mouth.reason)
    comparison_strip(
        video.with_suffix(".png"),
        [list(row) for row in zip(*strip, strict=True)],
        ["truth", "rendering", "head over true torso"],
        note,
    )
    return {
        **image.compute(),
        **mouth.compute(),
        **perceptual.compute(),
        **sync.compute(),
        **eyes,
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
        rendered = {
            "full": drawn.full(i, codes[i]),
            "full_pose_alone": drawn.full(i, codes[i], torso_track=False),
            "head": drawn.head(i, codes[i]),
            SHUFFLED: drawn.full(i, codes[shuffle[i - n_train]]),
            FROZEN: drawn.full(i, frozen),
        }
        yield i, rendered


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
    device = portrait.rest_code.device
    return torch.cat(
        [
            portrait.encode_audio(data.conditioning(part).audio.to(device))
            for part in frames.split(64)
        ]
    )


class Renderings:
    """The clip's frames, with its cameras, eyes and background.

    Args:
        portrait: its weights are read now.
    """

    def __init__(self, portrait: Portrait, data: ClipDataModule) -> None:
        self.data = data
        clip = data.clip
        self.rest_code = portrait.rest_code
        self.background = data.frames.background.cpu().numpy()
        self.draw = frame_renderer(portrait, clip.focal, clip.centre, clip.size, self.background)

    def full(self, i: int, code: Float[Tensor, " d"], torso_track: bool = True) -> Frame:
        """Frame i, all learned; its torso where it was, or where the head pose lets expect it."""
        motion = self.data.frames.torso_motion[i] if torso_track else None
        return self.draw(self.data.poses[i], code, float(self.data.eye[i]), motion)

    def eyes(self, i: int, control: float) -> Frame:
        """Frame i with the mouth at rest and an opening of the eyes."""
        motion = self.data.frames.torso_motion[i]
        return self.draw(self.data.poses[i], self.rest_code, control, motion)

    def head(self, i: int, code: Float[Tensor, " d"]) -> Frame:
        """Frame i with the learned head over the true torso and the background."""
        data = self.data
        torso = data.frames.torso[i].cpu().numpy()
        alpha = torso[..., 3:] / 255
        behind = torso[..., :3] * alpha + self.background * (1 - alpha)
        behind = (behind + 0.5).astype(np.uint8)
        return self.draw(data.poses[i], code, float(data.eye[i]), behind=behind)


def eye_metrics(
    portrait: Portrait, data: ClipDataModule, detector: FaceLandmarks | None, reason: str = ""
) -> dict[str, Any]:
    """How the eyes of held-out frames follow their control, or nothing with the reason.

    The control goes from shut to open eyes; the detector measures the eye ratio,
    and the mouth's opening in distances of the outer eye corners.
    """
    if not portrait.head.eye_control:
        reason = "The portrait was trained without eye control."
    if detector is None or not portrait.head.eye_control:
        return {"eye.response": None, "eye.response.reason": reason}
    drawn, clip = Renderings(portrait, data), data.clip

    def measure(frame: Frame, _: int) -> tuple[float, float]:
        points = detector(frame)
        if points is None:
            return np.nan, np.nan
        return eye_ratio(points, *clip.size), float(mouth_opening(points))

    frames = np.linspace(clip.n_train, len(clip) - 1, EYE_FRAMES).round().astype(int).tolist()
    controls = np.linspace(0.0, 1.0, EYE_CONTROLS).tolist()
    found = eye_response(drawn.eyes, frames, controls, measure)
    values: dict[str, Any] = {f"eye.{name}": value for name, value in found.items()}
    if np.isnan(found["response"]):
        values["eye.response.reason"] = "No face was found in the rendered frames."
    return values


def held_out_wave(data: ClipDataModule) -> Float[np.ndarray, " samples"]:
    """The sound of the held-out frames, one after the other; silence where there is none."""
    clip, length = data.clip, round(SAMPLE_RATE / data.clip.fps)
    starts = np.round(clip.audio_ids[clip.n_train :] * SAMPLE_RATE / clip.fps).astype(int)
    wave = load_audio(clip.root / "aud.wav")
    wave = np.pad(wave, (0, max(0, int(starts.max()) + length - len(wave))))
    return np.concatenate([wave[start : start + length] for start in starts])


def clip_image(data: ClipDataModule, i: int) -> Frame:
    return data.frames.images[i].cpu().numpy()


def to_bytes(image: Float[Tensor, "h w 3"]) -> Frame:
    return (image.clamp(0, 1) * 255).round().byte().cpu().numpy()
