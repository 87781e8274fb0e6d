"""Drives a portrait: audio, head pose, eyes and background in, frames out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from radnerf.audio import (
    FeatureFile,
    attention_windows,
    audio_windows,
    driving_lead,
    load_audio,
    make_extractor,
    precomputed_windows,
    speech_activity,
)
from radnerf.conventions import SAMPLE_RATE
from radnerf.errors import UserError
from radnerf.fields.audio_net import close_in_pauses, smooth
from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.tracks import background_image, eye_track, pose_track, torso_track
from radnerf.rendering.frame import frame_renderer
from radnerf.rendering.portrait import Portrait
from radnerf.runtime.devices import choose_device

CODES_AT_ONCE = 64
MAX_SIDE = 4096  # pixels


class Driver:
    """The frames of a portrait that says an audio recording, one at a time.

    Iterating yields uint8 frames [h, w, 3]; every iteration starts anew. Memory does not grow with
    the number of frames beyond the audio itself.

    Args:
        bundle: the portrait file's contents.
        audio: path of an audio or video file.
        pose: own | hold | orbit | path, see tracks.pose_track; mirrored when too short.
        eyes: own | blink | number, see tracks.eye_track.
        background: own | white | black | #rrggbb | image, see tracks.background_image.
        resolution: pixels of the longer side; None for that of the training clip.
        seed: of the blinks.
        device: cpu, cuda, cuda:1 ..., or auto.
        features: for portraits of audio=features: features of the audio, from the tool that made
            the clip's.
        extractor: settings of the portrait's extractor to replace, such as where its model is.

    Raises:
        UserError: an option or the audio cannot be used.
    """

    def __init__(
        self,
        bundle: PortraitBundle,
        audio: str | Path,
        pose: str = "own",
        eyes: str | float = "own",
        background: str = "own",
        resolution: int | float | str | None = None,
        seed: int = 0,
        device: str = "auto",
        features: str | Path | None = None,
        extractor: Mapping[str, Any] | None = None,
    ) -> None:
        scale = _scale(bundle.size, resolution)
        self.fps = bundle.fps
        self.size = (round(bundle.size[0] * scale), round(bundle.size[1] * scale))
        self.focal = bundle.focal * scale
        self.centre = (bundle.centre[0] * scale, bundle.centre[1] * scale)
        wave = load_audio(audio)
        self.n_frames = max(1, round(len(wave) / SAMPLE_RATE * bundle.fps))
        self.poses = pose_track(bundle, pose, self.n_frames)
        self.torso_motion = torso_track(bundle, pose, self.n_frames)
        self.eyes = eye_track(bundle, eyes, self.n_frames, seed)
        self.background = background_image(bundle, background, self.size)
        lead = driving_lead(bundle.audio_offset)
        hearing = make_extractor(bundle.extractor, device, extractor)
        if isinstance(hearing, FeatureFile) and features is not None:
            frame_windows = precomputed_windows(Path(features), self.n_frames, bundle.fps)
        elif features is None:
            frame_windows = audio_windows(wave, hearing, self.n_frames, bundle.fps, lead=lead)
        else:
            raise UserError(f"features={features} is not needed: this portrait hears by itself.")
        _check_width(bundle, frame_windows.shape[-1])
        self.windows = torch.from_numpy(frame_windows)
        activity = speech_activity(wave, self.n_frames, bundle.fps, lead=lead)
        self.activity = torch.from_numpy(activity)
        self.device = choose_device(device)
        self.portrait = load_portrait(bundle).to(self.device).eval()

    def __len__(self) -> int:
        return self.n_frames

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        return self.frames()

    def to(self, device: torch.device | str) -> None:
        """Draw on another device from now on."""
        self.device = torch.device(device)
        self.portrait.to(self.device)

    @torch.inference_mode()
    def frames(self, first: int = 0, step: int = 1) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """Every step-th frame from the first on."""
        draw = frame_renderer(self.portrait, self.focal, self.centre, self.size, self.background)
        for i, code in enumerate(self.codes()):
            if i % step != first:
                continue
            motion = None if self.torso_motion is None else self.torso_motion[i]
            yield draw(self.poses[i], code, float(self.eyes[i]), motion)

    def codes(self) -> Iterator[Float[torch.Tensor, " 64"]]:
        """Audio codes of the frames: at rest in pauses, smoothed against trembling lips."""
        state = None
        for start in range(0, self.n_frames, CODES_AT_ONCE):
            index = torch.arange(start, min(start + CODES_AT_ONCE, self.n_frames))
            heard = attention_windows(self.windows, index).to(self.device)
            codes = close_in_pauses(
                self.portrait.encode_audio(heard),
                self.portrait.rest_code,
                self.activity[index].to(self.device),
            )
            for code in codes:
                code, state = smooth(code, state)
                yield code


def load_portrait(bundle: PortraitBundle) -> Portrait:
    """The portrait of a bundle with its weights.

    Raises:
        UserError: the weights do not fit the portrait's configuration.
    """
    try:
        portrait = Portrait.from_config(bundle.portrait)
        portrait.load_state_dict(bundle.weights)
    except (RuntimeError, ValueError) as error:
        line = str(error).splitlines()[-1].strip()
        raise UserError(f"The portrait file is damaged: its weights do not fit ({line})") from error
    return portrait


def _check_width(bundle: PortraitBundle, width: int) -> None:
    """Find features of another kind before they reach the audio net."""
    expected = bundle.portrait.get("audio_net", {}).get("dim")
    if expected not in (None, width):
        raise UserError(
            f"The audio features are {width} wide and the portrait learned from {expected}: "
            "give the speech model or the features that it was trained with."
        )


def _scale(size: tuple[int, int], resolution: int | float | str | None) -> float:
    if resolution is None:
        return 1.0
    if not isinstance(resolution, int) or not 16 <= resolution <= MAX_SIDE:
        raise UserError(f"resolution={resolution} must be a whole number from 16 to {MAX_SIDE}.")
    return resolution / max(size)
