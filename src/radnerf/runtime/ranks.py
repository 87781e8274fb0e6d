"""What the processes of one training tell each other; a single process is alone and never waits.

All processes must call every function but rank(), count() and part(), in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from radnerf.errors import UserError

T = TypeVar("T")

# The first process may prepare a long video while the others wait. A process that dies is noticed
# at once, whatever this is.
TIMEOUT = timedelta(hours=12)

_alone = False


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes, which torchrun's environment variables name, while this lasts.

    Raises:
        UserError: another process was lost.
    """
    if count() > 1 or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    backend = "gloo"
    if torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        # Until Lightning chooses: not all on the first GPU.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    dist.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise UserError(
                "Another process of this training has ended, so this one has to: "
                "the same command goes on from the last checkpoint."
            ) from error
        raise
    leave_process_group()


def leave_process_group() -> None:
    """From here on every process is alone: the first may take its time."""
    if count() > 1:
        dist.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """While this lasts, this process is the only one: it waits for nobody."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def count() -> int:
    """How many processes train together."""
    if _alone:
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process; 0 is the one that writes files and speaks."""
    return dist.get_rank() if count() > 1 else 0


def part(length: int) -> slice:
    """The rows of so many that this process works on.

    All parts are equally long and follow one another; what cannot be divided evenly is left out.
    Of fewer rows than processes each gets one, some the same.
    """
    rows = length // count()
    if rows == 0:
        row = rank() % length
        return slice(row, row + 1)
    return slice(rank() * rows, (rank() + 1) * rows)


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """The first process goes through the block alone; the others follow when it is done."""
    if rank() > 0:
        wait()
    yield
    if rank() == 0:
        wait()


def wait() -> None:
    """Return when all processes have come here."""
    if count() > 1:
        dist.all_reduce(torch.zeros(1))  # dist.barrier() may wait on a GPU


def from_rank_zero(value: T) -> T:
    """The first process's value."""
    if count() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]


def largest(value: Tensor) -> Tensor:
    """Element by element the largest of all processes: the same bits everywhere."""
    if count() > 1:
        dist.all_reduce(value, dist.ReduceOp.MAX)
    return value


def summed(value: Tensor) -> Tensor:
    """Element by element the sum over all processes: the same bits everywhere."""
    if count() > 1:
        dist.all_reduce(value)
    return value


def totals(*numbers: int) -> list[int]:
    """Each number's sum over all processes."""
    if count() == 1:
        return list(numbers)
    return summed(torch.tensor(numbers)).tolist()


@torch.no_grad()
def broadcast(module: nn.Module) -> None:
    """Give all processes the parameters and buffers that the first has."""
    if count() > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), 0)
