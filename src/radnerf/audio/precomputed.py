"""Features that another tool made: the public aud.npy, aud_eo.npy, aud_ds.npy and aud_hu.npy.

Letters: T video frames, S feature steps, C feature width.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from radnerf.audio.chunks import Features, FeatureStream, Sound
from radnerf.audio.extractors import Extractor, Recorded
from radnerf.audio.load import load_audio
from radnerf.audio.windows import FrameWindows, windows
from radnerf.conventions import FEATURE_RATE, FPS, SAMPLE_RATE, WINDOW
from radnerf.errors import UserError
from radnerf.registry import component

SHORT = 1.0  # seconds that features may lack at the end; there is silence
SAME_RATE = 0.1  # a file's rate is one of those known when their durations differ so little
# What the field's tools make, by its width.
KINDS = {
    29: "DeepSpeech characters",
    32: "wav2vec2 English characters",
    44: "wav2vec2 Esperanto characters",
    768: "states of a base model",
    1024: "states of HuBERT or another large model",
}

log = logging.getLogger(__name__)


@component("extractor", "features")
@dataclass(frozen=True)
class FeatureFile(Extractor):
    """Stands where an extractor would: features are read, none are made of sound.

    Args:
        file: a path, or the name of a file in the clip's folder; None is the only one there.
    """

    file: str | None = None

    name: ClassVar[str] = "features"
    dim: ClassVar[int] = 0  # any: the file tells
    context: ClassVar[int] = 0

    @property
    def fingerprint(self) -> str:
        return repr(self)

    @property
    def settings(self) -> dict[str, Any]:
        return {"name": self.name, "file": self._label}

    @property
    def summary(self) -> str:
        return f"features of {self.file or 'the clip'}, made by another tool"

    @property
    def _label(self) -> str:
        return Path(self.file or "aud.npy").name

    def __call__(self, wave: Sound) -> Features:
        raise UserError(
            f"This portrait learned from features of another tool ({self._label}) and makes none "
            "of sound: give the same kind for this audio, features=FILE.npy."
        )

    def stream(self, recorded: Recorded | None = None) -> FeatureStream:
        if recorded is not None:
            self(np.zeros(0, np.float32))
        raise UserError(
            f"This portrait learned from features of another tool ({self._label}) and cannot "
            "follow live sound: render a file, with features=FILE.npy."
        )

    def found(self, root: Path) -> FeatureFile:
        """The same with its file named: where none was given, the only one of the clip.

        Raises:
            UserError: the clip has none, or several.
        """
        if self.file is not None:
            return self
        kinds = feature_files(root)
        if len(kinds) != 1:
            named = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
            told = f"features of {len(kinds)} kinds: {named}" if kinds else "no features (aud*.npy)"
            raise UserError(f"{root} holds {told}: choose with audio.extractor.file=FILE.npy.")
        ((name, kind),) = kinds.items()
        log.info("audio: %s, %s", name, kind)
        return FeatureFile(name)

    def windows(self, root: Path, n_frames: int, fps: float = FPS) -> FrameWindows:
        """Windows of the frames of a clip."""
        path, sound = Path(self.found(root).file or "").expanduser(), root / "aud.wav"
        seconds = len(load_audio(sound)) / SAMPLE_RATE if sound.is_file() else None
        return precomputed_windows(path if path.is_file() else root / path, n_frames, fps, seconds)


def feature_files(root: Path) -> dict[str, str]:
    """Feature files of other tools in a clip's folder: what each holds, by name."""
    found = {}
    for path in sorted(root.glob("aud*.npy")):
        if path.with_suffix(".json").is_file():  # our own, see clip_features
            continue
        try:
            width = read_array(path).shape[-1]
        except UserError:
            continue
        found[path.name] = f"{width} wide, {KINDS.get(width, 'of an unknown kind')}"
    return found


def precomputed_windows(
    path: Path, n_frames: int, fps: float = FPS, seconds: float | None = None
) -> FrameWindows:
    """Windows of n_frames from a file of windows [T, 16, C], or of steps [T, 2, C] or [S, C].

    Windows are taken as they are, one a frame; steps, 50 a second, are put together as windows()
    does, without an offset. Files of half (steps) or twice that rate are brought to it.

    Args:
        seconds: of the sound that the features are of; None for as long as the frames.

    Raises:
        UserError: missing, unreadable, of another shape, or shorter than the frames.
    """
    features = read_array(path)
    if features.ndim == 3 and features.shape[1] == 2:
        features = features.reshape(-1, features.shape[2])
    steps = features.ndim == 2
    usual = FEATURE_RATE if steps else fps
    others = (usual / 2, usual * 2) if steps else (usual * 2,)
    rate = _rate(len(features), seconds or n_frames / fps, usual, others)
    lacking = n_frames / fps - len(features) / rate
    if lacking > SHORT:
        raise UserError(
            f"{path} ends {lacking:.1f} s before the frames do: make it from this audio."
        )
    if rate != usual:
        what = "steps" if steps else "windows"
        log.warning("%s: %g %s a second, brought to %g.", path, rate, what, usual)
    if steps:
        return windows(_at_feature_rate(features, rate), n_frames, fps)
    if rate != usual:
        rows = np.round(np.arange(n_frames) * rate / fps).astype(np.int64)
        features = features[rows[rows < len(features)]]
    silence = n_frames - len(features)
    return np.pad(features, ((0, silence), (0, 0), (0, 0))) if silence > 0 else features[:n_frames]


def _rate(count: int, seconds: float, usual: float, others: tuple[float, ...]) -> float:
    """Rows a second of a file: the usual rate, or another where that fits the sound."""
    best = min((usual, *others), key=lambda rate: abs(math.log(count / (rate * seconds))))
    return best if abs(count / (best * seconds) - 1) < SAME_RATE else usual


def _at_feature_rate(
    features: Float[np.ndarray, "steps c"], rate: float
) -> Float[np.ndarray, "steps2 c"]:
    """Steps at FEATURE_RATE on the lines between those of another rate."""
    if rate == FEATURE_RATE:
        return features
    count = round(len(features) * FEATURE_RATE / rate)
    place = (np.arange(count) + 0.5) * rate / FEATURE_RATE - 0.5  # between the steps' middles
    first = np.clip(np.floor(place).astype(np.int64), 0, max(0, len(features) - 2))
    second = np.minimum(first + 1, len(features) - 1)
    weight = np.clip(place - first, 0, 1).astype(np.float32)[:, None]
    return np.asarray((1 - weight) * features[first] + weight * features[second])


def read_features(path: str | Path) -> FrameWindows:
    """Windows [T, 16, C] from a file, mapped rather than read where it holds 32-bit numbers.

    Raises:
        UserError: missing, unreadable, or of another shape.
    """
    features = read_array(Path(path))
    if features.ndim != 3 or features.shape[1] != WINDOW:
        raise UserError(f"{path} holds {features.shape} numbers instead of frames x {WINDOW} x C.")
    return features


def read_array(path: Path) -> np.ndarray:
    """Numbers of a .npy file: windows or steps of features.

    Raises:
        UserError: missing, unreadable, or of a shape that features do not have.
    """
    try:
        array = np.load(path, mmap_mode="c", allow_pickle=False)
        if array.dtype.kind != "f":
            raise ValueError(f"it holds {array.dtype}: labels, not features")
        numbers = np.asarray(array.astype(np.float32, copy=False))
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise UserError(f"{path} cannot be read as audio features ({error}).") from error
    steps_or_windows = array.ndim == 2 or (array.ndim == 3 and array.shape[1] in (2, WINDOW))
    if not steps_or_windows or 0 in array.shape:
        raise UserError(
            f"{path} holds {array.shape} numbers instead of frames x {WINDOW} x C (or 2 x C)."
        )
    return numbers
