"""Losses of the training stages: plain functions on pixels and rays, and the terms of configs."""

from radnerf.losses.lips import (
    LipsLoss,
    PerceptualLips,
    StructuralLips,
    perceptual_or_structural,
)
from radnerf.losses.pixel import (
    alpha_entropy,
    color_error,
    distortion,
    eye_error,
    outside_motion,
)
from radnerf.losses.structural import structural_error
from radnerf.losses.terms import (
    AlphaEntropy,
    AlphaError,
    ColorError,
    Distortion,
    EyeError,
    HeadError,
    LossTerm,
    OutsideMotion,
    Rendering,
    weighted,
)

__all__ = [
    "AlphaEntropy",
    "AlphaError",
    "ColorError",
    "Distortion",
    "EyeError",
    "HeadError",
    "LipsLoss",
    "LossTerm",
    "OutsideMotion",
    "PerceptualLips",
    "Rendering",
    "StructuralLips",
    "alpha_entropy",
    "color_error",
    "distortion",
    "eye_error",
    "outside_motion",
    "perceptual_or_structural",
    "structural_error",
    "weighted",
]
