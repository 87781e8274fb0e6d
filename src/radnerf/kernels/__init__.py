"""Operators, each behind one typed function with interchangeable back ends (see dispatch.py)."""

from radnerf.errors import KernelUnavailable
from radnerf.kernels.dispatch import available, get_backend, require, set_backend

__all__ = ["KernelUnavailable", "available", "get_backend", "require", "set_backend"]
