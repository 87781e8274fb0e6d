"""Where the tests run, and on which back ends."""

from __future__ import annotations

import torch

from radnerf.kernels import available
from radnerf.kernels.dispatch import triton_interprets

HAS_GPU = torch.cuda.is_available() and not triton_interprets()


def device_of(backend: str) -> str:
    """Triton runs where there is a GPU, and else, interpreted, on the CPU as the others do."""
    return "cuda" if backend == "triton" and HAS_GPU else "cpu"


def fast_backends(op: str) -> list[str]:
    """Back ends of an operator that can run here, but plain torch."""
    return [name for name in available(op) if name != "reference"]
