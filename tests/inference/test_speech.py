"""Codes do not depend on how sound is cut, come when they are said to, and leave nothing behind."""

import numpy as np
import pytest
import torch
from torch import nn

from radnerf.audio import (
    ActivityStream,
    LoudnessFollower,
    MelExtractor,
    ReadyWindows,
    WindowStream,
    attention_windows,
    constant_gain,
    speech_activity,
    speech_gain,
    windows,
)
from radnerf.data.demo.speech import synthesize
from radnerf.fields.audio_net import AudioNet, close_in_pauses
from radnerf.inference.speech import FRAMES_AT_ONCE, MouthMotion, SpeechStream
from radnerf.rendering.portrait import Portrait

RATE = 16_000
CUTTINGS = ["one sample", "7 ms", "0.1 to 0.8 s", "all at once"]


class Ears(Portrait):
    """What of a portrait makes codes of sound."""

    def __init__(self, dim=40):
        nn.Module.__init__(self)
        torch.manual_seed(0)
        self.audio_net = AudioNet(dim, 8)
        self.register_buffer("rest_code", torch.full((8,), 0.5))

    def encode_audio(self, audio):
        return self.audio_net(audio)


@pytest.fixture(scope="module")
def ears():
    return Ears().eval()


@pytest.fixture(scope="module")
def wave():
    speech = synthesize(4.2, seed=2).wave
    speech[2 * RATE : 3 * RATE] = 0
    return speech[: 4 * RATE + 123]


def cut(wave, cutting):
    """The samples in pieces."""
    random = np.random.default_rng(1)
    if cutting == "0.1 to 0.8 s":
        bounds = np.cumsum(random.integers(RATE // 10, 8 * RATE // 10, len(wave) // 1600))
    else:
        length = {"one sample": 1, "7 ms": 112, "all at once": len(wave)}[cutting]
        bounds = np.arange(length, len(wave), length)
    return np.split(wave, bounds[bounds < len(wave)])


def make_stream(ears, loudness, fps=25.0, offset=0.1, at_once=1, recorded=None):
    features = MelExtractor().stream(recorded)
    activity = ActivityStream(fps, offset)
    return SpeechStream(ears, WindowStream(features, fps, offset), activity, loudness, at_once)


def codes_of(stream, wave, cutting):
    codes = [code for piece in cut(wave, cutting) for code in stream.push(piece)]
    return torch.stack([*codes, *stream.end()])


@torch.inference_mode()
def whole_codes(ears, wave, fps, offset):
    """Of the whole recording at once, as training has them."""
    level = wave * np.float32(speech_gain(wave))
    n_frames = round(len(wave) / RATE * fps)
    frame_windows = windows(MelExtractor()(level), n_frames, fps, offset)
    inputs = attention_windows(torch.from_numpy(frame_windows), torch.arange(n_frames))
    activity = torch.from_numpy(speech_activity(wave, n_frames, fps, offset))
    return close_in_pauses(ears.encode_audio(inputs), ears.rest_code, activity)


@pytest.mark.parametrize("cutting", CUTTINGS)
@pytest.mark.parametrize(("fps", "offset"), [(25.0, 0.1), (30.0, 0.0), (24000 / 1001, 0.2)])
def test_any_cutting_gives_the_codes_of_the_whole(ears, wave, cutting, fps, offset):
    if cutting == "one sample":
        wave = wave[:7077]
    expected = whole_codes(ears, wave, fps, offset)
    gain = constant_gain(speech_gain(wave))
    live = codes_of(make_stream(ears, gain, fps, offset), wave, cutting)
    of_file = make_stream(ears, gain, fps, offset, FRAMES_AT_ONCE, lambda: [wave])
    assert torch.equal(codes_of(of_file, wave, cutting), live)
    torch.testing.assert_close(live, expected, atol=1e-6, rtol=0)
    assert live.std(0).min() > 0.01, "they say something"


@pytest.mark.parametrize("cutting", CUTTINGS[1:])
def test_a_followed_loudness_does_not_depend_on_the_pieces_either(ears, wave, cutting):
    expected = codes_of(make_stream(ears, LoudnessFollower()), 0.1 * wave, "all at once")
    assert torch.equal(
        codes_of(make_stream(ears, LoudnessFollower()), 0.1 * wave, cutting), expected
    )


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize(
    ("fps", "offset"), [(25.0, 0.1), (25.0, 0.0), (30.0, 0.06), (24000 / 1001, 0.2)]
)
def test_a_code_waits_for_the_lookahead_and_no_longer(ears, fps, offset, at_once):
    stream = make_stream(ears, constant_gain(1.0), fps, offset, at_once)
    silence = np.zeros(10, np.float32)
    waits, given = [], 0
    for n_samples in range(10, RATE, 10):
        for _ in stream.push(silence):
            waits.append(n_samples / RATE - given / fps)
            given += 1
    assert max(waits) <= stream.lookahead + 10 / RATE
    if fps == 25.0:
        assert max(waits) == pytest.approx(stream.lookahead, abs=10 / RATE)
    else:  # frames and steps meet anew each time; the largest wait may come later
        assert max(waits) == pytest.approx(stream.lookahead, abs=0.01)


def test_the_lookahead_of_the_default_portrait_is_known(ears):
    # Three frames of attention, half a window, 0.1 s of offset and the edge of a spectrogram.
    lookahead = make_stream(ears, constant_gain(1.0)).lookahead
    assert lookahead == pytest.approx(3 / 25 + 0.16 + 0.1 + 40 / RATE, abs=1e-9)


def test_an_interrupt_leaves_nothing_of_the_old_sound(ears, wave):
    stream = make_stream(ears, constant_gain(1.0))
    stream.push(wave[: RATE + 5])
    stream.interrupt()
    assert stream.end() == []
    fresh = codes_of(make_stream(ears, constant_gain(1.0)), wave, "7 ms")
    stream.push(wave[RATE : 3 * RATE + 1])
    stream.interrupt()
    assert torch.equal(codes_of(stream, wave, "7 ms"), fresh)
    assert torch.equal(codes_of(stream, wave, "all at once"), fresh), "after an end, too"


def test_features_made_before_come_at_their_frames(ears, wave):
    level = wave * np.float32(speech_gain(wave))
    n_frames = round(len(wave) / RATE * 25)
    ready = ReadyWindows(windows(MelExtractor()(level), n_frames, 25.0, 0.1))
    stream = SpeechStream(
        ears, ready, ActivityStream(25.0, 0.1), constant_gain(speech_gain(wave)), FRAMES_AT_ONCE
    )
    expected = whole_codes(ears, wave, 25.0, 0.1)
    torch.testing.assert_close(codes_of(stream, wave, "7 ms"), expected, atol=1e-6, rtol=0)


def test_the_mouth_shuts_within_three_frames():
    mouth = MouthMotion(torch.zeros(1))
    assert mouth.speak(torch.ones(1)) == 1, "the first frame goes on from nothing"
    rest = [float(mouth.rest()) for _ in range(3)]
    assert rest == pytest.approx([0.35, 0.35**2, 0.35**3])
    assert float(mouth.speak(torch.ones(1))) == pytest.approx(0.65, abs=0.02), "no jump"
