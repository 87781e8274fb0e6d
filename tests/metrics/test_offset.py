import numpy as np
import pytest
import torch

from radnerf.metrics import AudioOffset, MouthOffset
from radnerf.metrics.offset import best_lag, fill_gaps

FPS, RATE = 25.0, 16_000


def mouth(seconds=8.0, shift=0.0, seed=0):
    """Openings of random syllables, the frames' middles `shift` seconds late."""
    rng = np.random.default_rng(seed)
    shape = np.concatenate(
        [np.hanning(n) * rng.uniform(0.3, 1) for n in rng.integers(120, 320, 99)]
    )
    times = (np.arange(round(seconds * FPS)) + 0.5) / FPS - shift
    return np.interp(times, np.arange(len(shape)) / 1000, shape), shape


@pytest.mark.parametrize("late", [-0.12, 0.0, 0.02, 0.2])
def test_lateness_against_the_true_mouth(late):
    metric = MouthOffset(FPS)
    rendered, true = torch.from_numpy(mouth(shift=late)[0]), torch.from_numpy(mouth()[0])
    for part in (slice(0, 90), slice(90, None)):
        metric.update(0.3 * rendered[part] + 0.1, true[part])
    assert metric.compute() == pytest.approx(1000 * late, abs=6)


def test_lags_by_hand():
    spike = np.zeros(20)
    spike[10] = 1.0
    assert best_lag(np.roll(spike, 3), spike, 5) == pytest.approx(3, abs=0.01)
    assert best_lag(np.roll(spike, -2), spike, 5) == pytest.approx(-2, abs=0.01)
    assert np.isnan(best_lag(np.ones(20), spike, 5))
    assert np.isnan(best_lag(spike[:10], spike[:10], 5))


def test_gaps_are_bridged():
    nan = np.nan
    assert fill_gaps(np.array([nan, 1.0, nan, 3.0, nan])).tolist() == [1, 1, 2, 3, 3]
    assert np.isnan(fill_gaps(np.array([nan, nan]))).all()


@pytest.mark.parametrize("late", [-0.1, 0.0, 0.1])
def test_lateness_against_the_sound(late):
    opening, shape = mouth(shift=late)
    voice = np.repeat(shape[:8000], RATE // 1000) * np.random.default_rng(1).normal(size=8 * RATE)
    metric = AudioOffset((0.1 * voice).astype(np.float32), FPS)
    metric.update(torch.from_numpy(opening))
    found = metric.compute()
    assert found["offset_ms"] == pytest.approx(1000 * late, abs=21)
    assert found["correlation"] > 0.8


def test_a_mouth_that_never_moves_is_neither_late_nor_early():
    still = torch.ones(100, dtype=torch.float64)
    metric = MouthOffset(FPS)
    metric.update(still, torch.from_numpy(mouth(4.0)[0]))
    assert metric.compute().isnan()
    heard = AudioOffset(np.random.default_rng(0).normal(size=4 * RATE).astype(np.float32), FPS)
    heard.update(still)
    assert all(value.isnan() for value in heard.compute().values())
