"""When the mouth moves and when there is speech: the two clocks of a talking portrait."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d, uniform_filter1d

from radnerf.audio.extractors import MelExtractor
from radnerf.audio.load import SPEECH_LEVEL_DB, Wave, normalise_loudness
from radnerf.conventions import FEATURE_RATE, FPS, HOP, SAMPLE_RATE

# Seconds by which the mouth moves before it is heard, in well-synchronised speech.
SPEECH_LEAD = 0.10
LEADS = (-0.2, 0.4)  # searched
NATURAL_LEADS = (0.0, 0.2)  # of clips whose sound and picture belong together
LEAST_CORRELATION = 0.25  # chance reaches 0.2 in ten seconds
SHORTEST = 4.0  # seconds of speech that tell the lead

PAUSE_DB = 25.0  # below the level of speech
SHORTEST_PAUSE = 0.25  # seconds; shorter ones are stops inside words


def mouth_lead(opening: Float[np.ndarray, " frames"], wave: Wave, fps: float = FPS) -> float:
    """Seconds by which a clip's mouth moves ahead of its sound, to one feature step.

    Found where mouth opening and loudness correlate best, both without their slow parts. Videos
    differ by 100 ms and more (encoders shift the sound), and an audio net that must learn the lead
    from attention generalises far worse than one whose windows are centred by it. SPEECH_LEAD for
    clips that are too short or do not speak.
    """
    if min(len(opening) / fps, len(wave) / SAMPLE_RATE) < SHORTEST:
        return SPEECH_LEAD
    leads, correlation = lead_correlations(opening, wave, fps)
    best = int(np.argmax(correlation))
    if correlation[best] < LEAST_CORRELATION:
        return SPEECH_LEAD
    return float(leads[best])


def lead_correlations(
    opening: Float[np.ndarray, " frames"], wave: Wave, fps: float = FPS
) -> tuple[Float[np.ndarray, " leads"], Float[np.ndarray, " leads"]]:
    """How well mouth opening and loudness agree when the mouth is so many seconds ahead.

    Both go without their slow parts. Leads in seconds, a feature step apart, and correlations: all
    0 when mouth or sound never change, the clip is shorter than a second, or a frame has no face.
    """
    leads = np.arange(round(LEADS[0] * FEATURE_RATE), round(LEADS[1] * FEATURE_RATE) + 1)
    nothing = leads / FEATURE_RATE, np.zeros(len(leads))
    features = MelExtractor(floor_db=-80.0)(normalise_loudness(wave))
    n_steps = min(int(len(opening) * FEATURE_RATE / fps), len(features))
    if n_steps < FEATURE_RATE or not np.isfinite(opening).all():
        return nothing
    middle_of_frame = (np.arange(len(opening)) + 0.5) * FEATURE_RATE / fps
    mouth = _quick(np.interp(np.arange(n_steps) + 0.5, middle_of_frame, opening))
    sound = _quick(features[:n_steps].mean(1))
    if mouth.std() == 0 or sound.std() == 0:
        return nothing
    correlation = [
        np.corrcoef(
            mouth[max(0, -lead) : n_steps - max(0, lead)],
            sound[max(0, lead) : n_steps - max(0, -lead)],
        )[0, 1]
        for lead in leads
    ]
    return leads / FEATURE_RATE, np.array(correlation)


def driving_lead(lead: float) -> float:
    """Lead of a portrait's mouth when it speaks new audio, from that of its training clip.

    A speaker's own lead is kept; one that no mouth has is the clip's fault and is put right.
    """
    low, high = NATURAL_LEADS
    return lead if low <= lead <= high else SPEECH_LEAD


def speech_activity(
    wave: Wave, n_frames: int, fps: float = FPS, lead: float = 0.0
) -> Float[np.ndarray, " frames"]:
    """How much each frame is part of speech: 1 in speech, 0 in pauses, with 0.1 s ramps.

    A frame is judged by the sound `lead` seconds later, as in windows(). Pauses shorter than
    SHORTEST_PAUSE do not count. Any loudness will do.
    """
    loud = normalise_loudness(wave).astype(np.float64)
    n_steps = -(-len(loud) // HOP)
    power = np.square(np.pad(loud, (0, n_steps * HOP - len(loud)))).reshape(n_steps, HOP).mean(1)
    active = (power > 10 ** ((SPEECH_LEVEL_DB - PAUSE_DB) / 10)).astype(np.float64)
    width = round(SHORTEST_PAUSE * FEATURE_RATE)
    closed = minimum_filter1d(maximum_filter1d(active, width), width)
    soft = uniform_filter1d(closed, round(0.1 * FEATURE_RATE))
    return np.interp(
        ((np.arange(n_frames) + 0.5) / fps + lead) * FEATURE_RATE,
        np.arange(n_steps) + 0.5,
        soft,
        right=0.0,
    ).astype(np.float32)


def _quick(signal: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """What changes within 0.02 to 0.3 s: syllables, not sentences."""
    return np.asarray(gaussian_filter1d(signal, 1) - gaussian_filter1d(signal, 15))
