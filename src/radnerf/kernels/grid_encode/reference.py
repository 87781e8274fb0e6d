"""Grid encoding in plain torch: the definition that the other back ends are tested against."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from radnerf.kernels.grid_encode.levels import GridLevels


def grid_encode(x: Tensor, table: Tensor, levels: GridLevels) -> Tensor:
    x = x.clamp(0, 1)
    features = []
    for level, scale in enumerate(levels.scales):
        position = x * scale + 0.5
        corner = position.detach().floor()
        fraction = position - corner
        rows = table[levels.offsets[level] : levels.offsets[level + 1]]
        total = rows.new_zeros(len(x), levels.n_features)
        for bits in product((0, 1), repeat=levels.dim):
            up = torch.tensor(bits, device=x.device)
            weight = torch.where(up.bool(), fraction, 1 - fraction).prod(-1, keepdim=True)
            total = total + weight.to(rows.dtype) * rows[_row(corner.long() + up, level, levels)]
        features.append(total)
    return torch.cat(features, -1)


def _row(vertex: Tensor, level: int, levels: GridLevels) -> Tensor:
    """Rows, within a level, of integer vertices [n, d]."""
    terms = vertex * torch.tensor(levels.strides[level], device=vertex.device)
    if levels.kind == "hash" and levels.folded[level]:
        index = terms[:, 0]
        for axis in range(1, levels.dim):
            index = index ^ terms[:, axis]
    else:
        index = terms.sum(-1)
    # In 64 bits the low 32, all that unsigned 32-bit arithmetic keeps, are the same.
    return (index & 0xFFFFFFFF) % levels.entries[level]
