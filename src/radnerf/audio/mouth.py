"""Mouth shapes as a few numbers, for teaching the audio net what to listen for.

Letters: T video frames, K coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from radnerf.geometry.face68 import MOUTH, OUTER_EYE_CORNERS

N_COEFFICIENTS = 6  # 99 % of the variance of a speaking mouth
# Points that speech does not move: the nose and the corners of the eyes.
STILL_68 = (*range(27, 36), 36, 39, 42, 45)

Landmarks = Float[np.ndarray, "t 68 2"]


@dataclass(frozen=True)
class MouthBasis:
    """Principal mouth shapes of a speaker; lengths in distances of the outer eye corners."""

    still: Float[np.ndarray, "points 2"]  # mean positions of STILL_68
    mean: Float[np.ndarray, " 40"]
    shapes: Float[np.ndarray, "k 40"]  # orthonormal rows
    scale: float  # standard deviation of the first coefficient before it is divided out

    @classmethod
    def fit(cls, landmarks: Landmarks, n_coefficients: int = N_COEFFICIENTS) -> MouthBasis:
        """Basis of the training frames of a clip, the largest movement first."""
        eyes = landmarks[:, OUTER_EYE_CORNERS, :].astype(np.float64)
        width = np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=-1).mean()
        still = landmarks[0, STILL_68, :] / width
        for _ in range(3):  # generalised Procrustes analysis: converges in two rounds
            still = _aligned(landmarks, still)[:, STILL_68].mean(0)
        mouths = _centred_mouth(_aligned(landmarks, still))
        mean = mouths.mean(0)
        _, values, rows = np.linalg.svd(mouths - mean, full_matrices=False)
        scale = max(float(values[0]) / np.sqrt(len(mouths)), 1e-9)
        return cls(still, mean, rows[:n_coefficients], scale)

    def coefficients(self, landmarks: Landmarks) -> Float[np.ndarray, "t k"]:
        """Mouth shapes without head pose; the first coefficient has unit variance."""
        mouths = _centred_mouth(_aligned(landmarks, self.still))
        return ((mouths - self.mean) @ self.shapes.T / self.scale).astype(np.float32)

    def mouth(self, coefficients: Float[np.ndarray, "t k"]) -> Float[np.ndarray, "t 20 2"]:
        """The 20 mouth points about their mean."""
        return (self.mean + coefficients * self.scale @ self.shapes).reshape(-1, 20, 2)


def _aligned(landmarks: Landmarks, still: Float[np.ndarray, "points 2"]) -> Landmarks:
    """Each frame's landmarks after the similarity that best brings its still points to `still`."""
    points = landmarks[..., 0].astype(np.float64) + 1j * landmarks[..., 1]
    goal = still[:, 0] + 1j * still[:, 1]
    centre = points[:, STILL_68].mean(1, keepdims=True)
    own = points[:, STILL_68] - centre
    rotation = (own.conj() @ (goal - goal.mean()))[:, None]
    rotation = rotation / np.square(np.abs(own)).sum(1, keepdims=True)
    moved = (points - centre) * rotation + goal.mean()
    return np.stack([moved.real, moved.imag], -1)


def _centred_mouth(aligned: Landmarks) -> Float[np.ndarray, "t 40"]:
    mouths = aligned[:, MOUTH]
    return (mouths - mouths.mean(1, keepdims=True)).reshape(len(aligned), -1)
