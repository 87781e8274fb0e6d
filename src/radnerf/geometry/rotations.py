"""Rotations and head poses as vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
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
    square = vector.square().sum(-1, keepdim=True)
    near = square < 0.01  # where series are exact, and quotients are not
    some = torch.where(near, 1.0, square)
    angle = some.sqrt()
    sine = _series(square, (1, -6, 120, -5040), near, angle.sin() / angle)
    versine = _series(square, (2, -24, 720, -40320), near, (1 - angle.cos()) / some)
    x, y, z = (sine * vector).unbind(-1)
    w = 1 - versine[..., 0] * square[..., 0]
    skew = torch.stack([w, -z, y, z, w, -x, -y, x, w], -1).unflatten(-1, (3, 3))
    return skew + versine[..., None] * vector[..., :, None] * vector[..., None, :]


def _series(
    square: Float[Tensor, "*b 1"],
    divisors: Sequence[int],
    near: Bool[Tensor, "*b 1"],
    far: Float[Tensor, "*b 1"],
) -> Float[Tensor, "*b 1"]:
    """The sum of square^k / divisors[k] where near, else far."""
    total = sum(square**k / divisor for k, divisor in enumerate(divisors))
    return torch.where(near, total, far)


def turned(
    rotation: Float[Tensor, "*#b 3 3"], vector: Float[Tensor, "*#b 3"]
) -> Float[Tensor, "*b 3"]:
    """Rotation times vector; no matrix product, which autocast would round to 16 bits."""
    return (rotation * vector[..., None, :]).sum(-1)


def head_pose_vector(pose: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 6"]:
    """Euler XYZ angles (radians) and translation (world units) of camera-to-world matrices."""
    return torch.cat([euler_xyz(pose[..., :3, :3]), pose[..., :3, 3]], -1)
