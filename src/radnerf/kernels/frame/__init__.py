"""Loops that render whole frames on CPU cores, driven by rendering/frame_cpu.py."""
