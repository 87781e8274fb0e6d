"""Speech features at 50 steps a second; every extractor declares its width.

Letters: S feature steps, C feature width, W window length in samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from radnerf.data.clip import SAMPLE_RATE

FEATURE_RATE = 50
HOP = SAMPLE_RATE // FEATURE_RATE

Features = Float[np.ndarray, "steps c"]


@runtime_checkable
class Extractor(Protocol):
    """Turns a waveform at SAMPLE_RATE (speech at SPEECH_LEVEL_DB) into features."""

    @property
    def name(self) -> str:
        """Short file-name-safe name: the features of a clip are aud_<name>.npy."""

    @property
    def dim(self) -> int:
        """C, the width of a feature."""

    @property
    def context(self) -> int:
        """Samples before the start and after the end of a step that its feature depends on."""

    @property
    def fingerprint(self) -> str:
        """Changes with every setting that changes the features."""

    def __call__(self, wave: Float[np.ndarray, " samples"]) -> Features:
        """Features of the steps [i HOP, (i + 1) HOP); the last step may be cut short."""


@dataclass(frozen=True)
class MelExtractor:
    """Log-mel spectrogram without weights, for any language.

    A value is the level of a mel band above floor_db, in units of unit_db, and 0 below the floor:
    0 is silence, so that zero padding is silence too. A higher floor would hide the noise of most
    rooms, but also consonants that shape the mouth.
    """

    dim: int = 40
    window: int = 400  # samples; longer ones blur closures of the lips
    low_hz: float = 60.0
    high_hz: float = 7600.0
    floor_db: float = -80.0  # of a band's power, relative to full scale
    unit_db: float = 10.0
    name: str = "mel"

    @property
    def context(self) -> int:
        return max(0, (self.window - HOP + 1) // 2)

    @property
    def fingerprint(self) -> str:
        return repr(self)

    @cached_property
    def n_fft(self) -> int:
        return 1 << (self.window - 1).bit_length()

    @cached_property
    def filters(self) -> Float[np.ndarray, "bins c"]:
        """Triangles of unit sum, equally spaced on the mel scale of O'Shaughnessy (HTK)."""
        mel = np.linspace(_hz_to_mel(self.low_hz), _hz_to_mel(self.high_hz), self.dim + 2)
        edges = 700.0 * (10 ** (mel / 2595.0) - 1.0)
        bins = np.fft.rfftfreq(self.n_fft, 1 / SAMPLE_RATE)[:, None]
        rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
        fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
        triangles = np.clip(np.minimum(rise, fall), 0.0, None)
        # A triangle between two bins would be empty; one bin is the finest a band can be.
        nearest = np.abs(bins - edges[1:-1]).argmin(0)
        empty = triangles.sum(0) == 0
        triangles[nearest[empty], np.flatnonzero(empty)] = 1.0
        return triangles / triangles.sum(0)

    def __call__(self, wave: Float[np.ndarray, " samples"]) -> Features:
        """Features of a waveform: ceil(samples / HOP) steps, silence beyond its ends."""
        n_steps = -(-len(wave) // HOP)
        left = (self.window - HOP) // 2
        right = n_steps * HOP - len(wave) + self.window - HOP - left
        padded = np.pad(wave.astype(np.float64), (left, right))
        taper = np.hanning(self.window + 2)[1:-1]
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.window)[::HOP][:n_steps]
        # A sine of amplitude 1 has power 1/2 in its band, whatever the window.
        power = np.abs(np.fft.rfft(frames * taper, self.n_fft)) ** 2 * (2 / taper.sum() ** 2)
        level_db = 10.0 * np.log10(np.maximum(power @ self.filters, 1e-20))
        return np.maximum((level_db - self.floor_db) / self.unit_db, 0.0).astype(np.float32)


def _hz_to_mel(hz: float) -> float:
    return float(2595.0 * np.log10(1.0 + hz / 700.0))
