"""Whole frames: loops for rendering/frame_cpu.py, GPU kernels for rendering/frame_triton.py."""
