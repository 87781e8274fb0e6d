"""Sound from any file or program, at one rate."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float

from radnerf.audio.loudness import Wave, gain_of_pieces
from radnerf.conventions import SAMPLE_RATE
from radnerf.errors import UserError

PIECE = 2 * SAMPLE_RATE  # samples of a piece of a recording, about


class Recording:
    """The first audio track of an audio or video file, decoded anew as often as it is needed.

    Opening it decodes it once, so that a file that is no sound is found at once and its length is
    known, which headers tell wrongly or not at all. Nothing of it stays in memory.

    Raises:
        UserError: no such file, not decodable, without an audio track, or with an empty one.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"There is no audio file {self.path}: check the path.")
        self.n_samples = sum(len(piece) for piece in self.pieces())
        if self.n_samples == 0:
            raise UserError(f"The audio track of {self.path} is empty: give a file with sound.")

    def pieces(self) -> Iterator[Float[np.ndarray, " _"]]:
        """Mono at SAMPLE_RATE, in [-1, 1], a few seconds at a time."""
        blocks: list[Wave] = []
        n_samples = 0
        for block in self._decoded():
            blocks.append(block)
            n_samples += len(block)
            if n_samples >= PIECE:
                yield np.nan_to_num(np.concatenate(blocks))
                blocks, n_samples = [], 0
        if blocks:
            yield np.nan_to_num(np.concatenate(blocks))

    @cached_property
    def gain(self) -> float:
        """Its speech_gain()."""
        return gain_of_pieces(self.pieces(), self.n_samples)

    def _decoded(self) -> Iterator[Float[np.ndarray, " _"]]:
        # The channels are averaged here: the resampler's own mono is 3 dB louder for stereo.
        resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE)
        frame = None
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.audio:
                    raise UserError(f"{self.path} has no audio track: give a file with sound.")
                for frame in container.decode(audio=0):
                    for block in resampler.resample(frame):
                        yield _mono(block)
                if frame is not None:  # an encoder's delay stays there until it is flushed
                    for block in resampler.resample(None):
                        yield _mono(block)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise UserError(
                f"{self.path} cannot be decoded as audio ({error}): convert it."
            ) from error


def _mono(block: av.AudioFrame) -> Wave:
    return np.asarray(block.to_ndarray().mean(0), np.float32)


def load_audio(path: str | Path) -> Wave:
    """All samples of a Recording.

    Raises:
        UserError: as Recording does.
    """
    return np.concatenate(list(Recording(path).pieces()))


class Resampler:
    """Brings mono sound that comes in pieces from one rate to another.

    Together the results do not depend on the pieces; each is late by DELAY seconds at most.
    """

    DELAY = 0.002  # from 8 kHz upwards

    def __init__(self, rate: int, goal: int) -> None:
        self.rate = rate
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=goal)
        self._same = rate == goal

    def push(self, samples: Wave) -> Float[np.ndarray, " m"]:
        """What the next samples become."""
        if self._same or not len(samples):
            return samples
        block = np.ascontiguousarray(samples[None], np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate = self.rate
        return self._joined(self._resampler.resample(frame))

    def end(self) -> Float[np.ndarray, " m"]:
        """What is left; nothing can follow."""
        if self._same:
            return np.zeros(0, np.float32)
        return self._joined(self._resampler.resample(None))

    @staticmethod
    def _joined(blocks: list[av.AudioFrame]) -> Float[np.ndarray, " n"]:
        return np.concatenate([np.zeros(0, np.float32), *(b.to_ndarray()[0] for b in blocks)])
