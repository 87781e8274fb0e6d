"""A mark in the picture itself, which outlives what platforms do to a video."""

from radnerf.provenance.watermark.detect import Detection, detect
from radnerf.provenance.watermark.embed import Watermark
from radnerf.provenance.watermark.payload import PORTRAIT_DIGITS

__all__ = ["PORTRAIT_DIGITS", "Detection", "Watermark", "detect"]
