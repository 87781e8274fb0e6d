"""Cross-driven evaluation: another speaker's audio on the held-out part of a clip."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from radnerf.audio import load_audio
from radnerf.data.datamodule import ClipDataModule
from radnerf.errors import UserError
from radnerf.experiment.evaluate import RELEASE_MEMORY_EVERY
from radnerf.geometry.face68 import mouth_opening
from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.file_driver import FileDriver
from radnerf.inference.tracks import ping_pong
from radnerf.inference.video import Sound, VideoWriter
from radnerf.metrics.frames import SyncMetric, audio_offset_values
from radnerf.metrics.landmarks import FaceLandmarks
from radnerf.metrics.offset import AudioOffset
from radnerf.metrics.syncnet import face_boxes
from radnerf.runtime.memory import release_memory


def evaluate_cross(
    bundle: PortraitBundle,
    data: ClipDataModule,
    audio: str | Path,
    video: Path,
    syncnet: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """How a mouth goes with a sound that it was not filmed with; also writes the video.

    Poses, eyes and torso are those of the clip's held-out frames, back and forth for as long as
    the audio is. There is no true mouth to compare with: only sound and picture are.

    Args:
        bundle: the portrait with the tracks of the clip that `data` holds.
        audio: path of an audio or video file.

    Raises:
        UserError: the audio cannot be used.
    """
    clip, wave = data.clip, load_audio(audio)
    held_out = slice(clip.n_train, len(clip))
    tracks = {name: getattr(bundle, name)[held_out] for name in ("poses", "eye", "torso_motion")}
    frames = FileDriver(replace(bundle, **tracks), audio, device=device)
    shown = ping_pong(np.arange(len(frames)), len(tracks["poses"]))
    faces = data.frames.landmarks[held_out].numpy()[shown]
    boxes = face_boxes(faces)
    sync = SyncMetric.open(syncnet, wave, clip.fps, ("cross",))
    offset = AudioOffset(wave, clip.fps)
    values: dict[str, Any] = {"cross.audio": Path(audio).name, "cross.frames": len(frames)}
    with ExitStack() as stack:
        try:
            detector = FaceLandmarks()
        except UserError as error:
            detector = None
            values |= {"cross.audio_offset_ms": None, "cross.audio_offset_ms.reason": str(error)}
        sound = Sound.of_file(audio)
        writer = stack.enter_context(VideoWriter(video, clip.fps, sound))
        for i, frame in track(enumerate(frames), "another voice", len(frames)):
            if i % RELEASE_MEMORY_EVERY == 0:
                release_memory()
            writer.write(frame)
            sync.update({"cross": frame}, boxes[i])
            if detector is not None:
                opening = mouth_opening(detector.track([frame]).numpy())
                offset.update(torch.from_numpy(opening))
    if detector is not None:
        values |= audio_offset_values("cross", offset)
    return values | sync.compute()
