"""Occupancy update: rendered samples to the cells that they lie in."""

from collections.abc import Sequence

from jaxtyping import Bool, Float, Int
from torch import Tensor

from radnerf.kernels.dispatch import pick

__all__ = ["cells_of", "raise_cells"]


def cells_of(
    points: Float[Tensor, "m d"],
    box: Float[Tensor, "2 d"],
    shape: Sequence[int],
    backend: str | None = None,
) -> Int[Tensor, " m"]:
    """Flat indices of the cells of a box that points lie in, those outside brought to the border.

    Args:
        box: (min, max) corners.
        shape: cells along each axis.
    """
    return pick("occupancy", backend, points, box).cells_of(points, box, shape)


def raise_cells(
    value: Float[Tensor, " c"],
    cell: Int[Tensor, " m"],
    weight: Float[Tensor, " m"],
    settled: Bool[Tensor, " m"],
    decay: float,
    backend: str | None = None,
) -> None:
    """In place: fade the cells of settled samples once, then raise all to their largest weight.

    Args:
        value: of the cells, not negative.
        cell, weight: where each sample lies, and what it weighs (not negative).
        settled: samples that count against their cell.
    """
    pick("occupancy", backend, value, weight).raise_cells(value, cell, weight, settled, decay)
