import math
from itertools import pairwise

import numpy as np
import pytest

from radnerf.metrics.mfcc import mel_filters, mfcc


def by_the_book(samples):
    """The definition of python_speech_features, number by number, with no FFT and no DCT call."""
    flat = [samples[0]] + [b - 0.97 * a for a, b in pairwise(samples)]
    steps = 1 if len(flat) <= 400 else 1 + math.ceil((len(flat) - 400) / 160)
    flat += [0.0] * (400 + 160 * (steps - 1) - len(flat))
    mel = [2595 * math.log10(1 + 8000 / 700) * j / 27 for j in range(28)]
    corner = [math.floor(513 * 700 * (10 ** (m / 2595) - 1) / 16000) for m in mel]
    turn = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(400)) / 512)
    rows = []
    for i in range(steps):
        power = np.abs(turn @ np.array(flat[160 * i : 160 * i + 400])) ** 2 / 512
        logs = []
        for low, middle, high in zip(corner, corner[1:], corner[2:], strict=False):
            band = sum(power[k] * (k - low) / (middle - low) for k in range(low, middle))
            band += sum(power[k] * (high - k) / (high - middle) for k in range(middle, high))
            logs.append(math.log(band))
        row = []
        for n in range(13):
            scale = math.sqrt((1 if n == 0 else 2) / 26)
            value = sum(x * math.cos(math.pi * n * (2 * j + 1) / 52) for j, x in enumerate(logs))
            row.append(scale * value * (1 + 11 * math.sin(math.pi * n / 22)))
        rows.append([math.log(power.sum()), *row[1:]])
    return np.array(rows)


@pytest.mark.parametrize("length", [300, 400, 401, 1500])
def test_coefficients_by_the_book(length):
    samples = np.random.default_rng(0).normal(0, 3000, length).round()
    found, expected = mfcc(samples), by_the_book(samples.tolist())
    assert found.shape == expected.shape
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_silence_is_finite():
    assert np.isfinite(mfcc(np.zeros(16000))).all() and len(mfcc(np.zeros(16000))) == 99


def test_neighbouring_filters_cross_over():
    filters = mel_filters()
    assert filters.shape == (26, 257) and filters.max() == 1
    inside = slice(int(filters[0].argmax()), int(filters[-1].argmax()) + 1)
    assert filters.sum(0)[inside] == pytest.approx(1)
