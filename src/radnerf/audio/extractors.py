"""Speech features at 50 steps a second; every extractor declares its width.

Letters: S feature steps, C feature width, W window length in samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, get_type_hints

import numpy as np
from jaxtyping import Float

from radnerf.audio.chunks import Features, FeatureStream, in_chunks
from radnerf.audio.loudness import Pieces
from radnerf.conventions import FEATURE_RATE, HOP, SAMPLE_RATE
from radnerf.errors import UserError
from radnerf.registry import component, find

CHUNK = 10 * FEATURE_RATE  # steps of a spectrogram in memory at once

Recorded = Callable[[], Pieces]  # the pieces of a recording, as often as it is called


class Extractor(ABC):
    """Turns a waveform at SAMPLE_RATE (speech at SPEECH_LEVEL_DB) into features.

    Every kind is a frozen dataclass: its fields are its settings.
    """

    live_chunk: ClassVar[int] = 1  # steps whose features are made at once while sound comes in

    @property
    @abstractmethod
    def name(self) -> str:
        """Short file-name-safe name: the features of a clip are aud_<name>.npy."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """C, the width of a feature."""

    @property
    @abstractmethod
    def context(self) -> int:
        """Samples before the start and after the end of a step that its feature depends on."""

    @property
    def fingerprint(self) -> str:
        """Changes with every setting, and with the weights, that change the features."""
        return repr(self)

    @property
    def settings(self) -> dict[str, Any]:
        """What make_extractor() makes it from again, as plain values."""
        return {"name": self.name} | asdict(self)  # type: ignore[call-overload]

    @property
    def summary(self) -> str:
        """One line for the user: what it is, how wide, and what it costs."""
        return f"{self.name}, {self.dim} values at {FEATURE_RATE} steps a second"

    @abstractmethod
    def __call__(self, wave: Float[np.ndarray, " samples"]) -> Features:
        """Features of the steps [i HOP, (i + 1) HOP); the last step may be cut short."""

    def stream(self, recorded: Recorded | None = None) -> FeatureStream:
        """Features of sound that comes in pieces.

        Args:
            recorded: the whole sound, when it is known beforehand; together the features are then
                those of a call. None for sound that is yet to come: features come as soon as the
                context allows, `live_chunk` steps at a time.
        """
        margin = -(-self.context // HOP)
        chunk = self.live_chunk if recorded is None else CHUNK
        return FeatureStream(self, self.dim, chunk, (margin, margin))

    def release(self) -> None:
        """Give back the memory of loaded weights; the next call loads them again."""
        return


@component("extractor", "mel")
@dataclass(frozen=True)
class MelExtractor(Extractor):
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
    def summary(self) -> str:
        return f"{super().summary}, no weights, cpu"

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
        return in_chunks(self._levels, wave, self.dim, CHUNK, edges=self._edges)

    def stream(self, recorded: Recorded | None = None) -> FeatureStream:
        chunk = self.live_chunk if recorded is None else CHUNK
        return FeatureStream(self._levels, self.dim, chunk, edges=self._edges)

    @property
    def _edges(self) -> tuple[int, int]:
        """Samples that the windows reach beyond their steps."""
        before = (self.window - HOP) // 2
        return before, self.window - HOP - before

    def _levels(self, sound: Float[np.ndarray, " samples"]) -> Features:
        """Features of the windows that fit into the sound."""
        taper = np.hanning(self.window + 2)[1:-1]
        frames = np.lib.stride_tricks.sliding_window_view(sound.astype(np.float64), self.window)
        frames = frames[::HOP]
        # A sine of amplitude 1 has power 1/2 in its band, whatever the window.
        power = np.abs(np.fft.rfft(frames * taper, self.n_fft)) ** 2 * (2 / taper.sum() ** 2)
        level_db = 10.0 * np.log10(np.maximum(power @ self.filters, 1e-20))
        return np.maximum((level_db - self.floor_db) / self.unit_db, 0.0).astype(np.float32)


def _hz_to_mel(hz: float) -> float:
    return float(2595.0 * np.log10(1.0 + hz / 700.0))


def make_extractor(
    settings: Mapping[str, Any],
    device: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Extractor:
    """The extractor that a portrait learned from, from its settings.

    Args:
        settings: of Extractor.settings; untrusted.
        device: where a network runs; None for the extractor's own choice.
        overrides: settings of the user's, such as where the model is; None is no override. With a
            place of the user's, the model's content hash is the user's to check.

    Raises:
        UserError: there is no such extractor, or not with these settings.
    """
    name = settings.get("name")
    kind: Any = find("extractor", name)
    hints = get_type_hints(kind)
    known = {field.name: hints[field.name] for field in fields(kind)}
    chosen = {k: v for k, v in settings.items() if k != "name" or "name" in known}
    storable = known.keys() - getattr(kind, "local", frozenset())
    wrong = [k for k, v in chosen.items() if k not in storable or not _is(v, known[k])]
    if wrong:
        raise UserError(f"The portrait's audio extractor {name} has unusable settings: {wrong}.")
    given = {k: v for k, v in (overrides or {}).items() if v is not None}
    strange = [f"extractor.{k}" for k in given if k not in known]
    if strange:
        raise UserError(f"{strange[0]} is no setting of the portrait's audio extractor, {name}.")
    if given:
        chosen = {k: v for k, v in chosen.items() if k != "weights"} | given
    if device is not None and "device" in known:
        chosen["device"] = device
    try:
        extractor: Extractor = kind(**chosen)
    except TypeError as error:
        raise UserError(
            f"The portrait's audio extractor {name} lacks settings ({error})."
        ) from error
    return extractor


def _is(value: Any, hint: Any) -> bool:
    """Whether a value from a file has the type of a setting."""
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and not isinstance(value, bool)
