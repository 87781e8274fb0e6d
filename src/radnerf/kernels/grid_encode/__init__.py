"""Multi-resolution grid encoding: interpolated table rows, level by level."""

from jaxtyping import Float
from torch import Tensor

from radnerf.kernels.dispatch import pick
from radnerf.kernels.grid_encode.levels import GridLevels

__all__ = ["GridLevels", "grid_encode"]


def grid_encode(
    x: Float[Tensor, "n d"],
    table: Float[Tensor, "entries features"],
    levels: GridLevels,
    backend: str | None = None,
) -> Float[Tensor, "n outputs"]:
    """Linearly interpolated features of points in every level, levels one after another.

    x: in [0, 1], clamped. Outputs: levels.n_outputs. Gradients flow to the table and, where asked
    for, to x (zero outside the box); second-order gradients do not exist.
    Raises ValueError when x or the table does not fit the levels. RAD-NeRF section 3.2.
    """
    if x.shape[-1] != levels.dim:
        raise ValueError(f"grid_encode: x has {x.shape[-1]} axes, its levels have {levels.dim}")
    if tuple(table.shape) != (levels.n_entries, levels.n_features):
        raise ValueError(
            f"grid_encode: the table is {tuple(table.shape)}, "
            f"its levels need {(levels.n_entries, levels.n_features)}"
        )
    return pick("grid_encode", backend, x, table).grid_encode(x, table, levels)
