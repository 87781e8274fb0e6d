"""Where the tests' tensors go."""

from __future__ import annotations

import torch


def device_of(backend: str) -> str:
    """Triton runs where there is a GPU, and else, interpreted, on the CPU as the others do."""
    return "cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"
