"""How many rays a step draws, and how many samples they may need: by what rays had lately."""

from __future__ import annotations

import math

from radnerf.modules.counts import LateCount
from radnerf.runtime import ranks
from radnerf.runtime.devices import host_waits
from radnerf.types import Batch, Samples

# Capacity for samples comes in pieces of so many: of few sizes, memory is soon used again.
PIECE = 4096
# Times the capacity that rays needed lately. A patch with holes would be another picture.
HEADROOM, PATCH_HEADROOM = 1.25, 2.0


class SampleCounts:
    """Samples that rays had lately, those of patches apart."""

    def __init__(self) -> None:
        self._counts = {patches: LateCount() for patches in (False, True)}

    def note(self, batch: Batch, samples: Samples | None) -> None:
        """Take note of how many samples a batch's rays had."""
        if samples is not None:
            self._counts[batch.patch is not None].put(len(batch.xy), samples.offsets[-1])

    def capacity(self, batch: Batch) -> int | None:
        """Capacity for the batch's samples; None where they are counted.

        A ray whose samples do not fit has none, and so no gradient: as if it was not drawn.
        """
        n_rays, n_samples = self._counts[batch.patch is not None].latest()
        if not n_rays or not host_waits(batch.xy.device):
            return None
        headroom = HEADROOM if batch.patch is None else PATCH_HEADROOM
        return PIECE * max(1, math.ceil(headroom * len(batch.xy) * n_samples / n_rays / PIECE))

    def rays_for(self, n_samples: int, low: int, high: int) -> int | None:
        """Rays that make about so many samples on all processes together; None while unknown."""
        n_rays, counted = ranks.totals(*self._counts[False].latest())
        if n_rays == 0:
            return None
        wanted = n_rays * n_samples / max(1, counted)
        return int(min(max(wanted, low), high, 2 * n_rays))
