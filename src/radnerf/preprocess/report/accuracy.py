"""How good a clip folder's labels and poses are: by themselves, and beside one that is true."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from radnerf.conventions import BACKGROUND, HEAD, NECK, TORSO
from radnerf.data.clip import Clip
from radnerf.errors import UserError

PARTS = {"head": HEAD, "neck": NECK, "torso": TORSO}
EVERY = 5  # frames between those that are compared


def flicker(clip: Clip) -> float:
    """Fraction of the person's pixels whose label is another one for a single frame, a frame.

    Motion carries an edge on; only trembling edges come back at once.
    """
    fractions = []
    for i in range(1, len(clip) - 1, EVERY):
        before, now, after = (clip.parsing(k) for k in (i - 1, i, i + 1))
        person = (before != BACKGROUND) | (now != BACKGROUND)
        fractions.append(((before == after) & (before != now)).sum() / max(1, person.sum()))
    return float(np.mean(fractions)) if fractions else 0.0


def overlaps(found: UInt8[np.ndarray, "h w"], true: UInt8[np.ndarray, "h w"]) -> dict[str, float]:
    """Intersection over union of the person and of the parts that either picture of labels has."""
    pairs = {"person": (found != BACKGROUND, true != BACKGROUND)} | {
        name: (found == label, true == label) for name, label in PARTS.items()
    }
    shown = {name: (a, b) for name, (a, b) in pairs.items() if (a | b).any()}
    return {name: float((a & b).sum() / (a | b).sum()) for name, (a, b) in shown.items()}


def mean_overlap(clip: Clip, truth: Clip) -> dict[str, float]:
    """Intersection over union of the person and the parts, the mean over the frames.

    Raises:
        UserError: the clips do not show the same frames.
    """
    if len(clip) != len(truth) or clip.size != truth.size:
        raise UserError(
            f"{truth.root} has {len(truth)} frames of {truth.size} pixels (height, width) and the "
            f"clip {len(clip)} of {clip.size}: give the truth of this very video and resolution."
        )
    frames = [overlaps(clip.parsing(i), truth.parsing(i)) for i in range(0, len(clip), EVERY)]
    names = dict.fromkeys(name for frame in frames for name in frame)
    return {name: float(np.mean([f[name] for f in frames if name in f])) for name in names}


def degrees_off(
    found: Float[np.ndarray, "t 3 3"], true: Float[np.ndarray, "t 3 3"]
) -> Float[np.ndarray, " t"]:
    """Angle of each frame's rotation error, after the one best rotation of the world.

    Args:
        found, true: world-to-camera rotations.
    """
    # Rows are the world's directions of the camera's axes.
    rotation, _ = Rotation.align_vectors(true.reshape(-1, 3), found.reshape(-1, 3))
    off = Rotation.from_matrix(found @ rotation.as_matrix().T @ true.swapaxes(1, 2))
    return np.asarray(np.rad2deg(off.magnitude()))


def beside_truth(clip: Clip, truth: Clip) -> dict[str, Any]:
    """Overlap of the labels, and the poses' error in degrees.

    Raises:
        UserError: the clips do not show the same frames.
    """
    report: dict[str, Any] = {f"{name}_iou": iou for name, iou in mean_overlap(clip, truth).items()}
    off = degrees_off(*(c.poses[:, :3, :3].swapaxes(1, 2) for c in (clip, truth)))
    return report | {
        "pose_deg": float(off.mean()),
        "pose_deg_p95": float(np.percentile(off, 95)),
        "truth_flicker": flicker(truth),
    }
