from __future__ import annotations

import numpy as np
import pytest
import torch

from radnerf.audio import MelExtractor, WindowStream, attention_windows, windows
from radnerf.conventions import HOP


def test_a_frame_sees_the_sixteen_steps_around_its_start() -> None:
    features = np.arange(1, 61, dtype=np.float32)[:, None]
    out = windows(features, 30)
    assert out.shape == (30, 16, 1)
    assert out[10, :, 0].tolist() == list(range(13, 29))  # steps 12 .. 27 hold 13 .. 28
    assert out[0, :, 0].tolist() == [0] * 8 + list(range(1, 9))
    assert out[29, :, 0].tolist() == [*range(51, 61), *[0] * 6]


def test_frames_after_the_sound_are_silent_and_features_beyond_the_frames_are_dropped() -> None:
    features = np.ones((10, 3), np.float32)
    assert np.all(windows(features, 20)[10:] == 0)
    assert windows(features, 2).shape == (2, 16, 3)


def test_windows_of_wide_features_share_their_memory() -> None:
    features = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    out = windows(features, 50)
    assert np.shares_memory(out[10], out[13]) and not np.shares_memory(out[10], features)
    assert windows(features, 0).shape == (0, 16, 8) and windows(features, 1).shape == (1, 16, 8)
    # Frames that lie unevenly in the steps are copied; their windows are the same.
    uneven = windows(features, 60, fps=30.0)
    np.testing.assert_array_equal(uneven[30], out[25])


def test_thirty_frames_a_second_stay_in_time() -> None:
    features = np.arange(100, dtype=np.float32)[:, None]
    assert windows(features, 60, fps=30.0)[30, 8, 0] == 50  # one second in


def test_an_offset_looks_that_much_later() -> None:
    features = np.arange(1, 101, dtype=np.float32)[:, None]
    later = windows(features, 50, audio_offset=0.22)  # 11 steps
    assert later[0, :, 0].tolist() == list(range(4, 20))  # steps 3 .. 18 hold 4 .. 19
    assert later[45, :, 0].tolist() == [*range(94, 101), *[0] * 9]
    assert np.array_equal(windows(features, 40, audio_offset=-0.04)[1:], windows(features, 39))


def test_attention_sees_four_frames_back_and_three_ahead() -> None:
    frames = torch.arange(1.0, 11.0)[:, None, None].expand(10, 16, 2)
    out = attention_windows(frames, torch.tensor([0, 5, 9]))
    assert out.shape == (3, 8, 16, 2)
    assert out[:, :, 0, 0].tolist() == [
        [0, 0, 0, 0, 1, 2, 3, 4],
        [2, 3, 4, 5, 6, 7, 8, 9],
        [6, 7, 8, 9, 10, 0, 0, 0],
    ]


@pytest.mark.parametrize("samples", [1, 5 * HOP, 16_001, 33_333])
@pytest.mark.parametrize("length", [100, 640, 5000, 50_000])
@pytest.mark.parametrize(("fps", "offset"), [(25.0, 0.0), (25.0, 0.1), (30.0, 0.16), (24.0, 0.4)])
def test_streamed_windows_are_those_of_the_whole(
    samples: int, length: int, fps: float, offset: float
) -> None:
    extractor = MelExtractor(dim=8)
    wave = 0.1 * np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
    n_frames = round(samples / 16_000 * fps)
    stream = WindowStream(extractor.stream(), fps, offset)
    parts = []
    for start in range(0, samples, length):
        parts.append(stream.push(wave[start : start + length]))
        known, given = min(samples, start + length), sum(map(len, parts))
        assert known < stream.needed(given)
        assert given == 0 or stream.needed(given - 1) <= known
    streamed = np.concatenate([*parts, stream.end(n_frames)])
    np.testing.assert_array_equal(streamed, windows(extractor(wave), n_frames, fps, offset))


def test_a_stream_keeps_little() -> None:
    stream = WindowStream(MelExtractor().stream())
    for _ in range(10):
        stream.push(np.zeros(16_000, np.float32))
    assert len(stream.features._sound) < 4 * HOP
    assert len(stream._steps) <= 16
