"""Triangles to pixels with derivatives: the small part of pytorch3d that the tracker needs."""

from __future__ import annotations

import importlib
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from radnerf.errors import UserError

# It is built against the torch that is there, which pip hides from builds unless it is told not to.
INSTALL = (
    "pip install --no-build-isolation "
    "'git+https://github.com/facebookresearch/pytorch3d.git@stable'"
)


@runtime_checkable
class Rasteriser(Protocol):
    """Draws colored meshes; colors and places get gradients, what covers a pixel does not."""

    def __call__(
        self,
        points: Float[Tensor, "n v 3"],
        colors: Float[Tensor, "n v 3"],
        triangles: Int[Tensor, "f 3"],
        focal: Float[Tensor, ""],
        size: tuple[int, int],
    ) -> Float[Tensor, "n h w 4"]:
        """Pictures of the meshes.

        Args:
            points: camera axes (x right, y down, z forward), in front of the camera.
            colors: RGB at the vertices.
            triangles: of vertex numbers.
            focal: pixels; the optical axis is in the picture's middle.
            size: height and width of the pictures.

        Returns:
            RGB and, last, 1 where a triangle is seen and 0 elsewhere (RGB is 0 there).
        """


def require_pytorch3d() -> None:
    """Find out whether there is a rasteriser.

    Raises:
        UserError: pytorch3d is not installed, and how to install it.
    """
    _load()


def pytorch3d_rasteriser() -> Rasteriser:
    """pytorch3d's rasteriser, one face a pixel.

    Raises:
        UserError: pytorch3d is not installed, and how to install it.
    """
    structures, mesh, ops = _load()

    def rasterise(
        points: Float[Tensor, "n v 3"],
        colors: Float[Tensor, "n v 3"],
        triangles: Int[Tensor, "f 3"],
        focal: Float[Tensor, ""],
        size: tuple[int, int],
    ) -> Float[Tensor, "n h w 4"]:
        # Its x runs left and y up, from the middle; the shorter side ends at 1.
        depth = points[..., 2:]
        screen = -points[..., :2] / depth * (focal / (min(size) / 2))
        meshes = structures.Meshes(
            verts=torch.cat([screen, depth], -1), faces=triangles.expand(len(points), -1, -1)
        )
        face, _, place, _ = mesh.rasterize_meshes(
            meshes,
            image_size=size,
            blur_radius=0.0,
            faces_per_pixel=1,
            perspective_correct=True,
        )
        corners = colors[:, triangles].flatten(0, 1)
        rgb = ops.interpolate_face_attributes(face, place, corners)[..., 0, :]
        covered = (face >= 0).to(rgb.dtype)
        return torch.cat([rgb * covered, covered], -1)

    return rasterise


def _load() -> tuple[Any, Any, Any]:
    names = ("pytorch3d.structures", "pytorch3d.renderer.mesh", "pytorch3d.ops")
    try:
        structures, mesh, ops = (importlib.import_module(name) for name in names)
    except ImportError as error:
        raise UserError(
            f"tracker=bfm compares colors with pytorch3d, which is not installed ({error}): "
            f"{INSTALL}, or give tracker.photometric=false to fit the landmarks alone."
        ) from error
    return structures, mesh, ops
