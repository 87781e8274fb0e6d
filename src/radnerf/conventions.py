"""Numbers that every part agrees on: rates, sizes of audio windows, labels, the unit of length."""

from __future__ import annotations

SAMPLE_RATE = 16_000  # of sound, mono, samples a second
FEATURE_RATE = 50  # steps of audio features a second
HOP = SAMPLE_RATE // FEATURE_RATE  # samples of a step
WINDOW = 16  # feature steps of a frame
ATTENTION_FRAMES = 8  # frames t-4 .. t+3, whose windows make the audio code of frame t
FPS = 25.0  # video frames a second of a clip that does not say

BACKGROUND, HEAD, NECK, TORSO = 0, 1, 2, 3  # labels of a clip's parsing

OUTER_EYE_DISTANCE = 0.30  # in world units: what makes our own clips' heads equally large
