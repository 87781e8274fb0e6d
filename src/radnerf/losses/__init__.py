"""Losses of the training stages: plain functions on pixels and rays."""

from radnerf.losses.pixel import alpha_entropy, color_error, outside_motion
from radnerf.losses.structural import structural_error

__all__ = ["alpha_entropy", "color_error", "outside_motion", "structural_error"]
