"""Sound to features: loading, extraction, windows of video frames, streaming, augmentation."""

from radnerf.audio.augment import AudioAugment
from radnerf.audio.clip_features import audio_windows, clip_features
from radnerf.audio.extractors import Extractor, MelExtractor, make_extractor
from radnerf.audio.load import load_audio, normalise_loudness, speech_gain
from radnerf.audio.mouth import MouthBasis
from radnerf.audio.precomputed import FeatureFile, precomputed_windows, read_features
from radnerf.audio.sync import SPEECH_LEAD, driving_lead, mouth_lead, speech_activity
from radnerf.audio.windows import StreamState, attention_windows, stream, windows

__all__ = [
    "SPEECH_LEAD",
    "AudioAugment",
    "Extractor",
    "FeatureFile",
    "MelExtractor",
    "MouthBasis",
    "StreamState",
    "attention_windows",
    "audio_windows",
    "clip_features",
    "driving_lead",
    "load_audio",
    "make_extractor",
    "mouth_lead",
    "normalise_loudness",
    "precomputed_windows",
    "read_features",
    "speech_activity",
    "speech_gain",
    "stream",
    "windows",
]
