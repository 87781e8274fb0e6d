"""Sound to features: loading, extraction, windows of video frames, streaming, augmentation."""

from radnerf.audio.clip_features import audio_windows, clip_features, read_features
from radnerf.audio.extractors import FEATURE_RATE, HOP, Extractor, MelExtractor
from radnerf.audio.load import load_audio, normalise_loudness, speech_gain
from radnerf.audio.windows import (
    ATTENTION_FRAMES,
    WINDOW,
    StreamState,
    attention_windows,
    stream,
    windows,
)

__all__ = [
    "ATTENTION_FRAMES",
    "FEATURE_RATE",
    "HOP",
    "WINDOW",
    "Extractor",
    "MelExtractor",
    "StreamState",
    "attention_windows",
    "audio_windows",
    "clip_features",
    "load_audio",
    "normalise_loudness",
    "read_features",
    "speech_gain",
    "stream",
    "windows",
]
