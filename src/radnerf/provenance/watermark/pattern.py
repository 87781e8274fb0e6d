"""The watermark's patterns: noise of one octave and a half, told apart by where it lies.

Nine patterns lie over each other in a square tile that repeats over the frame. The first says where
the tile begins; how far each of the others is shifted against it, around the tile's edges, is one
of 16 x 16 places and so one symbol (JAWS: Kalker et al. 1999). A crop moves them all together.

The patterns come from a constant that anybody can read here: who knows it can remove the mark, and
can put it on anything.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from radnerf.provenance.watermark.payload import N_SYMBOLS, VERSION

TILE = 256  # pixels of a side, where the frame's shorter side is that of LARGE
SMALL, LARGE = 320, 512
PLACES = 16  # a side; a symbol's value is row * PLACES + column
STEP = TILE // PLACES
# Wavelengths in pixels: shorter ones die of halving, longer ones show as stains.
SHORTEST, LONGEST = 10, 32


def unit_of(height: int, width: int) -> float:
    """By how much the tile is enlarged in large frames, which are shown and sent smaller.

    Small frames get half of it, or too few waves would fit.
    """
    short = min(height, width)
    return 0.5 if short < SMALL else float(max(1, round(short / LARGE)))


@cache
def band() -> Bool[np.ndarray, "t half"]:
    """Which frequencies the patterns have."""
    return (_frequency() >= 1 / LONGEST) & (_frequency() <= 1 / SHORTEST)


@cache
def patterns() -> Complex[np.ndarray, "patterns t half"]:
    """Spectra of the nine patterns: phases inside the band, nothing outside."""
    spectra = []
    for i in range(1 + N_SYMBOLS):
        key = f"radnerf watermark {VERSION}, pattern {i}".encode()
        bits = np.unpackbits(
            np.frombuffer(hashlib.shake_256(key).digest(TILE * TILE // 8), np.uint8)
        )
        noise = np.fft.rfft2(2.0 * bits.reshape(TILE, TILE) - 1)
        inside = np.where(band(), noise, 1)
        spectra.append(np.where(band(), inside / np.abs(inside), 0))
    return np.array(spectra)


def tile_of(symbols: Int[np.ndarray, " 8"], unit: float = 1) -> Float[np.ndarray, "side side"]:
    """The tile of a payload, of unit variance.

    Args:
        unit: enlargement.
    """
    down, along = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None]
    spectrum = patterns()[0].copy()
    for spectra, symbol in zip(patterns()[1:], symbols, strict=True):
        row, column = divmod(int(symbol), PLACES)
        spectrum += spectra * np.exp(-2j * np.pi * STEP * (down * row + along * column))
    spectrum[band()] /= np.sqrt(_frequency()[band()])  # long waves survive better
    side, half = round(TILE * unit), TILE // 8  # the band ends below
    resized = np.zeros((side, side // 2 + 1), complex)
    resized[:half, :half], resized[-half:, :half] = spectrum[:half, :half], spectrum[-half:, :half]
    tile = np.fft.irfft2(resized, (side, side))
    return (tile / tile.std()).astype(np.float32)


def _frequency() -> Float[np.ndarray, "t half"]:
    """Cycles a pixel."""
    return np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None])
