"""The sound as the clip has it: 16-bit wav, 16 kHz mono, exactly as long as the frames."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from radnerf.conventions import FPS, SAMPLE_RATE
from radnerf.errors import UserError
from radnerf.preprocess.stages import Stage, Workspace
from radnerf.preprocess.video.decode import Video, read_audio

SILENT = 1e-3  # of full scale: the loudest sample of a track in which nobody speaks


@dataclass(frozen=True)
class Sound(Stage):
    """The video's sound."""

    name = "audio"
    outputs = ("aud.wav",)
    seconds_a_frame = 0.0005

    video: Video

    def settings(self) -> dict[str, Any]:
        return self.video.facts

    def run(self, work: Workspace) -> None:
        sound = read_audio(self.video.path, self.video.start)
        if np.abs(sound).max(initial=0.0) < SILENT:
            raise UserError(
                f"The sound of {self.video.path} is silent from beginning to end: "
                "give a video with the speech in it."
            )
        write_wav(work.out / "aud.wav", sound, self.video.n_frames)


def write_wav(path: Path, sound: Float[np.ndarray, " s"], n_frames: int) -> None:
    """16-bit wav exactly as long as the frames; silence fills what the file lacks."""
    length = round(n_frames / FPS * SAMPLE_RATE)
    sound = np.pad(sound[:length], (0, max(0, length - len(sound))))
    with path.open("wb") as raw, wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(sound, -1, 1) * 32767).round().astype("<i2").tobytes())
