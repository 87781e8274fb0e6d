"""Faces, 478 points of each, and the person's mask, by MediaPipe's networks without its package."""
