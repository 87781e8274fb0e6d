"""Reads checkpoints of the public RAD-NeRF code as data: no code of theirs ever runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radnerf.errors import UserError

# A checkpoint's statistics hold NumPy numbers, and nothing else that torch does not know.
_SCALAR = np.float64(0).__reduce__()[0]  # the function that makes a number from its bytes
SAFE_GLOBALS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),  # before and since NumPy 2
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4")},
]

# What only other networks have, and which.
OTHERS = {
    r"encoder_(xy|yz|xz)\.|aud_ch_att_net\.|eye_att_net\.": (
        "of ER-NeRF or SyncTalk, whose networks differ"
    ),
    r"embedding\.weight": "trained on character classes (--emb), which portraits do not have",
}


@dataclass
class Checkpoint:
    """What a portrait needs of a public checkpoint."""

    model: dict[str, Tensor]
    mean_density_torso: float | None  # of the torso's occupancy
    step: int | None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, or a bare state dict.

    Raises:
        UserError: missing, not a checkpoint, with code in it, or of another kind of network.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}: check the path.")
    content = _load(path)
    model = content.get("model", content) if isinstance(content, dict) else None
    tensors = isinstance(model, dict) and all(isinstance(v, Tensor) for v in model.values())
    if not (tensors and model and all(isinstance(name, str) for name in model)):
        raise UserError(f"{path} holds no state dict of a network: give a RAD-NeRF checkpoint.")
    for pattern, kind in OTHERS.items():
        if any(re.match(pattern, name) for name in model):
            raise UserError(f"{path} is {kind}: only RAD-NeRF checkpoints can be converted.")
    mean, step = (
        content.get(name) if model is not content else None
        for name in ("mean_density_torso", "global_step")
    )
    return Checkpoint(
        model=model,
        mean_density_torso=float(mean) if isinstance(mean, (int, float)) else None,
        step=step if isinstance(step, int) else None,
    )


def _load(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in any way
        blocked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if blocked:
            raise UserError(
                f"{path} wants to run {blocked[1]} when it is opened, which no weights need: it "
                "was not opened; use another copy."
            ) from error
        raise UserError(
            f"{path} cannot be read as a PyTorch checkpoint: is the download complete?"
        ) from error
