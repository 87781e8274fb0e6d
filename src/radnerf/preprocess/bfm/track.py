"""From landmarks and frames to camera poses by way of the face model.

It starts at the poses of the rigid bundle adjustment (poses.py), with the mean face as the shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.spatial.transform import Rotation
from torch import Tensor

from radnerf.preprocess.bfm.colors import Painter, fit_colors
from radnerf.preprocess.bfm.fit import Face, Observed, fit_landmarks, outline, projected
from radnerf.preprocess.bfm.model import MorphableModel
from radnerf.preprocess.bfm.rasteriser import Rasteriser
from radnerf.preprocess.landmarks import face as rigid
from radnerf.preprocess.tracking.poses import solve_poses

# World axes (up, towards the camera, right) from the model's (right, up, towards the camera).
TO_WORLD = np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
FIRST_STD = 0.05  # how far the mean face may bend before its coefficients are known

ReadFrame = Callable[[int], UInt8[np.ndarray, "h w 3"]]


@dataclass(frozen=True)
class Settings:
    """Of a fit."""

    focal: float | None  # pixels; None fits it, from
    first_focal: float
    side: int = 256  # longer side at which colors are compared


@torch.no_grad()
def track_face(
    model: MorphableModel,
    landmarks: Float[np.ndarray, "t 68 2"],
    size: tuple[int, int],
    settings: Settings,
    read_frame: ReadFrame,
    rasteriser: Rasteriser | None,
    report: Callable[[int], None],
) -> tuple[Float[np.ndarray, "t 4 4"], Float[np.ndarray, "68 3"], float, dict[str, Any]]:
    """Head poses by the face model.

    Args:
        model: on the device that does the work.
        landmarks: pixels.
        size: height and width of the frames.
        read_frame: frame i, RGB.
        rasteriser: draws the face for the photometric term; None goes by the landmarks alone.
        report: called with the number of frames done.

    Returns:
        Camera-to-world poses (memory convention, the model's unit), the 68 landmarks of the face
        at rest, the focal length in pixels, and the facts for the tracking report.
    """
    device = model.mean.device
    first, facts = _first_guess(model, landmarks, size, settings)
    observed = Observed.of(torch.from_numpy(landmarks).to(device), size)
    face = fit_landmarks(model, first, observed, zoom=settings.focal is None)
    if rasteriser is not None:
        scale = min(1.0, settings.side / max(size))
        small_size = (round(size[0] * scale), round(size[1] * scale))

        def frames(chosen: Int[Tensor, " n"]) -> Float[Tensor, "n h w 3"]:
            images = [read_frame(int(i)) for i in chosen]
            small = [cv2.resize(i, small_size[::-1], interpolation=cv2.INTER_AREA) for i in images]
            return torch.from_numpy(np.stack(small)).to(device).float() / 255

        face = fit_colors(Painter(model, rasteriser, frames, scale), face, observed, report)
    poses, shape = _in_world(model, face)
    facts |= _facts(model, face, observed, poses)
    return poses, shape, float(face.focal), facts


def _first_guess(
    model: MorphableModel,
    landmarks: Float[np.ndarray, "t 68 2"],
    size: tuple[int, int],
    settings: Settings,
) -> tuple[Face, dict[str, Any]]:
    """The mean face at the poses of the rigid bundle adjustment, and that one's report."""
    focal = settings.focal or settings.first_focal
    mean = model.mean[model.keys].cpu().double().numpy() @ TO_WORLD.T
    shape = rigid.in_world(mean)
    scale = np.linalg.norm(shape[1] - shape[0]) / np.linalg.norm(mean[1] - mean[0])
    offset = shape[0] - scale * mean[0]
    poses, _, found = solve_poses(landmarks, size, focal, shape, rigid.trust(shape), FIRST_STD)
    rotation = poses[:, :3, :3].astype(np.float64).transpose(0, 2, 1)
    shift = np.einsum("tij,tj->ti", rotation, offset - poses[:, :3, 3]) / scale

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).to(model.mean)

    n = len(poses)
    face = Face(
        identity=model.mean.new_zeros(len(model.identity)),
        expression=model.mean.new_zeros(n, len(model.expression)),
        rotation_step=model.mean.new_zeros(n, 3),
        move=model.mean.new_zeros(n, 3),
        zoom=model.mean.new_zeros(()),
        first_rotation=tensor(rotation @ TO_WORLD),
        first_shift=tensor(shift),
        first_focal=model.mean.new_tensor(focal),
    )
    return face, found.as_dict()


def _in_world(
    model: MorphableModel, face: Face
) -> tuple[Float[np.ndarray, "t 4 4"], Float[np.ndarray, "68 3"]]:
    rotation = face.rotation.cpu().double().numpy() @ TO_WORLD.T
    shift = face.shift.cpu().double().numpy()
    poses = np.zeros((len(rotation), 4, 4))
    poses[:, :3, :3] = rotation.transpose(0, 2, 1)
    poses[:, :3, 3] = -np.einsum("tji,tj->ti", rotation, shift)
    poses[:, 3, 3] = 1
    at_rest = model.vertices(face.identity, torch.zeros_like(face.expression[:1]))[0, model.keys]
    shape = at_rest.cpu().double().numpy() @ TO_WORLD.T
    return poses.astype(np.float32), shape.astype(np.float32)


def _facts(
    model: MorphableModel, face: Face, observed: Observed, poses: Float[np.ndarray, "t 4 4"]
) -> dict[str, Any]:
    few = model.landmarks_only()
    error = (projected(few, face, outline(few, face)) - observed.points).cpu().numpy()
    rotation = poses[:, :3, :3].transpose(0, 2, 1).astype(np.float64)
    steps = Rotation.from_matrix(rotation[1:] @ rotation[:-1].transpose(0, 2, 1)).as_rotvec()
    jitter = np.rad2deg(np.abs(np.diff(steps, n=2, axis=0)).mean()) if len(steps) > 2 else 0.0
    return {
        "rmse_px": float(np.sqrt((error**2).sum(-1).mean())),
        "noise_px": float(1.4826 * np.median(np.abs(error))),
        "jitter_deg": float(jitter),
        "identity": [round(float(x), 4) for x in face.identity],
    }
