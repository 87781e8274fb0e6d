"""Real-time neural radiance talking portraits (RAD-NeRF, arXiv 2211.12368)."""

__version__ = "0.1.0"
