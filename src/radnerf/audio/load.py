"""Sound from any file, at one rate and one loudness."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from jaxtyping import Float

from radnerf.conventions import SAMPLE_RATE
from radnerf.errors import UserError

SPEECH_LEVEL_DB = -26.0  # RMS of speech, relative to full scale (ITU-T P.56 practice)
MAX_GAIN_DB = 30.0  # more would lift the noise of a recording without speech
LEVEL_BLOCK = SAMPLE_RATE // 20
SPEECH_RANGE_DB = 20.0  # blocks this far below the loudest ones are pauses

Wave = Float[np.ndarray, " samples"]


def load_audio(path: str | Path) -> Wave:
    """The first audio track of an audio or video file, mono at SAMPLE_RATE, in [-1, 1].

    Raises:
        UserError: no such file, not decodable, without an audio track, or with an empty one.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no audio file {path}: check the path.")
    # The channels are averaged here: the resampler's own mono is 3 dB louder for stereo.
    resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE)
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path} has no audio track: give a file with sound.")
            blocks = [
                block.to_ndarray().mean(0)
                for frame in container.decode(audio=0)
                for block in resampler.resample(frame)
            ]
            if blocks:  # an encoder's delay stays in the resampler until it is flushed
                blocks += [block.to_ndarray().mean(0) for block in resampler.resample(None)]
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise UserError(f"{path} cannot be decoded as audio ({error}): convert it.") from error
    wave = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if wave.size == 0:
        raise UserError(f"The audio track of {path} is empty: give a file with sound.")
    return np.nan_to_num(wave.astype(np.float32, copy=False))


def speech_gain(wave: Wave) -> float:
    """Factor that brings the speech in a recording to SPEECH_LEVEL_DB.

    Pauses do not count, so that slow and fast speakers come out equally loud; the gain is at most
    MAX_GAIN_DB, so that noise alone stays quiet.
    """
    n_blocks = max(1, len(wave) // LEVEL_BLOCK)
    power = np.array([np.mean(np.square(b)) for b in np.array_split(wave, n_blocks)], np.float64)
    loud = np.quantile(power, 0.95)
    if loud <= 0.0:
        return 1.0
    speech = power[power >= loud * 10 ** (-SPEECH_RANGE_DB / 10)]
    gain_db = SPEECH_LEVEL_DB - 10 * np.log10(speech.mean())
    return float(10 ** (min(gain_db, MAX_GAIN_DB) / 20))


def normalise_loudness(wave: Wave) -> Wave:
    """The recording at SPEECH_LEVEL_DB; see speech_gain."""
    return np.asarray(wave * np.float32(speech_gain(wave)))
