"""Landmarks of the face in every frame: found, or read from a file; and what they mean."""
