"""The video as it comes: frames, sound, and the longest shot without a cut."""
