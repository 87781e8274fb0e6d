"""Losses of the training stages: plain functions on pixels and rays, and their weights."""

from radnerf.losses.lips import (
    LipsLoss,
    PerceptualLips,
    StructuralLips,
    perceptual_or_structural,
)
from radnerf.losses.pixel import alpha_entropy, color_error, eye_error, outside_motion
from radnerf.losses.portrait import EyeLoss, PortraitLoss, Weighted
from radnerf.losses.structural import structural_error

__all__ = [
    "EyeLoss",
    "LipsLoss",
    "PerceptualLips",
    "PortraitLoss",
    "StructuralLips",
    "Weighted",
    "alpha_entropy",
    "color_error",
    "eye_error",
    "outside_motion",
    "perceptual_or_structural",
    "structural_error",
]
