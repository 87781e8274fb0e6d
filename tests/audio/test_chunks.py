from __future__ import annotations

import numpy as np
import pytest

from radnerf.audio import MelExtractor, extractors
from radnerf.audio.chunks import in_chunks
from radnerf.conventions import HOP

REACH = 1000  # samples that a step of `local` depends on either side of its own


def local(sound: np.ndarray) -> np.ndarray:
    """Energy around every step but those whose surroundings are cut off, which are wrong."""
    n_steps = (len(sound) - 30) // HOP
    padded = np.pad(sound, REACH, constant_values=7.0).astype(np.float64)
    starts = 10 + np.arange(n_steps) * HOP
    return np.stack([np.square(padded[s : s + HOP + 2 * REACH]).sum(keepdims=True) for s in starts])


@pytest.mark.parametrize("samples", [1, HOP, 12_345, 40 * HOP])
def test_chunks_are_the_whole_where_the_margin_covers_the_context(samples: int) -> None:
    wave = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
    # Silence beyond the recording, so that `local` is right at its ends too.
    quiet = np.concatenate([np.zeros(8 * HOP, np.float32), wave, np.zeros(8 * HOP, np.float32)])
    whole = in_chunks(local, quiet, 1, chunk=10_000, edges=(10, 20))
    chunked = in_chunks(local, quiet, 1, chunk=7, margin=4, edges=(10, 20))
    assert chunked.shape == whole.shape == (-(-len(quiet) // HOP), 1)
    np.testing.assert_array_equal(chunked[4:-4], whole[4:-4])


def test_too_small_a_margin_shows() -> None:
    wave = np.random.default_rng(0).standard_normal(40 * HOP).astype(np.float32)
    whole = in_chunks(local, wave, 1, chunk=100, edges=(10, 20))
    chunked = in_chunks(local, wave, 1, chunk=7, margin=2, edges=(10, 20))
    assert np.abs(chunked - whole)[4:-4].max() > 1


def test_edges_are_samples_of_the_recording_or_silence() -> None:
    wave = np.arange(1, 3 * HOP + 1, dtype=np.float32)
    seen = []

    def keep(sound: np.ndarray) -> np.ndarray:
        seen.append(sound)
        return np.zeros((len(sound) // HOP, 1), np.float32)

    in_chunks(keep, wave, 1, chunk=2, edges=(-5, 5))
    assert [len(sound) for sound in seen] == [2 * HOP, HOP]
    assert seen[0][0] == 6 and seen[0][-1] == 2 * HOP + 5
    assert seen[1][-6:].tolist() == [3 * HOP, 0, 0, 0, 0, 0]


def test_a_spectrogram_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal(33_333).astype(np.float32)
    whole = MelExtractor()(wave)
    monkeypatch.setattr(extractors, "CHUNK", 10)
    np.testing.assert_allclose(MelExtractor()(wave), whole, rtol=1e-6, atol=1e-6)
