"""The built-in demo: a rendered character that speaks synthesized speech, with exact truth."""

from radnerf.data.demo.writer import write_demo_clip, write_demo_video

__all__ = ["write_demo_clip", "write_demo_video"]
