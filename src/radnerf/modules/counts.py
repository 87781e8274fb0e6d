"""Numbers that a device computes and the host reads some steps later, without waiting for them."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor


class LateCount:
    """How many samples so many rays had, as of the last step whose work is done."""

    def __init__(self) -> None:
        self._known = (0, 0)
        self._coming: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()

    def put(self, n_rays: int, n_samples: Tensor) -> None:
        """Have the number on its way: a step's count, still on the device."""
        done = None
        number = n_samples.detach().to("cpu", non_blocking=True)
        if n_samples.is_cuda:
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(n_samples.device))
        self._coming.append((n_rays, number, done))

    def latest(self) -> tuple[int, int]:
        """Rays and their samples; (0, 0) while nothing is known."""
        while self._coming:
            n_rays, number, done = self._coming[0]
            if done is not None and not done.query():
                break
            self._known = (n_rays, int(number.numpy()))
            self._coming.popleft()
        return self._known
