"""Maximum occupancy grids: the cells that any driving signal ever needs (RAD-NeRF section 3.4).

A grid knows neither network nor audio nor data: it is given a callable that answers queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from radnerf.kernels.occupancy import cells_of, raise_cells
from radnerf.registry import component
from radnerf.runtime import ranks


@component("grid")
class OccupancyGrid(nn.Module):
    """Cells of a box that may hold something, in 2 or 3 dimensions.

    Args:
        box: (min, max) corners.
        shape: cells along each axis.
        threshold: a cell is occupied above min(mean, threshold).
        decay: of the running maximum at each update.
        dilation: cells by which a new answer spreads to its neighbours.
        maximum: over the frames asked about; else a running mean, as for a scene that stands still.
    """

    box: Tensor
    value: Tensor
    candidate: Tensor
    occupied: Tensor
    fresh: float = 0.0  # value that cells start with

    def __init__(
        self,
        box: Sequence[Sequence[float]],
        shape: Sequence[int],
        threshold: float,
        decay: float = 0.95,
        dilation: int = 1,
        maximum: bool = True,
    ) -> None:
        super().__init__()
        self.maximum = maximum
        self.shape = tuple(shape)
        self.threshold = threshold
        self.decay = decay
        self.dilation = dilation
        self.register_buffer("box", torch.tensor(box, dtype=torch.float32))
        self.register_buffer("value", torch.zeros(self.shape))
        self.register_buffer("candidate", torch.ones(self.shape, dtype=torch.bool))
        self.register_buffer("occupied", torch.ones(self.shape, dtype=torch.bool))

    def observe(
        self,
        cells: Int[Tensor, " m"],
        weights: Float[Tensor, " m"],
        settled: Bool[Tensor, " m"],
    ) -> None:
        """Take note of how much rendered samples weighed; this kind of grid does not care."""

    def restrict(self, candidate: Bool[Tensor, "*shape"]) -> None:
        """Rule out cells for good, because no camera sees anything there."""
        self.candidate &= candidate
        self.occupied &= candidate

    @torch.no_grad()
    def update(
        self,
        query: Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]],
        generator: torch.Generator,
        fraction: float = 1.0,
    ) -> None:
        """Ask a fraction of the candidate cells, each at a random point inside it.

        Processes that train together ask some of these cells each and end with the same grid: they
        come with equally seeded generators.

        Args:
            query: value (density or alpha) at points in the box's units.
            fraction: of the candidate cells, drawn at random; the others keep their value.
        """
        cells = self.candidate.nonzero()
        device = cells.device
        if fraction < 1:
            cells = cells[torch.rand(len(cells), generator=generator, device=device) < fraction]
        if len(cells) == 0:
            return
        size = torch.tensor(self.shape, device=device)
        jitter = torch.rand(cells.shape, generator=generator, device=device)
        points = self.box[0] + (cells + jitter) / size * (self.box[1] - self.box[0])
        answer = torch.zeros_like(self.value)
        mine = slice(ranks.rank(), None, ranks.count())
        answer[cells[mine].unbind(-1)] = query(points[mine])
        answer = ranks.largest(answer)
        grown = _grown(answer, self.dilation)
        decay = torch.ones_like(self.value)
        decay[cells.unbind(-1)] = self.decay
        if self.maximum:
            self.value = torch.maximum(self.value * decay, grown)
        else:
            self.value = torch.lerp(grown, self.value, decay)
        self.value *= self.candidate
        mean = float(self.value[self.candidate].mean())
        self.occupied = self.candidate & (self.value > min(mean, self.threshold))

    @torch.no_grad()
    def refined(
        self,
        query: Callable[[Float[Tensor, "n d"], int], Float[Tensor, " n"]],
        n_rounds: int,
        threshold: float,
        generator: torch.Generator,
        factor: int = 2,
    ) -> Bool[Tensor, "*finer"]:
        """Cells `factor` times as fine, occupied where this grid is and an answer is large enough.

        Args:
            query: value at points in the box's units, in round 0 .. n_rounds - 1; every round asks
                each finer cell at a random point inside it.
            threshold: a finer cell is occupied above it.
        """
        finer = self.occupied
        for axis in range(finer.dim()):
            finer = finer.repeat_interleave(factor, axis)
        cells = finer.nonzero()
        size = torch.tensor(finer.shape, device=cells.device)
        largest = torch.zeros(finer.shape, device=cells.device)
        for i in range(n_rounds):
            jitter = torch.rand(cells.shape, generator=generator, device=cells.device)
            points = self.box[0] + (cells + jitter) / size * (self.box[1] - self.box[0])
            at = cells.unbind(-1)
            largest[at] = torch.maximum(largest[at], query(points, i))
        return finer & (largest > threshold)

    def refine(self, occupied: Bool[Tensor, "*finer"]) -> None:
        """Have these cells, of another shape over the same box, from now on."""
        self.shape = tuple(occupied.shape)
        self.value = torch.full(self.shape, self.fresh, device=occupied.device)
        self.candidate = occupied.clone()
        self.occupied = occupied.clone()

    @property
    def occupied_fraction(self) -> float:
        """Fraction of the box that is occupied."""
        return float(self.occupied.float().mean())

    def occupied_at(self, points: Float[Tensor, "n d"]) -> Bool[Tensor, " n"]:
        """Whether points (in the box's units) fall into occupied cells; outside ones do not."""
        inside = ((points >= self.box[0]) & (points < self.box[1])).all(-1)
        return inside & self.occupied.view(-1)[self.cells_of(points)]

    def cells_of(self, points: Float[Tensor, "n d"]) -> Int[Tensor, " n"]:
        """Flat cell indices of points, those outside brought to the border."""
        return cells_of(points, self.box, self.shape)


@component("grid")
class VisibleGrid(OccupancyGrid):
    """A maximum grid of what is seen instead of what is dense.

    A cell's value is the largest weight (transmittance times alpha) that a rendered sample in it
    had lately, over all frames. Dense cells that no camera ever sees, which make up most of a head,
    drop out like empty ones, so that only the visible shell is left to march through.

    Args:
        threshold: weight above which a cell is seen.
        decay: of a cell's value at each step that samples it.
        unseen: value that cells start with.
        maximum: else a cell's value is a running mean over the samples in it.
    """

    def __init__(
        self,
        box: Sequence[Sequence[float]],
        shape: Sequence[int],
        threshold: float,
        decay: float = 0.95,
        dilation: int = 1,
        unseen: float = 0.05,
        maximum: bool = True,
    ) -> None:
        super().__init__(box, shape, threshold, decay, dilation, maximum)
        self.unseen = self.fresh = unseen
        self.value.fill_(unseen)

    @torch.no_grad()
    def observe(
        self,
        cells: Int[Tensor, " m"],
        weights: Float[Tensor, " m"],
        settled: Bool[Tensor, " m"],
    ) -> None:
        """Note the weights of rendered samples in these cells, counted flat.

        Only samples of rays that are settled (opaque, or rightly empty) count against their cell:
        along a ray that should be opaque and is not, the surface may still appear anywhere.
        Processes that train together note what any of them saw.
        """
        weights = torch.where(settled, weights, weights.clamp_min(self.unseen))
        flat = self.value.view(-1)
        if not self.maximum:
            sums = flat.new_zeros(2, len(flat))
            sums[0].scatter_add_(0, cells, torch.ones_like(weights))
            sums[1].scatter_add_(0, cells, weights)
            count, total = ranks.summed(sums)
            mean = total / count.clamp_min(1)
            flat.copy_(torch.where(count > 0, torch.lerp(mean, flat, self.decay), flat))
            return
        if ranks.count() == 1:
            raise_cells(flat, cells, weights, settled, self.decay)
            return
        seen = flat.new_zeros(2, len(flat))
        seen[0].scatter_reduce_(0, cells, settled.to(seen.dtype), "amax")
        seen[1].scatter_reduce_(0, cells, weights, "amax")
        counted, heaviest = ranks.largest(seen)
        flat *= torch.where(counted > 0, self.decay, 1.0)
        torch.maximum(flat, heaviest, out=flat)

    @torch.no_grad()
    def update(
        self,
        query: Callable[[Float[Tensor, "n d"]], Float[Tensor, " n"]],
        generator: torch.Generator,
        fraction: float = 1.0,
    ) -> None:
        """Occupied are the cells seen lately, and their neighbours; the field is not asked."""
        seen = (self.value * self.candidate > self.threshold).float()
        self.occupied = self.candidate & (_grown(seen, self.dilation) > 0)


def _grown(value: Float[Tensor, "*shape"], cells: int) -> Float[Tensor, "*shape"]:
    """The largest value within so many cells in every direction."""
    pool = nnf.max_pool3d if value.dim() == 3 else nnf.max_pool2d
    return pool(value[None, None], 2 * cells + 1, 1, cells)[0, 0]
