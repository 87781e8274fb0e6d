"""The 64 bits of a watermark, and how they are read back from what is left of it.

    version  4 bits   of the pattern and of this layout
    portrait 36 bits  the first nine hexadecimal digits of the portrait file's SHA-256
    checksum 24 bits  CRC-24 (RFC 4880) of the 40 bits before it

They travel as eight symbols of eight bits. The checksum is also what corrects errors: of all
readings near the received one, only one in 2^28 is a payload, and the likeliest of those is taken.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float, Int

VERSION = 1
N_SYMBOLS, N_VALUES = 8, 256
PORTRAIT_BITS = 36
PORTRAIT_DIGITS = PORTRAIT_BITS // 4

_CRC_POLYNOMIAL, _CRC_START = 0x864CFB, 0xB704CE
# So that no payload is the same symbol all over.
_SCRAMBLE = np.array([0x5A, 0xC3, 0x17, 0xE8, 0x2D, 0xB4, 0x76, 0x99], np.int64)
_CANDIDATES = 16  # values a symbol that are considered


def encode(portrait: str) -> Int[np.ndarray, " 8"]:
    """Symbols of the payload of a portrait.

    Args:
        portrait: its first nine hexadecimal digits.
    """
    facts = VERSION << PORTRAIT_BITS | int(portrait, 16)
    word = facts << 24 | _crc(facts)
    return np.frombuffer(word.to_bytes(N_SYMBOLS, "big"), np.uint8).astype(np.int64) ^ _SCRAMBLE


def decode(scores: Float[np.ndarray, "8 256"]) -> tuple[str, Int[np.ndarray, " 8"], float] | None:
    """The likeliest payload.

    Args:
        scores: how much speaks for each value of each symbol; those of a payload are added.

    Returns:
        Portrait, symbols and the sum of their scores, or None if no reading near the likeliest one
        is a payload of this version.
    """
    values = np.argsort(scores, axis=1)[:, -_CANDIDATES:]
    halves = []
    for symbols in (range(N_SYMBOLS // 2), range(N_SYMBOLS // 2, N_SYMBOLS)):
        syndrome, score = np.zeros(1, np.int64), np.zeros(1)
        for s in symbols:
            syndrome = (syndrome[:, None] ^ _syndromes()[s, values[s] ^ _SCRAMBLE[s]]).ravel()
            score = (score[:, None] + scores[s, values[s]]).ravel()
        halves.append((syndrome, score))
    (left, left_score), (right, right_score) = halves
    order = np.argsort(right, kind="stable")
    wanted, found = left ^ _target(), right[order]
    first, last = np.searchsorted(found, wanted), np.searchsorted(found, wanted, "right")
    best: tuple[float, int, int] | None = None
    for i in np.flatnonzero(first < last):
        for j in order[first[i] : last[i]]:
            total = float(left_score[i] + right_score[j])
            if best is None or total > best[0]:
                best = total, int(i), int(j)
    if best is None:
        return None
    picks = [*_digits(best[1]), *_digits(best[2])]
    read = np.array([values[s, pick] for s, pick in enumerate(picks)])
    word = int.from_bytes((read ^ _SCRAMBLE).astype(np.uint8).tobytes(), "big")
    portrait = (word >> 24) & ((1 << PORTRAIT_BITS) - 1)
    return f"{portrait:0{PORTRAIT_DIGITS}x}", read, best[0]


def _digits(index: int) -> list[int]:
    """Which candidate of each of four symbols a row of a half stands for."""
    return [int(i) for i in np.unravel_index(index, (_CANDIDATES,) * (N_SYMBOLS // 2))]


def _crc(facts: int) -> int:
    crc = _CRC_START
    for byte in facts.to_bytes(5, "big"):
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1000000 | _CRC_POLYNOMIAL
    return crc


def _syndrome(word: int) -> int:
    """Checksum that is missing, and the version: linear in the word's bits but for a constant."""
    facts = word >> 24
    return (_crc(facts) ^ (word & 0xFFFFFF)) << 4 | facts >> PORTRAIT_BITS


@cache
def _syndromes() -> Int[np.ndarray, "8 256"]:
    """What each value of each symbol adds (exclusive or) to the syndrome of an empty word."""
    empty = _syndrome(0)
    return np.array(
        [
            [_syndrome(value << 8 * (N_SYMBOLS - 1 - s)) ^ empty for value in range(N_VALUES)]
            for s in range(N_SYMBOLS)
        ],
        np.int64,
    )


def _target() -> int:
    """What the symbols of a payload add up to."""
    return _syndrome(0) ^ VERSION
