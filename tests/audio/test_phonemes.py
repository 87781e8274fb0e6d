"""The port of the phoneme recogniser against the package's own engine."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from radnerf.audio import load_audio
from radnerf.audio.phoneme_net import EDGES, PhonemeNet, read_weights, weight_file
from radnerf.audio.phonemes import PhonemeExtractor
from radnerf.conventions import SAMPLE_RATE
from radnerf.errors import UserError


@pytest.fixture(scope="module")
def net() -> PhonemeNet:
    pytest.importorskip("hama", reason="the package hama is not installed")
    return PhonemeNet(read_weights(weight_file("hama")))


def engine_log_probabilities(wave: np.ndarray) -> np.ndarray:
    """What the package itself says, one row every 20 ms, centred at i HOP."""
    engine = pytest.importorskip("hama._engine")
    session = engine.AsrSession(weight_file("hama").read_bytes())
    found = session.run(["log_probs"], {"waveform": wave, "waveform_lengths": None})
    return np.asarray(found[0][0])


def speech(videos: Path, seconds: int = 4) -> np.ndarray:
    return np.ascontiguousarray(load_audio(videos / "obama.mp4")[: seconds * SAMPLE_RATE])


@torch.inference_mode()
def test_answers_are_those_of_the_package(net: PhonemeNet, shared_videos: Path) -> None:
    wave = speech(shared_videos)
    theirs = engine_log_probabilities(wave)
    # At its ends the engine mirrors half a window of sound and pads the spectrogram with zeros.
    mel = net.log_mel(torch.from_numpy(np.pad(wave, EDGES, "reflect")))
    ours = net.log_probabilities(pad(mel, (1, 1))).numpy()
    assert np.array_equal(ours.argmax(1), theirs.argmax(1))
    assert np.abs(np.exp(ours) - np.exp(theirs)).max() < 5e-3
    # And not because everything is blank.
    assert len(set(theirs.argmax(1).tolist())) > 10


def test_states_tell_sounds_apart_whoever_speaks(net: PhonemeNet, shared_videos: Path) -> None:
    extractor = PhonemeExtractor()
    features = extractor(speech(shared_videos))
    assert features.shape == (200, extractor.dim)
    np.testing.assert_allclose(features.std(1), 1.0, atol=0.01)
    twice_as_loud = extractor(2 * speech(shared_videos))
    agree = (features * twice_as_loud).mean()
    shuffled = (features * twice_as_loud[np.random.default_rng(0).permutation(200)]).mean()
    assert agree > 0.9 > 0.6 > shuffled


def test_live_states_are_near_those_of_the_whole_recording(
    net: PhonemeNet, shared_videos: Path
) -> None:
    wave = speech(shared_videos, 6)
    extractor = PhonemeExtractor()
    whole = extractor(wave)
    stream = extractor.stream()
    pieces = [stream.push(piece) for piece in np.array_split(wave, 97)]
    live = np.concatenate([*pieces, stream.end()])
    again = extractor.stream()
    assert np.array_equal(live, np.concatenate([again.push(wave), again.end()]))
    assert live.shape == whole.shape
    similarity = (live * whole).mean(1)
    assert similarity.mean() > 0.8


def test_another_file_is_refused(tmp_path: Path) -> None:
    for name, data in {
        "text": b"hello",
        "short": b"HAMAPK\x01\x02" + struct.pack("<I", 3),
        "huge": b"HAMAPK\x01\x02" + struct.pack("<IH1sBBIQQ", 1, 1, b"a", 0, 1, 2**31, 0, 2**33),
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(UserError, match="no weight file"):
            read_weights(path)
    with pytest.raises(UserError, match="There is no weight file"):
        weight_file(str(tmp_path / "absent"))


def test_without_the_package_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radnerf.audio.phoneme_net.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install hama"):
        weight_file("hama")


@pytest.mark.parametrize("layer", [0, 5])
def test_a_block_that_is_not_there_is_refused(layer: int) -> None:
    with pytest.raises(UserError, match="choose 1 to 4"):
        PhonemeExtractor(layer=layer)
