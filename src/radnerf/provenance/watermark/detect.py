"""Looks for the watermark in frames that may have been resized, cropped and encoded again.

What of each frame could be the mark is its finest detail by the local contrast; over time the still
mark stays and what moves averages out, and edges that stand still are what is left of the contrast.
For each size that the tile may have by now, the
sum is brought to the tile's own size and folded onto one tile, and every shift of the patterns is
tried at once by a Fourier transform.

False alarms. In the band every frequency of every pattern has a random phase of its own, so for any
fixed picture and reading (size, place and payload) the score, in units of its deviation, exceeds t
with a probability below exp(-t^2 / 2) (a sum of independent cosines is sub-Gaussian). There are
N_READINGS of them, whatever the picture shows, and the probability that any exceeds t is below
N_READINGS * exp(-t^2 / 2): the union bound, which `Detection.false_alarm` is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jaxtyping import Complex, Float, Int, UInt8
from scipy import fft

from radnerf.provenance.watermark.pattern import LARGE, PLACES, STEP, TILE, band, patterns
from radnerf.provenance.watermark.payload import N_SYMBOLS, N_VALUES, PORTRAIT_BITS, decode

FALSE_ALARM = 1e-6  # at most, on anything that is not marked
# Pixels of the window whose mean fine detail differs from, and of that for contrast over time.
DETAIL, AROUND = 7, 15
FLOOR = 0.5  # levels: less contrast is noise
WHITEN = 0.5  # exponent; 1 would let frequencies that did not survive count as much as the others
# The tile's side over the frame's shorter one: 0.5 at 512 pixels, 0.8 at 160 and 320, half as much
# again after a crop, less where the video fills a part of a larger picture.
SMALLEST, LARGEST = 0.2, 1.7
COARSE, FINE = 0.01, 0.002  # steps, relative
LARGER, FEW = 1080, 8  # pixels and frames of a second look where the first finds nothing
CHOSEN = 8  # sizes that are looked at closely
_N_FINE = round(COARSE / FINE)
_SIZES = np.exp(np.arange(math.log(SMALLEST), math.log(LARGEST), COARSE))
N_READINGS = 2 * len(_SIZES) * _N_FINE * TILE**2 * 2.0**PORTRAIT_BITS


@dataclass
class Detection:
    """What was found of a watermark.

    Attributes:
        portrait: nine hexadecimal digits, right if `found`.
        score: in deviations of what an unmarked picture scores.
        period: side of the tile in pixels of the picture.
        symbols: of the payload.
        heard: likeliest value of each symbol, before errors are corrected.
    """

    portrait: str
    score: float
    period: float
    symbols: Int[np.ndarray, " 8"]
    heard: Int[np.ndarray, " 8"]

    @property
    def false_alarm(self) -> float:
        """At most so probably does an unmarked picture score as much."""
        return min(1.0, N_READINGS * math.exp(-(self.score**2) / 2))

    @property
    def found(self) -> bool:
        return self.false_alarm <= FALSE_ALARM


def detect(frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Detection | None:
    """The likeliest watermark in frames of one size that belong together.

    Returns:
        What was read, to be believed if it is `found`; None if nothing could be.
    """
    small, large = Evidence(LARGE), Evidence(LARGER)
    for frame in frames:
        small.add(frame)
        # A single picture may be a screenshot that shows the video small.
        if large.count < FEW and min(frame.shape[:2]) > 1.5 * LARGE:
            large.add(frame)
    best: Detection | None = None
    for evidence in (small, large):
        if evidence.count and (best is None or not best.found):
            read = _search(evidence.detail())
            if read is not None and (best is None or read.score > best.score):
                best = read
    return best


def _search(detail: Float[np.ndarray, "h w"]) -> Detection | None:
    """The likeliest watermark in evidence, of any size and place."""
    short, best = min(detail.shape), None
    coarse = [(_peak(correlate(detail, short * size)), short * size) for size in _SIZES]
    coarse.sort(reverse=True)
    for _, period in coarse[:CHOSEN]:
        steps = FINE * (np.arange(_N_FINE) - (_N_FINE - 1) / 2)
        _, finest = max((_peak(correlate(detail, p)), p) for p in period * (1 + steps))
        read = _read(correlate(detail, finest), finest)
        if read is not None and (best is None or read.score > best.score):
            best = read
    return best


class Evidence:
    """What of frames of one size could be the mark.

    Args:
        most: pixels of the shorter side that are kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self._total: np.ndarray | float = 0.0

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        luma: np.ndarray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        if (scale := self.most / min(luma.shape)) < 1:
            luma = cv2.resize(luma, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self._total = self._total + _even(luma - cv2.blur(luma, (DETAIL, DETAIL)), DETAIL, FLOOR)
        self.count += 1

    def detail(self) -> Float[np.ndarray, "h w"]:
        return _even(np.asarray(self._total) / self.count, AROUND, FLOOR / 5)


def _even(detail: Float[np.ndarray, "h w"], window: int, floor: float) -> Float[np.ndarray, "h w"]:
    """Detail of about the same contrast everywhere."""
    power = np.maximum(cv2.blur(detail * detail, (window, window)), 0)  # rounded below 0
    return np.clip(detail / (np.sqrt(power) + floor), -2, 2)


def correlate(detail: Float[np.ndarray, "h w"], period: float) -> Float[np.ndarray, "patterns t t"]:
    """Every pattern at every shift, in deviations, if the tile's side is `period` pixels."""
    scale = TILE / period
    if scale != 1:
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        detail = cv2.resize(detail, None, fx=scale, fy=scale, interpolation=way)
    height, width = (-(-side // TILE) for side in detail.shape)
    padded = np.zeros((height * TILE, width * TILE), np.float32)
    padded[: detail.shape[0], : detail.shape[1]] = detail
    folded = padded.reshape(height, TILE, width, TILE).sum((0, 2))
    spectrum = fft.rfft2(folded)
    size = np.maximum(np.abs(spectrum), 1e-12)
    spectrum = np.where(band(), spectrum / size**WHITEN, 0)
    power = np.abs(spectrum) ** 2
    # Of a sum of cosines over the whole plane of frequencies, of which half is kept.
    deviation = math.sqrt(2 * float(power[:, 1:].sum()) + float(power[:, 0].sum())) / TILE**2
    weighed = np.asarray(spectrum / max(deviation, 1e-12), np.complex64)
    return fft.irfft2(weighed * _conjugates(), (TILE, TILE), axes=(1, 2))


@cache
def _conjugates() -> Complex[np.ndarray, "patterns t half"]:
    return patterns().conj().astype(np.complex64)


def _peak(found: Float[np.ndarray, "patterns t t"]) -> float:
    return float(_joint(found).max())


def _joint(found: Float[np.ndarray, "patterns t t"]) -> Float[np.ndarray, "t t"]:
    """Score of the likeliest symbols, for every place where the tile may begin."""
    places = found[1:].reshape(N_SYMBOLS, PLACES, STEP, PLACES, STEP)
    likeliest = places.max((1, 3)).sum(0)
    return found[0] + np.tile(likeliest, (PLACES, PLACES))


def _read(found: Float[np.ndarray, "patterns t t"], period: float) -> Detection | None:
    joint = _joint(found)
    row, column = np.unravel_index(int(joint.argmax()), joint.shape)
    shifted = np.roll(found, (-int(row), -int(column)), (1, 2))
    scores = shifted[1:, ::STEP, ::STEP].reshape(N_SYMBOLS, N_VALUES)
    payload = decode(scores)
    if payload is None:
        return None
    portrait, symbols, sum_of_scores = payload
    score = (float(shifted[0, 0, 0]) + sum_of_scores) / math.sqrt(1 + N_SYMBOLS)
    return Detection(portrait, score, period, symbols, scores.argmax(1))
