"""The face model's coefficients and the camera's poses that put the landmarks where they were seen.

Letters: T frames, I identity, E expression components. A maximum a posteriori estimate: errors of
landmarks in their standard deviation, coefficients in theirs, the head's acceleration in its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from radnerf.geometry.face68 import JAW, OUTER_EYE_CORNERS
from radnerf.geometry.rotations import rotation_from_vector
from radnerf.preprocess.bfm.model import MorphableModel

# Unknowns are of order one: what one of them stands for.
ROTATION_STEP = 0.05  # radians
MOVE = 0.02  # of the head's distance
ZOOM = 0.3  # of the focal length's logarithm: it is hardly observable, this is its prior

LANDMARK_STD = 0.02  # of the distance between the outer eye corners
OUTLIER = 3.0  # errors beyond this many deviations count linearly
JAW_TRUST = 0.3  # its points slide along the outline
INDEPENDENT = 1 / 3  # part of the landmarks' errors that is not common to their neighbours
ACCELERATION = (0.003, 0.001)  # a frame: radians, parts of the distance
EXPRESSION_CHANGE = 1.0  # a frame

SHARED_FRAMES = 40  # that identity and focal length are learned from
ROUNDS, STEPS = 4, 40  # between rounds the jaw's vertices are chosen anew


@dataclass(frozen=True)
class Face:
    """One person in T frames: unknowns of order one, and the poses they start from."""

    identity: Float[Tensor, " i"]
    expression: Float[Tensor, "t e"]
    rotation_step: Float[Tensor, "t 3"]  # on the first rotation, camera axes
    move: Float[Tensor, "t 3"]
    zoom: Float[Tensor, ""]
    first_rotation: Float[Tensor, "t 3 3"]  # model to camera (x right, y down, z forward)
    first_shift: Float[Tensor, "t 3"]
    first_focal: Float[Tensor, ""]  # pixels

    @property
    def rotation(self) -> Float[Tensor, "t 3 3"]:
        return rotation_from_vector(ROTATION_STEP * self.rotation_step) @ self.first_rotation

    @property
    def shift(self) -> Float[Tensor, "t 3"]:
        distance = self.first_shift[:, 2:]
        shift = self.first_shift + MOVE * distance * self.move
        # A longer lens sees the same from farther away.
        return torch.cat([shift[:, :2], shift[:, 2:] * (ZOOM * self.zoom).exp()], -1)

    @property
    def focal(self) -> Float[Tensor, ""]:
        return self.first_focal * (ZOOM * self.zoom).exp()

    def in_camera(self, vertices: Float[Tensor, "t v 3"]) -> Float[Tensor, "t v 3"]:
        """Vertices of the model in the cameras' axes."""
        return vertices @ self.rotation.transpose(1, 2) + self.shift[:, None]

    def frames(self, chosen: Int[Tensor, " n"]) -> Face:
        """The same person in some of the frames."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in PER_FRAME})

    def at(self, chosen: Int[Tensor, " n"], some: Face) -> Face:
        """With the chosen frames, and what all frames share, as in `some`."""
        changed = {name: getattr(self, name).clone() for name in PER_FRAME}
        for name, values in changed.items():
            values[chosen] = getattr(some, name)
        return replace(self, identity=some.identity, zoom=some.zoom, **changed)


PER_FRAME = ("expression", "rotation_step", "move", "first_rotation", "first_shift")
MOVING = ("expression", "rotation_step", "move")


@dataclass(frozen=True)
class Observed:
    """Landmarks of T frames, in pixels from the picture's middle."""

    points: Float[Tensor, "t 68 2"]
    std: Float[Tensor, ""]  # of a landmark's error, pixels
    trust: Float[Tensor, " 68"]

    @classmethod
    def of(cls, landmarks: Float[Tensor, "t 68 2"], size: tuple[int, int]) -> Observed:
        height, width = size
        left, right = (landmarks[:, corner] for corner in OUTER_EYE_CORNERS)
        trust = landmarks.new_ones(68)
        trust[JAW] = JAW_TRUST
        return cls(
            points=landmarks - landmarks.new_tensor([width / 2, height / 2]),
            std=LANDMARK_STD * (right - left).norm(dim=-1).median(),
            trust=trust,
        )

    def frames(self, chosen: Int[Tensor, " n"]) -> Observed:
        return replace(self, points=self.points[chosen])


def fit_landmarks(model: MorphableModel, first: Face, observed: Observed, zoom: bool) -> Face:
    """The face that explains the landmarks, from a first guess of its poses.

    Args:
        zoom: whether the focal length is unknown.
    """
    model = model.landmarks_only()
    n = len(observed.points)
    device = first.rotation_step.device
    few = torch.linspace(0, n - 1, min(n, SHARED_FRAMES), device=device).round().long()
    shared = ("identity", "zoom") if zoom else ("identity",)
    # Frames far from each other say nothing about motion.
    some = _fit(model, first.frames(few), observed.frames(few), (*shared, *MOVING), moving=n <= 2)
    return _fit(model, first.at(few, some), observed, MOVING, moving=True)


def _fit(
    model: MorphableModel, face: Face, observed: Observed, unknown: tuple[str, ...], moving: bool
) -> Face:
    for _ in range(ROUNDS):
        with torch.no_grad():
            keys = outline(model, face)

        def cost(face: Face, keys: Int[Tensor, "t 68"] = keys) -> Float[Tensor, ""]:
            total = landmark_cost(model, face, observed, keys) + prior_cost(face)
            return total + motion_cost(face) if moving else total

        face = minimised(face, unknown, cost)
    return face


def minimised(
    face: Face, unknown: tuple[str, ...], cost: Callable[[Face], Float[Tensor, ""]]
) -> Face:
    """The face with its unknowns where the cost is least (L-BFGS)."""
    values = {name: getattr(face, name).clone().requires_grad_() for name in unknown}
    optimizer = torch.optim.LBFGS(
        values.values(), max_iter=STEPS, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Float[Tensor, ""]:
        optimizer.zero_grad()
        value = cost(replace(face, **values))
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(closure)
    return replace(face, **{name: value.detach() for name, value in values.items()})


def outline(model: MorphableModel, face: Face) -> Int[Tensor, "t 68"]:
    """The vertex that each landmark is in each frame."""
    return model.seen_keys(face.in_camera(model.vertices(face.identity, face.expression))[..., 0])


def projected(
    model: MorphableModel, face: Face, keys: Int[Tensor, "t 68"]
) -> Float[Tensor, "t 68 2"]:
    """The landmarks, in pixels from the picture's middle."""
    vertices = model.vertices(face.identity, face.expression)
    points = face.in_camera(vertices.gather(1, keys[..., None].expand(-1, -1, 3)))
    return face.focal * points[..., :2] / points[..., 2:]


def landmark_cost(
    model: MorphableModel, face: Face, observed: Observed, keys: Int[Tensor, "t 68"]
) -> Float[Tensor, ""]:
    error = (projected(model, face, keys) - observed.points) / observed.std
    squared = (error**2).sum(-1) / OUTLIER**2
    robust = OUTLIER**2 * ((1 + squared).sqrt() - 1)
    return INDEPENDENT * (observed.trust * robust).sum()


def prior_cost(face: Face) -> Float[Tensor, ""]:
    everyone = (face.identity**2).sum() + face.zoom**2
    return 0.5 * (everyone + (face.expression**2).sum())


def motion_cost(face: Face) -> Float[Tensor, ""]:
    """Heads accelerate little and expressions do not jump."""
    cost = 0.5 * ((face.expression.diff(dim=0) / EXPRESSION_CHANGE) ** 2).sum()
    if len(face.rotation_step) > 2:
        relative = face.rotation[1:] @ face.rotation[:-1].transpose(1, 2)
        speed = torch.stack(
            [relative[:, i, j] - relative[:, j, i] for i, j in ((2, 1), (0, 2), (1, 0))], -1
        )
        place = face.shift / face.shift[:, 2:].detach().mean()
        turning, moving = speed.diff(dim=0) / 2, place.diff(n=2, dim=0)
        for value, std in zip((turning, moving), ACCELERATION, strict=True):
            cost = cost + 0.5 * ((value / std) ** 2).sum()
    return cost
