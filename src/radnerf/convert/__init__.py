"""Checkpoints of other programs to portrait files: python -m radnerf.convert."""
