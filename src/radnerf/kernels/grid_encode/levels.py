"""The shape of a multi-resolution grid: where each level lies in the table, and how it is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from radnerf.errors import UserError

# Public implementations multiply the axes by these before the XOR.
HASH_PRIMES = (1, 2654435761, 805459861)


@dataclass(frozen=True)
class GridLevels:
    """Levels of a tiled or hashed grid over [0, 1]^dim (1 to 3), as public checkpoints hold them.

    Level l has base * s^l cells an axis with s = (finest / base)^(1 / (n_levels - 1)); a point is
    at x * (base * s^l - 1) + 0.5 in it. A level whose vertices fit in 2^log2_table_size entries is
    stored densely, a larger one is folded: its dense index (tiled) or the XOR of its coordinates
    times primes (hash), modulo the entries. RAD-NeRF section 3.2, instant-ngp section 3.

    Raises UserError where there is no such grid.
    """

    n_levels: int = 16
    n_features: int = 2
    base_resolution: int = 16
    finest_resolution: int = 2048
    log2_table_size: int = 16
    kind: Literal["tiled", "hash"] = "tiled"
    dim: int = 3
    # Public CUDA code leaves out the axes of a tiled level that follow the one whose stride
    # exceeds its entries (so fine levels ignore the third axis); its checkpoints need that.
    drop_folded_axes: bool = False
    # In a dense index the last axis runs fastest, not the first.
    last_axis_first: bool = False

    def __post_init__(self) -> None:
        for name in ("n_levels", "n_features", "base_resolution", "finest_resolution"):
            if getattr(self, name) < 1:
                raise UserError(f"A grid's {name} must be 1 or more, not {getattr(self, name)}.")
        if self.kind not in ("tiled", "hash"):
            raise UserError(f"A grid is tiled or hash, not {self.kind!r}.")

    @cached_property
    def scales(self) -> tuple[float, ...]:
        """Cells between x = 0 and x = 1 of each level."""
        growth = math.log2(self.finest_resolution / self.base_resolution)
        last = max(self.n_levels - 1, 1)
        # The product before the quotient: the last level is then exact, and not rounded up.
        return tuple(
            self.base_resolution * 2.0 ** (level * growth / last) - 1.0
            for level in range(self.n_levels)
        )

    @cached_property
    def resolutions(self) -> tuple[int, ...]:
        return tuple(math.ceil(scale + 1.0) for scale in self.scales)

    @cached_property
    def entries(self) -> tuple[int, ...]:
        """Table rows of each level."""
        return tuple(
            math.ceil(min(2**self.log2_table_size, (res + 1) ** self.dim) / 8) * 8
            for res in self.resolutions
        )

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First table row of each level, and the end."""
        ends = [0]
        for rows in self.entries:
            ends.append(ends[-1] + rows)
        return tuple(ends)

    @property
    def n_entries(self) -> int:
        """Rows of the whole table."""
        return self.offsets[-1]

    @property
    def n_outputs(self) -> int:
        """Width of the encoding."""
        return self.n_levels * self.n_features

    @cached_property
    def folded(self) -> tuple[bool, ...]:
        """Whether a level has more vertices than entries."""
        return tuple(
            (res + 1) ** self.dim > rows
            for res, rows in zip(self.resolutions, self.entries, strict=True)
        )

    @cached_property
    def strides(self) -> tuple[tuple[int, ...], ...]:
        """Of each level, what an axis' coordinate is multiplied by before summing (or XOR)."""
        strides = []
        for res, rows, folded in zip(self.resolutions, self.entries, self.folded, strict=True):
            if self.kind == "hash" and folded:
                strides.append(HASH_PRIMES[: self.dim])
                continue
            dense = [(res + 1) ** axis for axis in range(self.dim)]
            drop = self.drop_folded_axes
            kept = [0 if drop and stride > rows else stride for stride in dense]
            strides.append(tuple(reversed(kept) if self.last_axis_first else kept))
        return tuple(strides)
