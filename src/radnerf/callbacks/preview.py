"""Pictures while training: held-out frames as they are and as the portrait renders them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from radnerf.callbacks.ema import ExponentialMovingAverage
from radnerf.callbacks.step import callback_of
from radnerf.data.clip import write_image
from radnerf.loggers import note_picture
from radnerf.modules.stage import StageModule
from radnerf.types import to_device


class Preview(pl.Callback):
    """Writes previews/<stage>_<percent>.png, truth above rendering, at fixed progress.

    They show the averaged weights, where there is an average (see ExponentialMovingAverage).

    Args:
        n_pictures: a stage.
        n_frames: held-out frames side by side in a picture.
    """

    def __init__(self, n_pictures: int = 4, n_frames: int = 3) -> None:
        self.n_pictures = n_pictures
        self.n_frames = n_frames
        self._next = 1

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StageModule)
        self._next = int(module.progress * self.n_pictures) + 1

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, *_args: Any
    ) -> None:
        assert isinstance(module, StageModule)
        if module.progress * self.n_pictures < self._next or not trainer.is_global_zero:
            return
        self._next = int(module.progress * self.n_pictures) + 1
        ema = callback_of(trainer, ExponentialMovingAverage)
        with ema.averaged(module) if ema else nullcontext(), torch.no_grad():
            picture = self.picture(module)
        name = f"{module.name}_{round(100 * module.progress):03d}.png"
        write_image(Path(trainer.default_root_dir) / "previews" / name, picture)
        note_picture(trainer.loggers, f"preview/{module.name}", picture, module.global_step)

    def picture(self, module: StageModule) -> np.ndarray:
        """Truth (above) and rendering (below) of held-out frames, RGB."""
        clip = module.data.clip
        frames = np.linspace(clip.n_train, len(clip) - 1, self.n_frames).round().astype(int)
        columns = []
        for i in frames:
            batch = to_device(module.data.whole_frame(int(i)), module.device)
            truth, rendered = (
                (value.clamp(0, 1).view(*clip.size, 3).cpu().numpy() * 255).round()
                for value in (batch.target, module.predict(batch))
            )
            columns.append(np.concatenate([truth, rendered]))
        return np.concatenate(columns, 1).astype(np.uint8)
