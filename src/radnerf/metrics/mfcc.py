"""The 13 cepstral coefficients that SyncNet hears, as the package python_speech_features has them.

Other definitions of MFCC differ in window, filters, scaling and energy: the network knows this one.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.fft import dct

from radnerf.conventions import SAMPLE_RATE

WINDOW, STEP = SAMPLE_RATE * 25 // 1000, SAMPLE_RATE // 100  # 25 ms every 10 ms
N_FFT, N_FILTERS, N_COEFFICIENTS = 512, 26, 13
PRE_EMPHASIS, LIFTER = 0.97, 22


def mfcc(samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, "steps 13"]:
    """Coefficients of sound at 16 kHz, 100 steps a second; the first is the log energy.

    Args:
        samples: in the units of 16-bit integers.
    """
    flat = np.concatenate([samples[:1], samples[1:] - PRE_EMPHASIS * samples[:-1]]).astype(float)
    n_steps = 1 + max(0, -(-(len(flat) - WINDOW) // STEP))
    flat = np.pad(flat, (0, max(0, (n_steps - 1) * STEP + WINDOW - len(flat))))
    frames = np.lib.stride_tricks.sliding_window_view(flat, WINDOW)[::STEP][:n_steps]
    power = np.abs(np.fft.rfft(frames, N_FFT)) ** 2 / N_FFT
    least = np.finfo(float).eps  # log of silence
    energy, bands = power.sum(1), power @ mel_filters().T
    cepstrum = dct(np.log(np.where(bands == 0, least, bands)), type=2, axis=1, norm="ortho")
    order = np.arange(N_COEFFICIENTS)
    cepstrum = cepstrum[:, :N_COEFFICIENTS] * (1 + LIFTER / 2 * np.sin(np.pi * order / LIFTER))
    cepstrum[:, 0] = np.log(np.where(energy == 0, least, energy))
    return cepstrum


@lru_cache
def mel_filters() -> Float[np.ndarray, "filters bins"]:
    """Triangles of height 1 between whole bins, equally spaced in mel from 0 to 8000 Hz."""
    mel = np.linspace(0, 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700), N_FILTERS + 2)
    corners = np.floor((N_FFT + 1) * 700 * (10 ** (mel / 2595) - 1) / SAMPLE_RATE)
    bins = np.arange(N_FFT // 2 + 1)[None]
    low, middle, high = (corners[k : k + N_FILTERS, None] for k in range(3))
    rise = (bins - low) / np.maximum(middle - low, 1)
    fall = (high - bins) / np.maximum(high - middle, 1)
    rising, falling = (low <= bins) & (bins < middle), (middle <= bins) & (bins < high)
    return np.where(rising, rise, np.where(falling, fall, 0.0))
