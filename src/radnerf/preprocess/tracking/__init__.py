"""The pose of the head in every frame, and the box that holds it."""
