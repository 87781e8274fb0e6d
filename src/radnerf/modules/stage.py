"""What all training stages share: optimizer groups, schedule by budget, checkpoint contents."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from radnerf.data.datamodule import ClipDataModule, Sampling
from radnerf.errors import UserError
from radnerf.fields.audio_net import ATTENTION_FACTOR
from radnerf.losses import LossTerm, Rendering, color_error, weighted
from radnerf.modules.budget import Budget
from radnerf.rendering.portrait import Portrait
from radnerf.runtime import ranks
from radnerf.runtime.memory import retain_freed_memory
from radnerf.team import team
from radnerf.types import Batch

AGAIN = 0.05  # fraction of an extra budget over which learning rates rise to where they were


@dataclass(frozen=True)
class LearningRates:
    """Adam's learning rates by kind of parameter, and their exponential decay over the stage."""

    grid: float = 5e-3
    net: float = 5e-4
    attention_factor: float = ATTENTION_FACTOR
    audio_factor: float = 1.0  # of the audio net's parameters
    coordinate_factor: float = 1.0  # of the net that gives the audio coordinate
    coordinate_from: float = 0.0  # fraction of the budget before which that net rests
    camera: float = 1e-5  # of the refined cameras: radians and world units
    final_factor: float = 0.1
    warmup: float = 0.0  # fraction of the budget over which the rates rise from a tenth

    def at(self, progress: float) -> float:
        """Factor at a fraction of the budget."""
        rise = min(1.0, 0.1 + 0.9 * progress / self.warmup) if self.warmup else 1.0
        return float(rise * self.final_factor**progress)

    def after(self, progress: float) -> float:
        """Factor at a fraction of an extra budget: from where the rates ended it falls to half.

        It rises to there first, for the optimiser has to find its moments anew.
        """
        rise = min(1.0, 0.1 + 0.9 * progress / AGAIN)
        return float(rise * self.final_factor * 0.5**progress)


class StageModule(pl.LightningModule):
    """A training stage of a portrait.

    Args:
        portrait: shared by all stages; a stage trains some of its parts.
        budget: time or steps of this stage.
        rates: learning rates.
        sampling: how batches are drawn.
        losses: the terms of the loss, by name.
        seed: of everything random in a step; a step's randomness is a function of its number.
    """

    name = "stage"

    def __init__(
        self,
        portrait: Portrait,
        budget: Budget,
        rates: LearningRates,
        sampling: Sampling,
        losses: Mapping[str, LossTerm],
        seed: int = 0,
        optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    ) -> None:
        super().__init__()
        self.portrait = portrait
        self.budget = budget
        self.rates = rates
        self.sampling = sampling
        self.losses = dict(losses)
        self.seed = seed
        self.optimizer_factory = optimizer or torch.optim.Adam

    @property
    def trained_parts(self) -> list[nn.Module]:
        """The parts of the portrait that this stage trains."""
        raise NotImplementedError

    def render(self, batch: Batch) -> Rendering:
        """A batch's pixels as this stage learns them."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch, and its terms and notes to log.

        Raises:
            UserError: all terms are turned off.
        """
        rendering = self.render(batch)
        terms = weighted(self.losses, rendering)
        if not terms:
            raise UserError(f"The {self.name} stage has no loss: give one of its terms a weight.")
        return torch.stack(list(terms.values())).sum(), terms | self.notes(rendering)

    def notes(self, rendering: Rendering) -> dict[str, Tensor]:
        """What else to log."""
        error = color_error(rendering.pixels.detach(), rendering.target)
        return {"psnr": -10 * torch.log10(error)}

    def predict(self, batch: Batch) -> Tensor:
        """The stage's picture of a batch's pixels, for previews."""
        raise NotImplementedError

    @property
    def data(self) -> ClipDataModule:
        return cast(ClipDataModule, self.trainer.datamodule)  # type: ignore[attr-defined]

    @property
    def progress(self) -> float:
        """Fraction of the budget used."""
        return self.budget.progress(self.global_step)

    @property
    def phase(self) -> float:
        """How far what changes over the stage has come, 0 to 1."""
        return 1.0 if self.budget.extra else self.progress

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        for part in self.trained_parts:
            yield from part.parameters()

    def generator(self, purpose: int, own: bool = False) -> torch.Generator:
        """Random numbers for this step and purpose, the same after resuming; see seed_of()."""
        return torch.Generator(self.device).manual_seed(self.seed_of(purpose, own))

    def host_generator(self, purpose: int) -> torch.Generator:
        """As generator(), for numbers that the host needs at once."""
        return torch.Generator().manual_seed(self.seed_of(purpose))

    def chance(self, purpose: int) -> float:
        """A random number in [0, 1) for this step and purpose, the same on all devices."""
        return random.Random(self.seed_of(purpose)).random()

    def seed_of(self, purpose: int, own: bool = False) -> int:
        """Seed for this step and purpose, the same on all devices unless each has its own."""
        numbers = (self.seed, self.global_step, purpose)
        if own and ranks.rank():
            numbers += (ranks.rank(),)  # type: ignore[assignment]
        return hash(numbers) & 0x7FFFFFFF

    def setup(self, stage: str) -> None:
        retain_freed_memory()
        self.portrait.requires_grad_(False)
        for parameter in self.trained_parameters():
            parameter.requires_grad_(True)

    def on_fit_start(self) -> None:
        self._follow_the_load()

    def _follow_the_load(self) -> None:
        """Torch's operators on a CPU have as many threads as the load leaves: see team.py."""
        if self.device.type == "cpu":
            team.elements()

    def on_fit_end(self) -> None:
        team.rest()

    def on_train_start(self) -> None:
        self.budget.start()
        if ranks.count() > 1:
            self.budget.agreed_s = self.budget.used_s
        # A run that was cut off after its last step has none left.
        self.trainer.should_stop = self.progress >= 1

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        loss, terms = self.loss(batch)
        if self.global_step % 10 == 0:
            rates = {f"lr/{group['name']}": group["lr"] for group in self.optimizer_groups()}
            self.log_dict({f"{self.name}/{k}": value for k, value in (terms | rates).items()})
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_index: int) -> None:
        self._follow_the_load()
        if self.progress >= 1:
            self.trainer.should_stop = True

    def optimizer_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups of parameters, with their names and learning rates of now."""
        return cast(torch.optim.Optimizer, self.optimizers(use_pl_optimizer=False)).param_groups

    def configure_optimizers(self) -> Any:
        kinds = ("grid", "net", "coordinate", "audio", "attention", "camera")
        groups: dict[str, list[nn.Parameter]] = {kind: [] for kind in kinds}
        for part in cast(list[Any], self.trained_parts):
            for kind, parameters in part.rate_groups().items():
                groups[kind] += parameters
        audio = self.rates.net * self.rates.audio_factor
        lr = {
            "grid": self.rates.grid,
            "net": self.rates.net,
            "coordinate": self.rates.net * self.rates.coordinate_factor,
            "audio": audio,
            "attention": audio * self.rates.attention_factor,
            "camera": self.rates.camera,
        }
        trained = [kind for kind in kinds if groups[kind]]
        optimizer = self.optimizer_factory(
            [{"name": kind, "params": groups[kind], "lr": lr[kind]} for kind in trained]
        )

        def factor(_step: int, kind: str) -> float:
            rests = kind == "coordinate" and self.phase < self.rates.coordinate_from
            rate = self.rates.after if self.budget.extra else self.rates.at
            return 0.0 if rests else rate(self.progress)

        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, [partial(factor, kind=kind) for kind in trained]
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["budget_used_s"] = self.budget.elapsed_s

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.budget.used_s = float(checkpoint["budget_used_s"])
