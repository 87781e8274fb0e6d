"""Which processes train together: started here, by torchrun, or by Slurm's srun."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from omegaconf import DictConfig
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from radnerf.errors import UserError
from radnerf.runtime import ranks
from radnerf.runtime.processes import Workers

REFUSALS = (MisconfigurationException, ValueError, TypeError, ImportError)


def adopt_slurm() -> None:
    """Where srun started this process with others, say so as torchrun does."""
    tasks = int(os.environ.get("SLURM_NTASKS", "1"))
    if "RANK" in os.environ or "SLURM_STEP_ID" not in os.environ or tasks == 1:
        return
    per_node = tasks // int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))
    os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(per_node))  # which Lightning insists on
    slurm = SLURMEnvironment(auto_requeue=False)
    _set_ranks(slurm.global_rank(), tasks, slurm.local_rank(), per_node, slurm.node_rank())
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm.main_address, str(slurm.main_port)


def started() -> bool:
    """Whether this process is one of several that train together."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def together(trainer: DictConfig) -> bool:
    """Whether the trainer is one for several devices.

    Raises:
        UserError: several devices without such a trainer.
    """
    if "strategy" not in trainer and trainer.devices != 1 and n_devices(trainer) > 1:
        raise UserError(
            f"trainer.devices={trainer.devices} needs trainer=ddp: see docs/devices.md."
        )
    return "strategy" in trainer


def n_devices(trainer: DictConfig) -> int:
    """Devices of this machine that the trainer takes.

    Raises:
        UserError: it cannot have them.
    """
    return int(_construct(_without_strategy(trainer), logger=False).num_devices)


def make_trainer(trainer: DictConfig, **settings: Any) -> pl.Trainer:
    """The trainer of a config in this process, which may be one of several.

    Raises:
        UserError: it cannot be had here, or the processes that were started are not as many as the
            config has devices.
    """
    if ranks.count() == 1:
        return _construct(_without_strategy(trainer), **settings)
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    if trainer.devices == "auto":
        settings["devices"] = here
    elif n_devices(trainer) != here:
        raise UserError(
            f"{here} processes were started on this machine and trainer.devices={trainer.devices}: "
            "leave trainer.devices out."
        )
    return _construct(trainer, num_nodes=ranks.count() // here, **settings)


def device(trainer: DictConfig) -> torch.device:
    """Where this process trains.

    Raises:
        UserError: there is no such place here.
    """
    return make_trainer(trainer, logger=False).strategy.root_device


def launch(count: int, target: Callable[..., Any], *arguments: Any) -> Any:
    """What target(*arguments) returns to the first of so many new processes, which train together.

    Raises:
        UserError: one of them failed or died; the others were ended.
    """
    # Or DDP remarks on every training that not all of its steps leave parameters out.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    port = find_free_network_port()
    with Workers(count, _join, count, port, target, arguments) as workers:
        return workers.result()


def _join(
    number: int,
    channel: Connection,
    count: int,
    port: int,
    target: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> Any:
    _set_ranks(number, count, number, count, 0)
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", str(port)
    with ranks.process_group():
        return target(*arguments)


def _set_ranks(rank: int, count: int, local_rank: int, local_count: int, node: int) -> None:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")
    values = (rank, count, local_rank, local_count, node)
    os.environ.update({name: str(value) for name, value in zip(names, values, strict=True)})
    os.environ["TORCHELASTIC_RUN_ID"] = "radnerf"  # by which Lightning knows whom to believe


def _construct(trainer: DictConfig, **settings: Any) -> pl.Trainer:
    try:
        return instantiate(trainer, **settings)
    except InstantiationException as error:
        # What Lightning says of devices, precisions and so on that it cannot use.
        if isinstance(error.__cause__, REFUSALS):
            reason = str(error.__cause__).strip().rstrip(".!")
            raise UserError(
                f"trainer: {reason}. See docs/devices.md, or take trainer=auto."
            ) from error
        raise


def _without_strategy(trainer: DictConfig) -> DictConfig:
    if "strategy" not in trainer:
        return trainer
    kept = {name: trainer[name] for name in trainer if name != "strategy"}
    return DictConfig(kept)
