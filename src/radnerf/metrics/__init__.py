"""What is measured on a portrait."""

from radnerf.metrics.eyes import EyeResponse, eye_response
from radnerf.metrics.image import psnr, ssim
from radnerf.metrics.landmarks import FaceLandmarks, LandmarkDistance, MouthCorrelation
from radnerf.metrics.lpips import Lpips, PerceptualDistance, load_lpips
from radnerf.metrics.offset import AudioOffset, MouthOffset
from radnerf.metrics.report import KEYS, peak_memory_mb, write_metrics
from radnerf.metrics.syncnet import SyncConfidence, SyncNet, load_syncnet

__all__ = [
    "KEYS",
    "AudioOffset",
    "EyeResponse",
    "FaceLandmarks",
    "LandmarkDistance",
    "Lpips",
    "MouthCorrelation",
    "MouthOffset",
    "PerceptualDistance",
    "SyncConfidence",
    "SyncNet",
    "eye_response",
    "load_lpips",
    "load_syncnet",
    "peak_memory_mb",
    "psnr",
    "ssim",
    "write_metrics",
]
