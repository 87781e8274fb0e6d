"""A structural patch loss that needs no weights, the stand-in for LPIPS."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from jaxtyping import Float
from torch import Tensor


def structural_error(
    prediction: Float[Tensor, "p 3 h w"], target: Float[Tensor, "p 3 h w"], n_scales: int = 2
) -> Float[Tensor, ""]:
    """1 - SSIM plus the mean absolute difference of the image gradients, averaged over scales.

    SSIM rewards the local contrast that a squared error blurs away (teeth, lip edges); the
    gradient term keeps edges where they are. SSIM: Wang et al. 2004, 7 x 7 windows.
    """
    error = prediction.new_zeros(())
    for scale in range(n_scales):
        if scale:
            prediction, target = nnf.avg_pool2d(prediction, 2), nnf.avg_pool2d(target, 2)
        edges = sum(
            (prediction.diff(dim=axis) - target.diff(dim=axis)).abs().mean() for axis in (2, 3)
        )
        error = error + (1 - ssim(prediction, target)) + edges
    return error / n_scales


def ssim(
    x: Float[Tensor, "p c h w"], y: Float[Tensor, "p c h w"], window: int = 7
) -> Float[Tensor, ""]:
    """Mean structural similarity of images in [0, 1] over uniform windows."""
    window = min(window, *x.shape[2:])
    mean_x, mean_y = nnf.avg_pool2d(x, window, 1), nnf.avg_pool2d(y, window, 1)
    var_x = nnf.avg_pool2d(x * x, window, 1) - mean_x**2
    var_y = nnf.avg_pool2d(y * y, window, 1) - mean_y**2
    covariance = nnf.avg_pool2d(x * y, window, 1) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return torch.mean(score / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))
