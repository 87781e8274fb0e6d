"""A stage of one number, for callbacks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from radnerf.callbacks import StepControl
from radnerf.data.datamodule import Sampling
from radnerf.modules.budget import Budget
from radnerf.modules.stage import LearningRates, StageModule
from radnerf.rendering.portrait import Portrait
from radnerf.types import Batch, Conditioning, Rays


class Part(nn.Module):
    """A number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))

    def rate_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"net": [self.weight]}


class OnePart(Portrait):
    """A portrait of nothing else."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.part = Part()


class OneNumber(StageModule):
    """Trains a number towards 1."""

    name = "one"

    def __init__(self, budget: Budget) -> None:
        rates = LearningRates(net=0.1, final_factor=1.0)
        super().__init__(OnePart(), budget, rates, Sampling(), {})

    @property
    def trained_parts(self) -> list[nn.Module]:
        return [self.portrait.part]

    @property
    def number(self) -> Tensor:
        return self.portrait.part.weight

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.number - 1).square().sum()
        return loss, {"psnr": -10 * torch.log10(loss.detach())}

    def predict(self, batch: Any) -> Tensor:
        """Every pixel as bright as the number."""
        return self.number.detach().expand(len(batch.target), 3)

    data = property(lambda self: SimpleNamespace(clip=Clip(), whole_frame=whole_frame))


class Clip:
    """Twelve frames, of which the first ten are trained on."""

    size, n_train = (2, 3), 10

    def __len__(self) -> int:
        return 12


def whole_frame(i: int) -> Batch:
    """Six pixels, brighter from frame to frame."""
    n, number = 6, torch.zeros(1, dtype=torch.long)
    nothing, flags = torch.zeros(n, 3), torch.zeros(n, dtype=torch.bool)
    return Batch(
        rays=Rays(nothing, nothing, torch.zeros(n, dtype=torch.long)),
        xy=nothing[:, :2],
        target=torch.full((n, 3), i / 12),
        behind=nothing,
        background=nothing,
        torso_alpha=nothing[:, 0],
        head=flags,
        face=flags,
        eyes=flags,
        conditioning=Conditioning(
            audio=torch.zeros(1, 8, 16, 1),
            eye=torch.ones(1),
            pose=torch.zeros(1, 6),
            index=number,
            torso=torch.zeros(1, 3),
        ),
    )


class PowerCut(pl.Callback):
    """Ends everything before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_args: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("power cut")


def train(folder: Path, steps: int, *callbacks: pl.Callback, ckpt: Path | None = None) -> OneNumber:
    """The stage after so many steps."""
    module = OneNumber(Budget(steps=steps))
    (folder / "checkpoints").mkdir(exist_ok=True)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=-1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[StepControl(), *callbacks],
    )
    batches = torch.utils.data.DataLoader([whole_frame(0)] * 1000, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module, batches, ckpt_path=ckpt, weights_only=ckpt is not None or None)
    return module
