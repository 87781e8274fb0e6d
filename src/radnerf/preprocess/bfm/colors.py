"""The photometric term: the face model, lit and drawn, against the colors of the frames.

Colors and light are those of the whole clip: a person keeps the skin, and a portrait video the
lamps. First they are learned, with the person's shape, from a few frames; then poses and
expressions of all frames follow, a batch at a time, each joined to the frames before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from radnerf.preprocess.bfm.fit import (
    MOVING,
    Face,
    Observed,
    landmark_cost,
    motion_cost,
    outline,
    prior_cost,
)
from radnerf.preprocess.bfm.model import MorphableModel
from radnerf.preprocess.bfm.rasteriser import Rasteriser

SHARED_FRAMES, SHARED_STEPS = 8, 80
BATCH, STEPS = 8, 25
JOINED = 2  # frames of the batch before
RATE = 0.05
COLOR_STD, OUTLIER = 0.06, 3.0  # of a pixel, 0 to 1; beyond so many deviations it is no skin
INDEPENDENT_PIXELS = 100.0  # neighbours share their errors: a frame counts as this many
LIGHT_STD = 0.5

Frames = Callable[[Int[Tensor, " n"]], Float[Tensor, "n h w 3"]]


@dataclass(frozen=True)
class Look:
    """What a clip's frames share beside the person's shape."""

    texture: Float[Tensor, " c"]
    light: Float[Tensor, "9 3"]  # spherical harmonics of the camera's axes, for each channel

    @classmethod
    def usual(cls, model: MorphableModel) -> Look:
        """The mean face in even light."""
        light = model.mean.new_zeros(9, 3)
        light[0] = 1
        return cls(model.mean.new_zeros(len(model.colors)), light)

    def cost(self) -> Float[Tensor, ""]:
        usual = torch.zeros_like(self.light)
        usual[0] = 1
        off = ((self.light - usual) / LIGHT_STD) ** 2
        return 0.5 * ((self.texture**2).sum() + off.sum())


@dataclass(frozen=True)
class Painter:
    """Draws a face and compares it with frames.

    Attributes:
        frames: pictures of the given frames, RGB 0 to 1.
        zoom: pixels of these pictures for one of the landmarks' frames.
    """

    model: MorphableModel
    rasteriser: Rasteriser
    frames: Frames
    zoom: float

    def picture(self, face: Face, look: Look, size: tuple[int, int]) -> Float[Tensor, "t h w 4"]:
        """The face as the cameras see it: RGB, and 1 where it covers the picture."""
        points = face.in_camera(self.model.vertices(face.identity, face.expression))
        skin = self.model.color + torch.einsum("c,cvk->vk", look.texture, self.model.colors)
        shade = harmonics(normals(points, self.model.triangles)) @ look.light
        return self.rasteriser(
            points, skin * shade, self.model.triangles, face.focal * self.zoom, size
        )

    def cost(self, face: Face, look: Look, truth: Float[Tensor, "t h w 3"]) -> Float[Tensor, ""]:
        """Difference of colors where the face is, summed over frames."""
        drawn = self.picture(face, look, (truth.shape[1], truth.shape[2]))
        error = ((drawn[..., :3] - truth) / COLOR_STD) ** 2
        robust = OUTLIER**2 * ((1 + error.sum(-1) / OUTLIER**2).sqrt() - 1)
        covered = drawn[..., 3].detach()
        mean = (robust * covered).sum((1, 2)) / covered.sum((1, 2)).clamp_min(1)
        return INDEPENDENT_PIXELS * mean.sum()


def normals(
    points: Float[Tensor, "t v 3"], triangles: Int[Tensor, "f 3"]
) -> Float[Tensor, "t v 3"]:
    """Unit normals of the vertices, weighed by the triangles' areas."""
    a, b, c = (points[:, corner] for corner in triangles.T)
    face = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(points)
    for corner in triangles.T:
        total = total.index_add(1, corner, face)
    return torch.nn.functional.normalize(total, dim=-1, eps=1e-12)


def harmonics(normal: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 9"]:
    """Spherical harmonics to degree 2, without their constants."""
    x, y, z = normal.unbind(-1)
    one = torch.ones_like(x)
    basis = [one, x, y, z, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y]
    return torch.stack(basis, -1)


def fit_colors(
    painter: Painter, face: Face, observed: Observed, report: Callable[[int], None]
) -> Face:
    """The face that explains landmarks and colors, from the one that explains the landmarks.

    Args:
        report: called with the number of frames done.
    """
    face, look = _person(painter, face, observed)
    n, device = len(face.rotation_step), face.rotation_step.device
    for first in range(0, n, BATCH):
        last = min(first + BATCH, n)
        held = torch.arange(max(0, first - JOINED), first, device=device)
        chosen = torch.arange(first, last, device=device)
        some = _moved(painter, face, look, observed, held, chosen)
        face = face.at(chosen, some)
        report(last)
    return face


def _person(painter: Painter, face: Face, observed: Observed) -> tuple[Face, Look]:
    """The person's shape and look, from frames spread over the clip."""
    n = len(face.rotation_step)
    device = face.rotation_step.device
    few = torch.linspace(0, n - 1, min(n, SHARED_FRAMES), device=device).round().long()
    some, targets, truth = face.frames(few), observed.frames(few), painter.frames(few)
    keys = outline(painter.model, some)
    look = Look.usual(painter.model)
    unknown = {
        "identity": some.identity,
        **{name: getattr(some, name) for name in MOVING},
        "texture": look.texture,
        "light": look.light,
    }

    def parts(values: dict[str, Tensor]) -> tuple[Face, Look]:
        rest = {name: values[name] for name in ("identity", *MOVING)}
        return replace(some, **rest), Look(values["texture"], values["light"])

    def cost(values: dict[str, Tensor]) -> Float[Tensor, ""]:
        now, seen_in = parts(values)
        shape = landmark_cost(painter.model, now, targets, keys) + prior_cost(now)
        return shape + seen_in.cost() + painter.cost(now, seen_in, truth)

    some, look = parts(descended(unknown, cost, SHARED_STEPS))
    return face.at(few, some), look


def _moved(
    painter: Painter,
    face: Face,
    look: Look,
    observed: Observed,
    held: Int[Tensor, " j"],
    chosen: Int[Tensor, " n"],
) -> Face:
    """Expressions and poses of the chosen frames, which follow the held ones."""
    before, now = face.frames(held), face.frames(chosen)
    targets, truth = observed.frames(chosen), painter.frames(chosen)
    keys = outline(painter.model, now)

    def cost(values: dict[str, Tensor]) -> Float[Tensor, ""]:
        some = replace(now, **values)
        joined = {name: torch.cat([getattr(before, name), values[name]]) for name in MOVING}
        first = {
            name: torch.cat([getattr(before, name), getattr(now, name)])
            for name in ("first_rotation", "first_shift")
        }
        total = landmark_cost(painter.model, some, targets, keys) + prior_cost(some)
        total = total + motion_cost(replace(now, **joined, **first))
        return total + painter.cost(some, look, truth)

    values = descended({name: getattr(now, name) for name in MOVING}, cost, STEPS)
    return replace(now, **values)


def descended(
    values: dict[str, Tensor], cost: Callable[[dict[str, Tensor]], Float[Tensor, ""]], steps: int
) -> dict[str, Tensor]:
    """Values of less cost (Adam: what covers a pixel jumps, which line searches do not bear)."""
    values = {name: value.detach().clone().requires_grad_() for name, value in values.items()}
    optimizer = torch.optim.Adam(values.values(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, RATE / 20)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            cost(values).backward()
            optimizer.step()
            schedule.step()
    return {name: value.detach() for name, value in values.items()}
