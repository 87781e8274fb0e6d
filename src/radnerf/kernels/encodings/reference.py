"""Frequency and spherical harmonics encodings in plain torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# sqrt((2 l + 1) / (4 pi) * (l - |m|)! / (l + |m|)!), times sqrt(2) for m != 0, times the numeric
# factor of the associated Legendre polynomial; named by l and |m|.
C00 = math.sqrt(1 / (4 * math.pi))
C1 = math.sqrt(3 / (4 * math.pi))
C20 = math.sqrt(5 / (16 * math.pi))
C21 = math.sqrt(15 / (4 * math.pi))
C22 = math.sqrt(15 / (16 * math.pi))
C30 = math.sqrt(7 / (16 * math.pi))
C31 = math.sqrt(21 / (32 * math.pi))
C32 = math.sqrt(105 / (16 * math.pi))
C33 = math.sqrt(35 / (32 * math.pi))


def frequency_encode(x: Tensor, octaves: int) -> Tensor:
    parts = [x]
    for octave in range(octaves):
        scaled = x * 2.0**octave
        parts += [scaled.sin(), scaled.cos()]
    return torch.cat(parts, -1)


def sh_encode(directions: Tensor, degree: int) -> Tensor:
    x, y, z = directions.unbind(-1)
    bands = [
        [torch.full_like(x, C00)],
        [-C1 * y, C1 * z, -C1 * x],
        [
            C21 * x * y,
            -C21 * y * z,
            C20 * (3 * z * z - 1),
            -C21 * x * z,
            C22 * (x * x - y * y),
        ],
        [
            -C33 * y * (3 * x * x - y * y),
            2 * C32 * x * y * z,
            C31 * y * (1 - 5 * z * z),
            C30 * z * (5 * z * z - 3),
            C31 * x * (1 - 5 * z * z),
            C32 * z * (x * x - y * y),
            -C33 * x * (x * x - 3 * y * y),
        ],
    ]
    return torch.stack([value for band in bands[:degree] for value in band], -1)
