"""The landmarks of a clip's frames on disk: ori_imgs/<i>.lms, 68 x 2 numbers as text, pixels."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from radnerf.data.transforms import numbered_files
from radnerf.errors import UserError

SUFFIX = ".lms"
# Detectors miss a frame now and then: frames without landmarks are bridged, so many in a row.
MAX_BRIDGE = 25


class LandmarkFiles:
    """Landmarks by frame number, also of frames that have none of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def numbers(self) -> Int[np.ndarray, " m"]:
        """Sorted numbers of the frames with landmarks of their own."""
        return np.array(sorted(numbered_files(self.folder, SUFFIX)), np.int64)

    def __call__(self, number: int) -> Float[np.ndarray, "68 2"]:
        """Landmarks of a frame: its own, or on the line between those before and after it.

        Raises:
            UserError: unreadable, or missing for too long.
        """
        after = int(np.searchsorted(self.numbers, number))
        around = self.numbers[max(after - 1, 0) : after + 1]
        if not len(around) or number in around:
            return self._read(number)
        first, last = int(around[0]), int(around[-1])
        lost = last - first - 1 if first < last else abs(number - first)
        if lost > MAX_BRIDGE:
            raise UserError(
                f"{self.folder} has no landmarks ({SUFFIX}) for frame {number} and {lost - 1} more "
                "frames around it: take them out of the transforms, or find the landmarks again."
            )
        fraction = np.float32((number - first) / (last - first) if first < last else 0.0)
        return np.asarray((1 - fraction) * self._read(first) + fraction * self._read(last))

    def _read(self, number: int) -> Float[np.ndarray, "68 2"]:
        path = self.folder / f"{number}{SUFFIX}"
        try:
            points = np.loadtxt(path, dtype=np.float32)
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read as 68 landmarks ({error}).") from error
        if points.shape != (68, 2):
            raise UserError(f"{path} holds {points.shape} numbers instead of 68 x 2 landmarks.")
        return points
