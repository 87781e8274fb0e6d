"""A synthetic morphable face in the files of the public systems, and triangles drawn by hand."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from preprocess_videos import face_68
from scipy.io import savemat
from torch import Tensor

ROWS, COLUMNS = 13, 9
N_IDENTITY, N_EXPRESSION, N_COLORS = 4, 3, 2


def face_arrays(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Contents of 3DMM_info.npy, topology_info.npy and keys_info.npy: a bent sheet of a face.

    Its landmarks are vertices of their own, spanned with the rest by no triangle.
    """
    random = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1.3, 1.1, ROWS), np.linspace(-0.8, 0.8, COLUMNS), indexing="ij")
    sheet = np.stack([x, y, 1.2 - 0.7 * x**2 - 0.3 * y**2], -1).reshape(-1, 3)
    # up, towards the camera, right -> right, up, towards the camera; outer eye corners 0.9 apart
    marks = face_68()[:, [2, 0, 1]] * 3
    mean = np.concatenate([sheet, marks, marks[:17] * (0.8, 1, 1)])
    corner = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    a, b, c, d = (
        corner[i : ROWS - 1 + i, j : COLUMNS - 1 + j].ravel()
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1))
    )
    keys = len(sheet) + np.arange(68)
    return {
        "3DMM_info": {
            "mu_shape": (mean * 1e5).ravel(),
            "b_shape": _waves(mean, N_IDENTITY, random).reshape(N_IDENTITY, -1) * 1e5 / 2,
            "sig_shape": np.full(N_IDENTITY, 2.0),
            "mu_exp": np.zeros(mean.size),
            "b_exp": _waves(mean, N_EXPRESSION, random).reshape(N_EXPRESSION, -1) * 1e5,
            "sig_exp": np.ones(N_EXPRESSION),
            "mu_tex": (128 + 80 * np.sin(6 * mean + 4 * mean[:, [1, 0, 0]])).ravel(),
            "b_tex": _waves(mean, N_COLORS, random).reshape(N_COLORS, -1) * 255 * 4,
            "sig_tex": np.ones(N_COLORS),
        },
        "topology_info": {
            "tris": np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)]),
            "sub_inds": np.arange(len(mean)),
        },
        "keys_info": {
            "keyinds": keys,
            # The outermost candidate is the landmark itself; the others lie further in.
            "left_contour": np.stack([keys[:8], len(sheet) + 68 + np.arange(8)], 1),
            "right_contour": np.stack([keys[9:17], len(sheet) + 68 + np.arange(9, 17)], 1),
        },
    }


def _waves(points: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Smooth displacements, about 2 mm large."""
    wave = random.normal(0, 1.5, (count, 3, 3))
    phase = random.uniform(0, 6, (count, 1, 3))
    return 0.02 * np.sin(points @ wave + phase)


def write_model(folder: Path, converted: bool = True) -> Path:
    """The files of the synthetic face; without conversion the way that the originals come."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = face_arrays()
    info = arrays["3DMM_info"]
    for name in ("topology_info", "keys_info", *(["3DMM_info"] if converted else [])):
        np.save(folder / f"{name}.npy", np.array(arrays[name], dtype=object))
    if not converted:
        # Vertices that the index leaves out stand between the others.
        n = info["mu_shape"].size // 3
        used = np.arange(n) * 2 + 1
        topology = arrays["topology_info"] | {"sub_inds": used}
        np.save(folder / "topology_info.npy", np.array(topology, dtype=object))
        expressions = {"base_exp": info["b_exp"], "mu_exp": info["mu_exp"]}
        expressions["sig_exp"] = info["sig_exp"]
        np.save(folder / "exp_info.npy", np.array(expressions, dtype=object))

        def spread_out(flat: np.ndarray) -> np.ndarray:
            full = np.full((len(flat), 2 * n, 3), 77.0)
            full[:, used] = flat.reshape(len(flat), n, 3)
            return full.reshape(len(flat), -1).T

        savemat(
            folder / "01_MorphableModel.mat",
            {
                "shapeMU": spread_out(info["mu_shape"][None]),
                "shapePC": spread_out(info["b_shape"]),
                "shapeEV": info["sig_shape"][:, None],
                "texMU": spread_out(info["mu_tex"][None]),
                "texPC": spread_out(info["b_tex"]),
                "texEV": info["sig_tex"][:, None],
            },
        )
    return folder


def draw(
    points: Tensor, colors: Tensor, triangles: Tensor, focal: Tensor, size: tuple[int, int]
) -> Tensor:
    """A rasteriser after the book: every triangle is tried at every pixel's middle."""
    height, width = size
    pixels = focal * points[..., :2] / points[..., 2:] + focal.new_tensor([width / 2, height / 2])
    pictures = []
    for place, depth, color in zip(pixels, points[..., 2], colors, strict=True):
        winner, inside = nearest(place.detach(), depth.detach(), triangles, size)
        corners = triangles[winner]
        weights = shares(place[corners], centres(size).to(place))
        weights = weights / depth[corners]
        weights = weights / weights.sum(-1, keepdim=True)
        rgb = (weights[..., None] * color[corners]).sum(-2) * inside[..., None]
        pictures.append(torch.cat([rgb, inside[..., None]], -1))
    return torch.stack(pictures)


def centres(size: tuple[int, int]) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    return torch.stack([x, y], -1)


def shares(corners: Tensor, at: Tensor) -> Tensor:
    """Barycentric coordinates [*, 3] of places [*, 2] in triangles [*, 3, 2]."""

    def cross(u: Tensor, v: Tensor) -> Tensor:
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    a, b, c = corners.unbind(-2)
    whole = cross(b - a, c - a)
    first, second = cross(b - at, c - at) / whole, cross(c - at, a - at) / whole
    return torch.stack([first, second, 1 - first - second], -1)


def nearest(
    place: Tensor, depth: Tensor, triangles: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Number of the triangle that each pixel shows, and 1 where there is one."""
    weights = shares(place[triangles], centres(size).to(place)[:, :, None])  # [h, w, f, 3]
    inside = (weights >= 0).all(-1)
    z = 1 / (weights / depth[triangles]).sum(-1)
    z = torch.where(inside, z, torch.inf)
    return z.argmin(-1), inside.any(-1).to(place)


def pytorch3d_stand_in() -> dict[str, ModuleType]:
    """Modules for sys.modules that behave as pytorch3d's documentation says.

    Its screen has x to the left and y up, the shorter side from -1 to 1; faces are numbered
    through the meshes of a batch; pixels without a face have -1.
    """
    names = ("pytorch3d", "pytorch3d.structures", "pytorch3d.renderer", "pytorch3d.renderer.mesh")
    modules = {name: ModuleType(name) for name in (*names, "pytorch3d.ops")}

    class Meshes:
        def __init__(self, verts: Tensor, faces: Tensor) -> None:
            assert len(verts) == len(faces) and not faces.is_floating_point()
            self.verts, self.faces = verts, faces

    def rasterize_meshes(
        meshes: Meshes,
        image_size: tuple[int, int],
        blur_radius: float = 0.0,
        faces_per_pixel: int = 8,
        perspective_correct: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        assert blur_radius == 0 and faces_per_pixel == 1 and perspective_correct
        height, width = image_size
        half = min(image_size) / 2
        found, places = [], []
        for i, (verts, triangles) in enumerate(zip(meshes.verts, meshes.faces, strict=True)):
            xy = torch.stack([width / 2 - half * verts[:, 0], height / 2 - half * verts[:, 1]], -1)
            winner, inside = nearest(xy.detach(), verts[:, 2].detach(), triangles, image_size)
            corners = triangles[winner]
            weights = shares(xy[corners], centres(image_size).to(xy)) / verts[:, 2][corners]
            weights = weights / weights.sum(-1, keepdim=True)
            places.append(torch.where(inside[..., None] > 0, weights, -1.0))
            found.append(torch.where(inside > 0, winner + i * len(triangles), -1))
        face, place = torch.stack(found)[..., None], torch.stack(places)[:, :, :, None]
        return face, face.float(), place, face.float()

    def interpolate_face_attributes(face: Tensor, place: Tensor, attributes: Tensor) -> Tensor:
        values = attributes[face.clamp_min(0)]
        mixed = (place[..., None] * values).sum(-2)
        return torch.where(face[..., None] >= 0, mixed, 0.0)

    modules["pytorch3d.structures"].Meshes = Meshes  # type: ignore[attr-defined]
    modules["pytorch3d.renderer.mesh"].rasterize_meshes = rasterize_meshes  # type: ignore[attr-defined]
    modules["pytorch3d.ops"].interpolate_face_attributes = interpolate_face_attributes  # type: ignore[attr-defined]
    return modules
