"""What is measured on a portrait."""

from radnerf.metrics.image import psnr, ssim
from radnerf.metrics.landmarks import FaceLandmarks, LandmarkDistance, MouthCorrelation
from radnerf.metrics.lpips import Lpips, load_lpips
from radnerf.metrics.report import KEYS, peak_memory_mb, write_metrics

__all__ = [
    "KEYS",
    "FaceLandmarks",
    "LandmarkDistance",
    "Lpips",
    "MouthCorrelation",
    "load_lpips",
    "peak_memory_mb",
    "psnr",
    "ssim",
    "write_metrics",
]
