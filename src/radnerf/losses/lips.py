"""Errors of patches around the lips: LPIPS where its weights are at hand, else a structural one."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor

from radnerf.errors import UserError
from radnerf.losses.structural import structural_error
from radnerf.losses.terms import LossTerm, Rendering
from radnerf.metrics.lpips import Lpips, load_lpips

log = logging.getLogger(__name__)

MIN_SIDE = 64  # pixels; AlexNet sees nothing in less


class LipsLoss(LossTerm):
    """An error of whole patches around the lips; nothing for batches of other rays."""

    def __call__(self, rendering: Rendering) -> Tensor | None:
        if rendering.batch.patch is None:
            return None
        height, width = rendering.batch.patch
        images = [
            value.view(-1, height, width, 3).permute(0, 3, 1, 2)
            for value in (rendering.pixels, rendering.target)
        ]
        return self.error(images[0], images[1])

    def error(
        self, prediction: Float[Tensor, "p 3 h w"], target: Float[Tensor, "p 3 h w"]
    ) -> Float[Tensor, ""]:
        """Unweighted error of patches with colors in [0, 1]."""
        raise NotImplementedError


class StructuralLips(LipsLoss):
    """SSIM and image gradients; needs no weights (see structural_error)."""

    def __init__(self, weight: float = 0.01, n_scales: int = 2) -> None:
        super().__init__(weight)
        self.n_scales = n_scales

    def error(
        self, prediction: Float[Tensor, "p 3 h w"], target: Float[Tensor, "p 3 h w"]
    ) -> Float[Tensor, ""]:
        return structural_error(prediction, target, self.n_scales)


class PerceptualLips(LipsLoss):
    """LPIPS (AlexNet), as the paper.

    Args:
        backbone: torchvision's AlexNet weights; None looks in torch's hub cache.

    Raises:
        UserError: the weights are not on this machine.
    """

    def __init__(self, weight: float = 0.01, backbone: str | None = None) -> None:
        super().__init__(weight)
        self._model = _shared_lpips(backbone)

    def error(
        self, prediction: Float[Tensor, "p 3 h w"], target: Float[Tensor, "p 3 h w"]
    ) -> Float[Tensor, ""]:
        # No part of a stage's module: checkpoints would carry AlexNet along.
        self._model = self._model.to(prediction.device)
        return self._model(_grown(prediction), _grown(target)).mean()


def perceptual_or_structural(
    weight: float = 0.01, backbone: str | None = None, n_scales: int = 2
) -> LipsLoss:
    """LPIPS when its weights are at hand, else the structural error; says which."""
    try:
        return PerceptualLips(weight, backbone)
    except UserError as error:
        _say_once(f"lips: the structural error instead of LPIPS ({error})")
        return StructuralLips(weight, n_scales)


@lru_cache(1)
def _shared_lpips(backbone: str | Path | None) -> Lpips:
    """One model for all stages."""
    return load_lpips(backbone)


@lru_cache
def _say_once(sentence: str) -> None:
    log.info(sentence)


def _grown(patch: Float[Tensor, "p 3 h w"]) -> Float[Tensor, "p 3 H W"]:
    """The patch, enlarged when it is too small for the network."""
    scale = MIN_SIDE / min(patch.shape[2:])
    if scale <= 1:
        return patch
    return nnf.interpolate(patch, scale_factor=scale, mode="bilinear", align_corners=False)
