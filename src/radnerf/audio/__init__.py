"""Sound to features: loading, extraction, windows of video frames, streaming, augmentation."""

from radnerf.audio.augment import AudioAugment, ChannelMask
from radnerf.audio.chunks import FeatureStream
from radnerf.audio.clip_features import audio_windows, clip_features
from radnerf.audio.extractors import Extractor, MelExtractor, make_extractor
from radnerf.audio.load import Recording, Resampler, load_audio
from radnerf.audio.loudness import (
    Loudness,
    LoudnessFollower,
    constant_gain,
    normalise_loudness,
    speech_gain,
)
from radnerf.audio.mouth import MouthBasis
from radnerf.audio.precomputed import FeatureFile, precomputed_windows, read_features
from radnerf.audio.sync import (
    SPEECH_OFFSET,
    ActivityStream,
    driving_offset,
    measure_audio_offset,
    speech_activity,
)
from radnerf.audio.windows import (
    ReadyWindows,
    WindowStream,
    attention_windows,
    windows,
)

__all__ = [
    "SPEECH_OFFSET",
    "ActivityStream",
    "AudioAugment",
    "ChannelMask",
    "Extractor",
    "FeatureFile",
    "FeatureStream",
    "Loudness",
    "LoudnessFollower",
    "MelExtractor",
    "MouthBasis",
    "ReadyWindows",
    "Recording",
    "Resampler",
    "WindowStream",
    "attention_windows",
    "audio_windows",
    "clip_features",
    "constant_gain",
    "driving_offset",
    "load_audio",
    "make_extractor",
    "measure_audio_offset",
    "normalise_loudness",
    "precomputed_windows",
    "read_features",
    "speech_activity",
    "speech_gain",
    "windows",
]
