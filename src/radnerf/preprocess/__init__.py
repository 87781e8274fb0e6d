"""A video in, a clip folder out."""

from radnerf.preprocess.pipeline import preprocess_video

__all__ = ["preprocess_video"]
