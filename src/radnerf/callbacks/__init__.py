"""Lightning callbacks of the training stages."""

from radnerf.callbacks.checkpoint import StageCheckpoint, checkpoint_of
from radnerf.callbacks.ema import ExponentialMovingAverage
from radnerf.callbacks.preview import Preview
from radnerf.callbacks.progress import StageProgress
from radnerf.callbacks.step import StepControl

__all__ = [
    "ExponentialMovingAverage",
    "Preview",
    "StageCheckpoint",
    "StageProgress",
    "StepControl",
    "checkpoint_of",
]
