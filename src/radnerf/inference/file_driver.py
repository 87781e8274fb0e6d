"""A portrait that says a recording: the speech stream run over a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from radnerf.audio import (
    ActivityStream,
    Extractor,
    FeatureFile,
    ReadyWindows,
    Recording,
    WindowStream,
    constant_gain,
    driving_offset,
    make_extractor,
    precomputed_windows,
)
from radnerf.audio.loudness import Pieces
from radnerf.errors import UserError
from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.motion import Motion
from radnerf.inference.performer import Control, Performer, load_portrait
from radnerf.inference.speech import (
    FRAMES_AT_ONCE,
    MouthMotion,
    SpeechStream,
    check_width,
    frame_count,
)
from radnerf.runtime.devices import choose_device


class FileDriver:
    """The frames of a portrait that says an audio recording, one at a time.

    Iterating yields uint8 frames [h, w, 3]; every iteration starts anew. Memory does not grow with
    the number of frames.

    Args:
        bundle: the portrait file's contents.
        audio: path of an audio or video file.
        pose: own | hold | orbit | path, see tracks.pose_track; forward and backward when too short.
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
        self.bundle = bundle
        self.fps = bundle.fps
        self.device = choose_device(device)
        portrait = load_portrait(bundle).to(self.device).eval()
        self.performer = Performer.of(bundle, portrait, background, resolution)
        self.motion = Motion.of(bundle, pose, eyes, seed)
        self.recording = Recording(audio)
        self.n_frames = frame_count(self.recording.n_samples, self.fps)
        self.audio_offset = driving_offset(bundle.audio_offset)
        self.windows = self._windows(make_extractor(bundle.extractor, device, extractor), features)

    def _windows(
        self, extractor: Extractor, features: str | Path | None
    ) -> WindowStream | ReadyWindows:
        if isinstance(extractor, FeatureFile) and features is not None:
            ready = precomputed_windows(Path(features), self.n_frames, self.fps)
            check_width(self.bundle, ready.shape[-1])
            return ReadyWindows(ready, self.fps)
        if features is not None:
            raise UserError(
                f"features={features} is not needed: this portrait makes them of the audio."
            )
        stream = extractor.stream(self._level_pieces)
        check_width(self.bundle, stream.dim)
        return WindowStream(stream, self.fps, self.audio_offset)

    def _level_pieces(self) -> Pieces:
        return map(constant_gain(self.recording.gain), self.recording.pieces())

    def __len__(self) -> int:
        return self.n_frames

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        return map(self.performer.draw, self.controls())

    def controls(self) -> Iterator[Control]:
        """What each frame shows."""
        codes = self.codes()
        for first in range(0, self.n_frames, FRAMES_AT_ONCE):
            yield from self.motion.controls(first, list(islice(codes, FRAMES_AT_ONCE)))

    def codes(self) -> Iterator[Float[Tensor, " d"]]:
        """Audio codes of the frames: at rest in pauses, smoothed against trembling lips."""
        portrait = self.performer.portrait
        activity = ActivityStream(self.fps, self.audio_offset)
        loudness = constant_gain(self.recording.gain)
        speech = SpeechStream(portrait, self.windows.fresh(), activity, loudness, FRAMES_AT_ONCE)
        mouth = MouthMotion(portrait.rest_code)
        for piece in self.recording.pieces():
            yield from map(mouth.speak, speech.push(piece))
        yield from map(mouth.speak, speech.end())
