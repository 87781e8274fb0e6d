"""What a clip's eye track says: which openings are shut and open, and how shut a frame is."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

# Eye ratio at which both eyes are normally open (percent of the image area, public convention).
OPEN_EYE = 0.25
# Frames in which the eyes are more shut than this are part of a blink.
HALF_SHUT = 0.4
# People blink a tenth of the time at most, and squint: the usual opening is above the median.
USUAL_QUANTILE = 0.7

EyeRange = tuple[float, float]
T = TypeVar("T", bound=Any)  # an array or a tensor


def eye_range(eye: Float[np.ndarray, " t"]) -> EyeRange:
    """Eye ratios of a clip's most shut and of its usually open eyes.

    A clip without a blink gets 0 for shut; one without eyes the public range.
    """
    shut, opened = float(eye.min()), usual_opening(eye)
    if opened <= 0:
        return 0.0, OPEN_EYE
    return (shut if shut < (1 - HALF_SHUT) * opened else 0.0), opened


def eye_opening(eye: T, limits: EyeRange) -> T:
    """Opening of the eyes from eye ratios: 0 shut, 1 as usually open, more when wider."""
    shut, opened = limits
    return (eye - shut) / (opened - shut)


def usual_opening(eye: Float[np.ndarray, " t"]) -> float:
    """Eye ratio of a clip's usually open eyes."""
    return float(np.quantile(eye, USUAL_QUANTILE))


def closedness(eye: Float[np.ndarray, " t"], limits: EyeRange) -> Float[np.ndarray, " t"]:
    """How shut the eyes are: 0 as usually open (or wider), 1 as shut as ever."""
    shut, opened = limits
    return np.clip((opened - eye) / (opened - shut), 0.0, 1.0)


def blink_odds(
    eye: Float[np.ndarray, " t"], limits: EyeRange, fraction: float
) -> Float[np.ndarray, " t"]:
    """Odds of drawing each frame, so that blinks get a fraction of the draws however few they are.

    A third of it goes to half shut, nearly shut and shut frames each (as far as there are
    any): a blink passes through the last in a frame or two. A clip that blinks more than that
    keeps what it has.
    """
    odds = np.ones(len(eye))
    closed = closedness(eye, limits)
    blinking = closed > HALF_SHUT
    natural = float(blinking.mean())
    if fraction <= 0 or not 0 < natural < 1:
        return odds
    level = np.minimum(3 * (closed[blinking] - HALF_SHUT) / (1 - HALF_SHUT), 2).astype(int)
    counts = np.bincount(level, minlength=3)
    part = 1 / (counts[level] * np.count_nonzero(counts))  # adds up to 1
    fraction = max(fraction, natural)
    odds[blinking] = part * fraction / (1 - fraction) * (~blinking).sum()
    return odds
