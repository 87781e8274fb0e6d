"""Feature windows of a clip on disk: read when they are current, else made from its sound.

Letters: T video frames, C feature width.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from radnerf.audio.extractors import Extractor
from radnerf.audio.load import load_audio
from radnerf.audio.loudness import Wave, normalise_loudness
from radnerf.audio.precomputed import FeatureFile, read_features
from radnerf.audio.sync import SPEECH_OFFSET
from radnerf.audio.windows import FrameWindows, windows
from radnerf.conventions import FPS, SAMPLE_RATE, WINDOW
from radnerf.errors import UserError
from radnerf.files import whole_file


def audio_windows(
    wave: Wave,
    extractor: Extractor,
    n_frames: int | None = None,
    fps: float = FPS,
    audio_offset: float = SPEECH_OFFSET,
) -> FrameWindows:
    """Feature windows of a recording at any loudness; by default as many as it has frames.

    The default offset is that of a natural, well-synchronised talker.
    """
    if n_frames is None:
        n_frames = round(len(wave) / SAMPLE_RATE * fps)
    return windows(extractor(normalise_loudness(wave)), n_frames, fps, audio_offset)


def clip_features(
    root: str | Path,
    extractor: Extractor,
    n_frames: int,
    fps: float = FPS,
    audio_offset: float = 0.0,
) -> FrameWindows:
    """Windows of all frames of a clip, from aud_<name>.npy or, when that is stale, aud.wav.

    The offset is the clip's own, see measure_audio_offset; a FeatureFile's windows are its own. A
    network's memory is released.

    Raises:
        UserError: the clip has no sound, or its folder cannot be written.
    """
    root = Path(root)
    if isinstance(extractor, FeatureFile):
        return extractor.windows(root, n_frames, fps)
    path, note = root / f"aud_{extractor.name}.npy", root / f"aud_{extractor.name}.json"
    sound = root / "aud.wav"
    if not sound.is_file():
        raise UserError(f"{root} has no aud.wav to take features from: preprocess the clip again.")
    made_from = {
        "extractor": extractor.fingerprint,
        "sound": hashlib.sha256(sound.read_bytes()).hexdigest(),
        "fps": fps,
        "audio_offset": audio_offset,
    }
    if path.is_file() and note.is_file() and note.read_text() == json.dumps(made_from):
        features = read_features(path)
        if features.shape == (n_frames, WINDOW, extractor.dim):
            return features
    features = audio_windows(load_audio(sound), extractor, n_frames, fps, audio_offset)
    extractor.release()
    # The note goes last and comes off first, so that it never vouches for other features.
    note.unlink(missing_ok=True)
    with whole_file(path) as part:
        np.save(part, features)
    with whole_file(note) as part:
        part.write_text(json.dumps(made_from))
    return features
