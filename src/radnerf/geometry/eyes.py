"""What a clip's eye track says: which openings are shut and open, and how shut a frame is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

# Eye ratio at which both eyes are normally open (percent of the image area, public convention).
OPEN_EYE = 0.25
# Frames in which the eyes are more shut than this are part of a blink.
HALF_SHUT = 0.4
# People blink a tenth of the time at most, and squint: the usual opening is above the median.
USUAL_QUANTILE = 0.7

EyeRange = tuple[float, float]


def eye_range(eye: Float[np.ndarray, " t"]) -> EyeRange:
    """Eye ratios of a clip's most shut and of its usually open eyes.

    A clip without a blink gets 0 for shut; one without eyes the public range.
    """
    shut, opened = float(eye.min()), usual_opening(eye)
    if opened <= 0:
        return 0.0, OPEN_EYE
    return (shut if shut < (1 - HALF_SHUT) * opened else 0.0), opened


def usual_opening(eye: Float[np.ndarray, " t"]) -> float:
    """Eye ratio of a clip's usually open eyes."""
    return float(np.quantile(eye, USUAL_QUANTILE))


def closedness(eye: Float[np.ndarray, " t"], limits: EyeRange) -> Float[np.ndarray, " t"]:
    """How shut the eyes are: 0 as usually open (or wider), 1 as shut as ever."""
    shut, opened = limits
    return np.clip((opened - eye) / (opened - shut), 0.0, 1.0)


def blink_odds(
    eye: Float[np.ndarray, " t"], limits: EyeRange, share: float
) -> Float[np.ndarray, " t"]:
    """Odds of drawing each frame, so that blinks get a share of the draws however few they are.

    A third of the share goes to half shut, nearly shut and shut frames each (as far as there are
    any): a blink passes through the last in a frame or two. A clip that blinks more than the share
    keeps what it has.
    """
    odds = np.ones(len(eye))
    closed = closedness(eye, limits)
    blinking = closed > HALF_SHUT
    natural = float(blinking.mean())
    if share <= 0 or not 0 < natural < 1:
        return odds
    level = np.minimum(3 * (closed[blinking] - HALF_SHUT) / (1 - HALF_SHUT), 2).astype(int)
    counts = np.bincount(level, minlength=3)
    part = 1 / (counts[level] * np.count_nonzero(counts))  # of the share, adds up to 1
    share = max(share, natural)
    odds[blinking] = part * share / (1 - share) * (~blinking).sum()
    return odds
