"""Whole frames: loops for CPU cores (rendering/frame_cpu.py) and kernels for GPUs (frame_triton.py)."""
