"""The torso stage, and the joint stage that makes the seam disappear."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from radnerf.kernels.tensors import TorsoState
from radnerf.losses import alpha_entropy, color_error
from radnerf.modules.head import HeadModule, patch_error
from radnerf.modules.stage import StageModule
from radnerf.types import Batch


class TorsoModule(StageModule):
    """Learns the torso against the true torso over the background plate; the head has no part.

    Args:
        alpha_weight: of the squared error of the coverage.
        entropy_weight: of the coverage's entropy.
        grid_every: steps between updates of the 2D occupancy grid.
    """

    name = "torso"

    def __init__(
        self,
        *args: Any,
        alpha_weight: float = 0.1,
        entropy_weight: float = 1e-4,
        grid_every: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.alpha_weight = alpha_weight
        self.entropy_weight = entropy_weight
        self.grid_every = grid_every

    @property
    def trained_parts(self) -> list[nn.Module]:
        return [self.portrait.torso]

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        # The first updates would ask an untrained field; until then every cell is occupied.
        if self.global_step and self.global_step % self.grid_every == 0:
            update_torso_grid(self, batch)

    def predict(self, batch: Batch) -> Tensor:
        state = self.portrait.torso_state(batch.conditioning)
        rgb, alpha = self.portrait.render_torso(batch.xy, batch.rays.frame, state)
        return rgb * alpha[:, None] + batch.background * (1 - alpha[:, None])

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        state = self.portrait.torso_state(batch.conditioning)
        rgb, alpha = self.portrait.render_torso(batch.xy, batch.rays.frame, state)
        pixels = rgb * alpha[:, None] + batch.background * (1 - alpha[:, None])
        terms = {
            "color": color_error(pixels, batch.behind),
            "alpha": self.alpha_weight * torch.mean((alpha - batch.torso_alpha) ** 2),
            "entropy": self.entropy_weight * alpha_entropy(alpha),
        }
        return torch.stack(list(terms.values())).sum(), terms | {
            "psnr": -10 * torch.log10(terms["color"].detach())
        }


class JointModule(HeadModule):
    """Trains head and torso on the finished composite, so that they agree at the seam.

    Every `patch_every`-th step (see Sampling) is a lips patch, so that the lips stay sharp.
    """

    name = "joint"

    @property
    def trained_parts(self) -> list[nn.Module]:
        return [self.portrait.head, self.portrait.audio_net, self.portrait.torso]

    @property
    def region_weight(self) -> float:
        return self.losses.region.weight

    def on_train_start(self) -> None:
        StageModule.on_train_start(self)

    def predict(self, batch: Batch) -> Tensor:
        driving = batch.conditioning
        return self.portrait.render_pixels(
            batch.rays,
            batch.xy,
            batch.background,
            self.portrait.head_state(driving),
            self.portrait.torso_state(driving),
        )[0]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        losses = self.losses
        portrait = self.portrait
        jitter = torch.rand(
            len(batch.xy), generator=self.generator(1, own=True), device=batch.xy.device
        )
        seen = portrait.refined(batch.rays, batch.conditioning)
        rays, head_state = self.eyes_elsewhere(seen, batch.eyes, self.head_state(batch))
        torso_state = portrait.torso_state(batch.conditioning)
        if rays is not seen:  # the torso has a row for each of the head's
            torso_state = TorsoState(
                *(torch.cat([rows, rows]) for rows in (torso_state.features, torso_state.motion))
            )
        pixels, head, samples = portrait.render_pixels(
            rays, batch.xy, batch.background, head_state, torso_state, jitter, self.room(batch)
        )
        self.count(batch, samples)
        over_truth = head.rgb + batch.behind * (1 - head.alpha[:, None])
        terms = {
            "color": color_error(pixels, batch.target),
            # Keeps the head a head: it must not take over what the torso fails to show.
            "head": color_error(over_truth, batch.target),
            "entropy": losses.entropy.weight * alpha_entropy(head.alpha),
        }
        if losses.eye.weight:
            terms["eye"] = self.eye_term(pixels, batch)
        if batch.patch is not None and losses.lips.weight:
            terms["lips"] = losses.lips.weight * patch_error(losses.lips, pixels, batch)
        return torch.stack(list(terms.values())).sum(), terms | {
            "psnr": -10 * torch.log10(terms["color"].detach()),
            "samples_per_ray": samples.offsets[-1] / max(1, len(batch.xy)),
        }


@torch.no_grad()
def update_torso_grid(module: StageModule, batch: Batch) -> None:
    """Raise the maximum 2D grid to the coverage that the batch's frames need."""
    portrait, generator = module.portrait, module.generator(0)
    state = portrait.torso_state(batch.conditioning)

    def coverage(points: Tensor) -> Tensor:
        frame = torch.randint(
            len(state.features), (len(points),), generator=generator, device=points.device
        )
        return portrait.torso(points, frame, state)[1]

    portrait.torso_grid.update(coverage, generator)
