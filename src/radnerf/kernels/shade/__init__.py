"""Loops of the head field in training, see rendering/shade.py."""
