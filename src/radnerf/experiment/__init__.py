"""One experiment from video to metrics: what train.py runs."""

from radnerf.experiment.run import run

__all__ = ["run"]
