"""Held-out evaluation of a portrait, with the controls that its figures need."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from rich.progress import track
from torch import Tensor

from radnerf.audio import load_audio
from radnerf.data.clip import SAMPLE_RATE
from radnerf.data.datamodule import ClipDataModule
from radnerf.errors import UserError
from radnerf.fields.audio_net import smooth_track
from radnerf.inference.video import Sound, VideoWriter, comparison_strip, side_by_side
from radnerf.metrics.image import psnr, ssim
from radnerf.metrics.landmarks import FaceLandmarks, LandmarkDistance, MouthCorrelation
from radnerf.metrics.lpips import load_lpips
from radnerf.rendering.portrait import Portrait

Frames = UInt8[np.ndarray, "t h w 3"]


@torch.inference_mode()
def evaluate(
    portrait: Portrait, data: ClipDataModule, video: Path, seed: int = 0
) -> dict[str, Any]:
    """Metrics of the held-out frames; also writes the video and a strip of frames beside it.

    Everything is rendered as it is at inference: zero appearance codes, smoothed audio codes. The
    controls render the same frames with the audio of other held-out frames, and with the mean
    audio code of the training frames.
    """
    portrait.eval()
    clip = data.clip
    held_out = torch.arange(clip.n_train, len(clip))
    codes = smooth_track(encode(portrait, data, torch.arange(len(clip))))
    shuffle = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(seed))
    frozen = codes[: clip.n_train].mean(0).expand(len(held_out), -1)

    truth = np.stack([clip_image(data, int(i)) for i in held_out])
    began = time.monotonic()
    full = render(portrait, data, held_out, codes[held_out], "test")
    seconds = time.monotonic() - began
    shuffled = render(portrait, data, held_out, codes[held_out][shuffle], "shuffled audio")
    still = render(portrait, data, held_out, frozen, "frozen mouth")
    pose_alone = render(portrait, data, held_out, codes[held_out], "pose alone", torso_track=False)
    heads = np.stack([head_over_truth(portrait, data, int(i), codes[i]) for i in held_out])
    mean_frame = data.frames.images[:: max(1, clip.n_train // 100)].float().mean(0)

    metrics: dict[str, Any] = {
        "head.psnr": image_metric(psnr(), heads, truth),
        "full.psnr": image_metric(psnr(), full, truth),
        "full_pose_alone.psnr": image_metric(psnr(), pose_alone, truth),
        "full.ssim": image_metric(ssim(), full, truth),
        "control.mean_frame.psnr": image_metric(
            psnr(), np.broadcast_to(mean_frame.byte().cpu().numpy(), truth.shape), truth
        ),
        "speed.render_fps": len(held_out) / seconds,
        "device": str(next(portrait.parameters()).device),
        "frames.train": clip.n_train,
        "frames.test": len(held_out),
    }
    metrics |= mouth_metrics(truth, full, shuffled, still)
    metrics |= perceptual_metric(full, truth)
    write_pictures(video, truth, full, heads, held_out_sound(data), clip.fps)
    return metrics


def encode(portrait: Portrait, data: ClipDataModule, frames: Tensor) -> Float[Tensor, "f d"]:
    """Audio codes of frames, unsmoothed."""
    return torch.cat(
        [portrait.encode_audio(data.conditioning(part).audio) for part in frames.split(64)]
    )


def render(
    portrait: Portrait,
    data: ClipDataModule,
    frames: Tensor,
    codes: Tensor,
    what: str,
    torso_track: bool = True,
) -> Frames:
    """The finished frames with the given audio codes.

    Args:
        torso_track: the torso is where it was in the frame; else where the head pose lets expect.
    """
    clip, background = data.clip, data.frames.background.float() / 255
    images = []
    for i, code in track(list(zip(frames.tolist(), codes, strict=True)), what):
        image = portrait.render(
            data.poses[i],
            clip.focal,
            clip.centre,
            clip.size,
            code,
            float(data.eye[i]),
            background,
            data.frames.torso_motion[i] if torso_track else None,
        )
        images.append(to_bytes(image))
    return np.stack(images)


def head_over_truth(
    portrait: Portrait, data: ClipDataModule, i: int, code: Tensor
) -> UInt8[np.ndarray, "h w 3"]:
    """Frame i with the rendered head over the true torso and the background plate."""
    batch = data.whole_frame(i)
    driving = batch.conditioning
    state = portrait.head.state(code[None], driving.eye, driving.index)
    out, _ = portrait.render_head(batch.rays, state)
    image = out.rgb + batch.behind * (1 - out.alpha[:, None])
    return to_bytes(image.view(*data.clip.size, 3))


def image_metric(metric: Any, rendered: Frames, truth: Frames) -> float:
    """A torchmetrics image metric over frames, one at a time."""
    for a, b in zip(rendered, truth, strict=True):
        metric.update(_image(a), _image(b))
    return float(metric.compute())


def mouth_metrics(truth: Frames, full: Frames, shuffled: Frames, still: Frames) -> dict[str, Any]:
    """Landmark distance and mouth correlation, with their controls."""
    names = {
        "full.lmd": full,
        "control.shuffled_audio.lmd": shuffled,
        "control.frozen_mouth.lmd": still,
    }
    try:
        with FaceLandmarks() as detector:
            true = detector.track(truth)
            found = {name: detector.track(frames) for name, frames in names.items()}
    except UserError as error:
        return dict.fromkeys(names) | {f"{name}.reason": str(error) for name in names}
    metrics: dict[str, Any] = {}
    for name, landmarks in found.items():
        distance, correlation = LandmarkDistance(), MouthCorrelation()
        distance.update(landmarks, true)
        correlation.update(landmarks, true)
        metrics[name] = float(distance.compute())
        metrics[name.replace("lmd", "mouth_correlation")] = float(correlation.compute())
    return metrics


def perceptual_metric(full: Frames, truth: Frames) -> dict[str, Any]:
    """LPIPS, or nothing with the reason."""
    try:
        model = load_lpips()
    except UserError as error:
        return {"full.lpips": None, "full.lpips.reason": str(error)}
    distances = [model(_image(a), _image(b)) for a, b in zip(full, truth, strict=True)]
    return {"full.lpips": float(torch.cat(distances).mean())}


def write_pictures(
    video: Path, truth: Frames, full: Frames, heads: Frames, sound: Sound, fps: float
) -> None:
    """The video (truth beside rendering) and a strip of five frames."""
    with VideoWriter(video, fps, sound) as writer:
        for pair in zip(truth, full, strict=True):
            writer.write(side_by_side(pair))
    pick = np.linspace(0, len(truth) - 1, 5).round().astype(int)
    comparison_strip(
        video.with_suffix(".png"),
        [list(frames[pick]) for frames in (truth, full, heads)],
        ["truth", "rendering", "head over true torso"],
    )


def held_out_sound(data: ClipDataModule) -> Sound:
    """The sound of the held-out frames."""
    clip = data.clip
    wave = load_audio(clip.root / "aud.wav")
    first, last = (int(clip.ids[i] / clip.fps * SAMPLE_RATE) for i in (clip.n_train, -1))
    return Sound.of_samples(wave[first : last + round(SAMPLE_RATE / clip.fps)], SAMPLE_RATE)


def clip_image(data: ClipDataModule, i: int) -> UInt8[np.ndarray, "h w 3"]:
    return data.frames.images[i].cpu().numpy()


def to_bytes(image: Float[Tensor, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    return (image.clamp(0, 1) * 255).round().byte().cpu().numpy()


def _image(frame: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 3 h w"]:
    return torch.tensor(frame).permute(2, 0, 1)[None].float() / 255
