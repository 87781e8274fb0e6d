"""The values that flow from the data to the renderer and back, with their shapes.

Letters: N rays, M samples on those rays, F frames in a batch, C audio feature width,
A dimensions of the audio coordinate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

T = TypeVar("T")


def to_device(value: T, device: torch.device | str, non_blocking: bool = False) -> T:
    """Copy of a dataclass of tensors (nested ones too) on another device."""
    return of_each(value, lambda item: item.to(device, non_blocking=non_blocking))


def of_each(value: T, function: Callable[[Tensor], Tensor]) -> T:
    """A dataclass of tensors (nested ones too) with a function's result in each one's place."""
    results = {}
    for field in fields(value):  # type: ignore[arg-type]
        item = getattr(value, field.name)
        if isinstance(item, Tensor):
            item = function(item)
        elif hasattr(item, "__dataclass_fields__"):
            item = of_each(item, function)
        results[field.name] = item
    return type(value)(**results)


@dataclass
class Rays:
    """Rays in the head's frame (world units, see data/clip.py)."""

    origins: Float[Tensor, "n 3"]
    directions: Float[Tensor, "n 3"]  # unit length
    frame: Int[Tensor, " n"]  # row of Conditioning that each ray belongs to


@dataclass
class Conditioning:
    """What drives a portrait, one row a frame."""

    audio: Float[Tensor, "f 8 16 c"]  # feature windows of frames t-4 .. t+3
    eye: Float[Tensor, " f"]  # opening of the eyes: 0 shut, 1 as this person has them open
    pose: Float[Tensor, "f 6"]  # head pose: Euler XYZ in radians, translation in world units
    index: Int[Tensor, " f"]  # training frame of the appearance code; -1 for the zero code
    torso: Float[Tensor, "f 3"]  # shift and rotation of the torso in the image, geometry/motion.py


@dataclass
class Samples:
    """Occupied samples of N rays, packed: those of ray i are offsets[i] .. offsets[i + 1].

    Room that is left behind the last one is filled with samples of no length on the last ray.
    """

    t: Float[Tensor, " m"]  # distance along the ray of the sample's middle
    dt: Float[Tensor, " m"]  # length that the sample stands for
    ray: Int[Tensor, " m"]
    offsets: Int[Tensor, " rays_and_end"]  # N + 1 of them
    cell: Int[Tensor, " m"]  # of the occupancy grid, counted flat, that the sample was met in

    def points(self, rays: Rays) -> Float[Tensor, "m 3"]:
        """Where the samples lie, in world units; differentiable in the rays."""
        origins = rays.origins.index_select(0, self.ray)
        directions = rays.directions.index_select(0, self.ray)
        return torch.addcmul(origins, self.t[:, None], directions)


@dataclass
class FieldOutput:
    """A head field's answer at M points."""

    density: Float[Tensor, " m"]
    rgb: Float[Tensor, "m 3"]
    ambient: Float[Tensor, "m a"]  # what the audio moves: its coordinate, or the attention it gets


@dataclass
class RenderOutput:
    """A rendered head, before anything is put behind it."""

    rgb: Float[Tensor, "n 3"]  # premultiplied by alpha
    alpha: Float[Tensor, " n"]
    ambient: Float[Tensor, " n"]  # accumulated |ambient| of the field
    depth: Float[Tensor, " n"]
    weights: Float[Tensor, " m"] | None = None  # of the samples, if there are any

    def over(self, behind: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Pixels with something behind the head."""
        return self.rgb + behind * (1 - self.alpha[:, None])


@dataclass
class Batch:
    """Pixels of F frames, with everything a training step needs of them."""

    rays: Rays
    xy: Float[Tensor, "n 2"]  # pixel centres in [-1, 1], x right, y down
    target: Float[Tensor, "n 3"]  # the true frame
    behind: Float[Tensor, "n 3"]  # true torso over the background
    background: Float[Tensor, "n 3"]  # the background alone
    torso_alpha: Float[Tensor, " n"]  # true torso coverage
    head: Bool[Tensor, " n"]  # parsed as head
    face: Bool[Tensor, " n"]  # inside the face rectangle
    eyes: Bool[Tensor, " n"]  # inside the rectangle around both eyes
    conditioning: Conditioning
    patch: tuple[int, int] | None = None  # height, width when the rays are patches, row by row
