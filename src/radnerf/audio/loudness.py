"""One loudness for all speech: measured where the recording is known, followed where it is not."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jaxtyping import Float

from radnerf.conventions import SAMPLE_RATE

SPEECH_LEVEL_DB = -26.0  # RMS of speech, relative to full scale (ITU-T P.56 practice)
MAX_GAIN_DB = 30.0  # more would lift the noise of a recording without speech
LEVEL_BLOCK = SAMPLE_RATE // 20
SPEECH_RANGE_DB = 20.0  # blocks this far below the loudest ones are pauses

MEMORY = 20 * SAMPLE_RATE // LEVEL_BLOCK  # blocks by which a follower judges: 20 s
DOUBT = 6.0  # blocks of speech after which two thirds of it are gone
STEADY_DB = 6.0  # noise varies less, speech more, from its quiet blocks to its loud ones
SLEW_DB = 1.0  # largest change of the gain in a block

Wave = Float[np.ndarray, " samples"]
Pieces = Iterable[Float[np.ndarray, " _"]]  # of a wave


def speech_gain(wave: Wave) -> float:
    """Factor that brings the speech in a recording to SPEECH_LEVEL_DB.

    Pauses do not count, so that slow and fast speakers come out equally loud; the gain is at most
    MAX_GAIN_DB, so that noise alone stays quiet.
    """
    return gain_of_pieces([wave], len(wave))


def gain_of_pieces(pieces: Pieces, n_samples: int) -> float:
    """speech_gain() of a recording of n_samples that comes in pieces."""
    blocks = in_blocks(pieces, n_samples)
    power = np.array([np.mean(np.square(block)) for block in blocks], np.float64)
    loud = float(np.quantile(power, 0.95))
    if loud <= 0.0:
        return 1.0
    return float(10 ** (_gain_db(power, loud) / 20))


def in_blocks(pieces: Pieces, n_samples: int) -> Iterator[Float[np.ndarray, " _"]]:
    """The recording in blocks of about LEVEL_BLOCK samples, whose lengths differ by one at most."""
    n_blocks = max(1, n_samples // LEVEL_BLOCK)
    length, n_longer = divmod(n_samples, n_blocks)
    rest = np.zeros(0, np.float32)
    number = 0
    for piece in pieces:
        rest = np.concatenate([rest, piece])
        start = 0
        while number < n_blocks and start + length + (number < n_longer) <= len(rest):
            stop = start + length + (number < n_longer)
            yield rest[start:stop]
            start, number = stop, number + 1
        rest = rest[start:]


def _gain_db(power: Float[np.ndarray, " blocks"], loud: float) -> float:
    """What the speech among blocks lacks to SPEECH_LEVEL_DB; the loud ones have so much power."""
    speech = power[power >= loud * 10 ** (-SPEECH_RANGE_DB / 10)]
    return float(min(SPEECH_LEVEL_DB - 10 * np.log10(speech.mean()), MAX_GAIN_DB))


def normalise_loudness(wave: Wave) -> Wave:
    """The recording at SPEECH_LEVEL_DB; see speech_gain."""
    return np.asarray(wave * np.float32(speech_gain(wave)))


class LoudnessFollower:
    """Brings speech that is still to come to SPEECH_LEVEL_DB, as far as the past tells.

    The gain of a sample depends on whole blocks before it, so that nothing waits, and the pieces in
    which samples come change nothing. It begins at `gain`, goes towards the speech_gain() of the
    last 20 s of sound that is not too quiet to be speech, the faster the more speech there was,
    and bends by SLEW_DB in a block (20 dB a second) at most. Steady noise and silence leave it as
    it is.

    Args:
        gain: before anything is known.
    """

    def __init__(self, gain: float = 1.0) -> None:
        self._first_db = self._gain_db = 20 * float(np.log10(gain))
        self._before_db = self._gain_db  # at the start of the unfinished block
        self._block = np.zeros(0, np.float32)
        self._power: deque[float] = deque(maxlen=MEMORY)
        self._n_speech = 0

    @property
    def gain(self) -> float:
        """The factor at the end of the block that comes now."""
        return float(10 ** (self._gain_db / 20))

    def __call__(self, samples: Wave) -> Wave:
        """The next samples, as loud as they should be."""
        parts: list[np.ndarray] = [np.zeros(0, np.float32)]
        while len(samples):
            done = len(self._block)
            part, samples = np.split(samples, [LEVEL_BLOCK - done])
            part = part.astype(np.float32, copy=False)
            way = (done + 1 + np.arange(len(part))) / LEVEL_BLOCK
            gain_db = self._before_db + way * (self._gain_db - self._before_db)
            parts.append(part * (10 ** (gain_db / 20)).astype(np.float32))
            self._block = np.concatenate([self._block, part])
            if len(self._block) == LEVEL_BLOCK:
                self._learn(float(np.mean(np.square(self._block, dtype=np.float64))))
                self._block = np.zeros(0, np.float32)
        return np.concatenate(parts)

    def _learn(self, power: float) -> None:
        """Set the gain at the end of the next block."""
        self._before_db = self._gain_db
        if power < 10 ** ((SPEECH_LEVEL_DB - MAX_GAIN_DB) / 10):
            return
        self._power.append(power)
        known = np.array(self._power)
        quiet, loud = (float(level) for level in np.quantile(known, [0.1, 0.95]))
        if loud < quiet * 10 ** (STEADY_DB / 10):
            return
        self._n_speech += power >= loud * 10 ** (-SPEECH_RANGE_DB / 10)
        sure = 1 - math.exp(-self._n_speech / DOUBT)
        goal = self._first_db + sure * (_gain_db(known, loud) - self._first_db)
        self._gain_db += float(np.clip(goal - self._gain_db, -SLEW_DB, SLEW_DB))


Loudness = Callable[[Wave], Wave]


def constant_gain(gain: float) -> Loudness:
    """The loudness of a recording whose speech_gain() is known."""
    return lambda samples: np.asarray(samples * np.float32(gain))
