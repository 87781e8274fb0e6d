"""The built-in demo: a rendered character that speaks synthesized speech, with exact truth."""

from radnerf.data.demo.writer import make_demo_clip, write_demo_clip, write_demo_video

__all__ = ["make_demo_clip", "write_demo_clip", "write_demo_video"]
