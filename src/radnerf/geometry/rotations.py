"""Rotations and head poses as vectors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def euler_xyz(rotation: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Angles (a, b, c) in radians with rotation = Rx(a) Ry(b) Rz(c)."""
    a = torch.atan2(-rotation[..., 1, 2], rotation[..., 2, 2])
    b = torch.asin(rotation[..., 0, 2].clamp(-1, 1))
    c = torch.atan2(-rotation[..., 0, 1], rotation[..., 0, 0])
    return torch.stack([a, b, c], -1)


def rotation_from_euler(angles: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Inverse of euler_xyz."""
    (sa, sb, sc), (ca, cb, cc) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    rows = [
        [cb * cc, -cb * sc, sb],
        [ca * sc + sa * sb * cc, ca * cc - sa * sb * sc, -sa * cb],
        [sa * sc - ca * sb * cc, sa * cc + ca * sb * sc, ca * cb],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def rotation_from_vector(vector: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rotation by |vector| radians around the vector (Rodrigues), smooth at zero."""
    zero = torch.zeros_like(vector[..., 0])
    x, y, z = vector.unbind(-1)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.matrix_exp(skew)


def head_pose_vector(pose: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 6"]:
    """Euler XYZ angles (radians) and translation (world units) of camera-to-world matrices."""
    return torch.cat([euler_xyz(pose[..., :3, :3]), pose[..., :3, 3]], -1)
