"""Image metrics over RGB batches [n, 3, h, w] in [0, 1]."""

from __future__ import annotations

from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure


def psnr() -> PeakSignalNoiseRatio:
    """PSNR in dB: the mean over frames of each frame's own, as the papers report it."""
    return PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3))


def ssim() -> StructuralSimilarityIndexMeasure:
    """SSIM with the usual 11 px Gaussian window."""
    return StructuralSimilarityIndexMeasure(data_range=1.0)
