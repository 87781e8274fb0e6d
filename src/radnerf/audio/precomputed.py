"""Features that another tool made: the public aud.npy, aud_eo.npy and aud_hu.npy.

Letters: T video frames, S feature steps, C feature width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from radnerf.audio.chunks import FEATURE_RATE, Features, Sound
from radnerf.audio.extractors import Extractor
from radnerf.audio.windows import WINDOW, windows
from radnerf.data.clip import FPS
from radnerf.errors import UserError

FrameWindows = Float[np.ndarray, "frames 16 c"]
SHORT = 1.0  # seconds that features may lack at the end; there is silence


@dataclass(frozen=True)
class FeatureFile(Extractor):
    """Stands where an extractor would: features are read, sound cannot be heard.

    Args:
        file: a path, or the name of a file in the clip's folder.
    """

    file: str

    name: ClassVar[str] = "features"
    dim: ClassVar[int] = 0  # any: the file tells
    context: ClassVar[int] = 0

    @property
    def fingerprint(self) -> str:
        return repr(self)

    @property
    def settings(self) -> dict[str, Any]:
        return {"name": self.name, "file": Path(self.file).name}

    @property
    def summary(self) -> str:
        return f"features of {self.file}, made by another tool"

    def __call__(self, wave: Sound) -> Features:
        raise UserError(
            f"This portrait learned from features of another tool ({Path(self.file).name}) and "
            "cannot hear: give the same kind for this audio, features=FILE.npy."
        )

    def windows(self, root: Path, n_frames: int, fps: float = FPS) -> FrameWindows:
        """Windows of the frames of a clip."""
        path = Path(self.file).expanduser()
        return precomputed_windows(path if path.is_file() else root / path, n_frames, fps)


def precomputed_windows(path: Path, n_frames: int, fps: float = FPS) -> FrameWindows:
    """Windows of n_frames from a file of windows [T, 16, C], or of steps [T, 2, C] or [S, C].

    Windows are taken as they are; steps are put together as windows() does, without a lead.

    Raises:
        UserError: missing, unreadable, of another shape, or shorter than the frames.
    """
    features = read_array(path)
    if features.ndim == 3 and features.shape[1] == 2:
        features = features.reshape(-1, features.shape[2])
    steps = features.ndim == 2
    lacking = n_frames / fps - len(features) / (FEATURE_RATE if steps else fps)
    if lacking > SHORT:
        raise UserError(
            f"{path} ends {lacking:.1f} s before the frames do: make it from this audio."
        )
    if steps:
        return windows(features, n_frames, fps)
    silence = n_frames - len(features)
    return np.pad(features, ((0, silence), (0, 0), (0, 0))) if silence > 0 else features[:n_frames]


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
        numbers = np.asarray(array.astype(np.float32, copy=False))
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise UserError(f"{path} cannot be read as audio features ({error}).") from error
    steps_or_windows = array.ndim == 2 or (array.ndim == 3 and array.shape[1] in (2, WINDOW))
    if not steps_or_windows or 0 in array.shape:
        raise UserError(
            f"{path} holds {array.shape} numbers instead of frames x {WINDOW} x C (or 2 x C)."
        )
    return numbers
