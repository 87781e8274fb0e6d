"""The public RAD-NeRF network as a portrait: names, axes, scales and occupancy.

What differs: the public torso has (row, column) coordinates where ours has (x, y), its pixels reach
from -1 to 1 by their centres, the eye control is not scaled, and code 0 is used at test. Its
encoders span a cube, of which rays cross a slab.

Letters: R cells along an axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from jaxtyping import Bool
from torch import Tensor

from radnerf.convert.checkpoint import Checkpoint
from radnerf.data.clip import PUBLIC_HEAD_BOX
from radnerf.errors import UserError
from radnerf.geometry.eyes import OPEN_EYE, EyeRange
from radnerf.rendering.portrait import Portrait

# Public modules and ours, whose tensors correspond one to one.
MODULES = {
    "audio_net.encoder_conv": "audio_net.window_net.convolutions",
    "audio_net.encoder_fc1.0": "audio_net.window_net.head.1",
    "audio_net.encoder_fc1.2": "audio_net.window_net.head.3",
    "audio_att_net.attentionConvNet": "audio_net.attention.convolutions",
    "audio_att_net.attentionNet.0": "audio_net.attention.weights",
    "encoder.embeddings": "head.field.spatial.table",
    "encoder_ambient.embeddings": "head.field.conditioning.ambient.table",
    "ambient_net.net": "head.field.conditioning.ambient_net.weights",
    "sigma_net.net": "head.field.sigma_net.weights",
    "color_net.net": "head.field.color_net.weights",
    "individual_codes": "head.field.appearance",
    "torso_encoder.embeddings": "torso.field.grid.table",
    "torso_deform_net.net": "torso.field.deform_net.weights",
    "torso_net.net": "torso.field.torso_net.weights",
    "individual_codes_torso": "torso.field.codes",
}
CODES = ("individual_codes", "individual_codes_torso")
EYE = "sigma_net.net.0.weight"
TORSO = ("torso_deform_net.net.0.weight", "torso_net.net.0.weight")
# Last columns that are absent without the eye control or individual codes.
OPTIONAL_COLUMNS = {EYE: 1, "color_net.net.0.weight": 4, **dict.fromkeys(TORSO, 8)}
# Columns of an encoded torso point: x, y and 10 octaves of both, in one net behind the grid's.
POINT_COLUMNS = dict(zip(TORSO, (slice(0, 42), slice(32, 74)), strict=True))

CUBE = [[-1.0] * 3, [1.0] * 3]  # that the encoders and the occupancy grid span
SQUARE = [[-1.0] * 2, [1.0] * 2]
CELLS = 128
SLAB = slice(CELLS // 4, 3 * CELLS // 4)  # cells of PUBLIC_HEAD_BOX along its short axis
DENSITY_THRESHOLD, ALPHA_THRESHOLD = 10.0, 0.01
SHRINK = 0.8


def audio_width(checkpoint: Checkpoint) -> int:
    """Width of the audio features that the network was trained on."""
    name = "audio_net.encoder_conv.0.weight"
    if name not in checkpoint.model or checkpoint.model[name].dim() != 3:
        raise UserError(f"The checkpoint has no usable {name}: it is none of RAD-NeRF.")
    return checkpoint.model[name].shape[1]


def has_torso(checkpoint: Checkpoint) -> bool:
    """Whether the torso was trained too."""
    return any(name.startswith("torso_net.") for name in checkpoint.model)


def to_portrait(
    checkpoint: Checkpoint,
    size: tuple[int, int],
    n_frames: int,
    eye_range: EyeRange = (0.0, OPEN_EYE),
) -> Portrait:
    """The portrait that computes what the checkpoint's network does at test.

    Args:
        size: height and width of the frames it was trained on.
        n_frames: training frames, whose codes are kept.
        eye_range: eye ratios of the clip's shut and of its open eyes.

    Raises:
        UserError: tensors are missing, or of other shapes than the public network's.
    """
    _check_boxes(checkpoint.model)
    attention = any(name.startswith("audio_att_net.") for name in checkpoint.model)
    codes = [checkpoint.model[name] for name in CODES if name in checkpoint.model]
    n_frames = max(1, min([n_frames, *(len(rows) for rows in codes if rows.dim() == 2)]))
    config = portrait_config(audio_width(checkpoint), attention, size, n_frames, eye_range)
    portrait = Portrait.from_config(config)
    weights = portrait.state_dict()
    torso = has_torso(checkpoint)
    weights |= _weights(checkpoint.model, weights, torso)
    weights["head.grid.occupied"] = head_cells(_need(checkpoint.model, "density_bitfield"))
    weights["torso.grid.occupied"] = torch.zeros_like(weights["torso.grid.occupied"])
    if torso:
        weights["torso.grid.occupied"] = torso_pixels(
            _need(checkpoint.model, "density_grid_torso"), checkpoint.mean_density_torso, size
        )
    weights["head.grid.candidate"] = weights["head.grid.occupied"].clone()
    weights["torso.grid.candidate"] = weights["torso.grid.occupied"].clone()
    portrait.load_state_dict(weights)
    return portrait.eval()


def portrait_config(
    audio_dim: int,
    attention: bool,
    size: tuple[int, int],
    n_frames: int,
    eye_range: EyeRange,
) -> dict[str, Any]:
    """Settings of the public network, as Portrait.from_config takes them."""
    fields = "radnerf.fields"
    height, width = size

    def grid(dim: int, **layout: bool) -> dict[str, Any]:
        target = f"{fields}.encodings.GridEncoding"
        return {"_target_": target, "dim": dim, "drop_folded_axes": True, **layout}

    def cells(box: Any, shape: tuple[int, ...], threshold: float) -> dict[str, Any]:
        target = f"{fields}.occupancy.OccupancyGrid"
        return {"_target_": target, "box": box, "shape": list(shape), "threshold": threshold}

    return {
        "audio_net": {
            "_target_": f"{fields}.audio_net.AudioNet",
            "dim": audio_dim,
            "attention": attention,
        },
        "head": {
            "_target_": "radnerf.heads.radiance.RadianceHead",
            "field": {
                "_target_": f"{fields}.head.HeadField",
                "spatial": grid(3),
                "conditioning": {
                    "_target_": f"{fields}.conditioning.AudioCoordinate",
                    "ambient": grid(2),
                },
                "box": CUBE,
                "n_frames": n_frames,
                "eye_input": [limit / OPEN_EYE for limit in eye_range],
                "test_code": 0,
            },
            "grid": cells(
                [list(corner) for corner in PUBLIC_HEAD_BOX],
                (CELLS, SLAB.stop - SLAB.start, CELLS),
                DENSITY_THRESHOLD,
            ),
            "marching": {"_target_": "radnerf.heads.marching.Marching"},
        },
        "torso": {
            "_target_": "radnerf.torsos.planar.PlanarTorso",
            "field": {
                "_target_": f"{fields}.torso.TorsoField",
                "grid": grid(2, last_axis_first=True),
                "n_frames": n_frames,
                # A pixel's centre is at i / (n - 1) from border to border there, at (i + 0.5) / n
                # here; the two sides' factors differ by less than a tenth of a pixel.
                "shrink": SHRINK * (height / (height - 1) + width / (width - 1)) / 2,
                "tracked": False,
                "test_code": 0,
            },
            "grid": cells(SQUARE, (width, height), ALPHA_THRESHOLD),
        },
    }


def head_cells(bits: Tensor) -> Bool[Tensor, "r half r"]:
    """Occupied cells of the slab, from the cube's bits in Morton order (lowest bit first)."""
    if bits.dtype != torch.uint8 or bits.numel() != CELLS**3 // 8:
        raise UserError(
            f"The checkpoint's density_bitfield is not {CELLS}^3 bits: only checkpoints with "
            "--bound 1 can be converted."
        )
    axis = np.arange(CELLS)
    # Bit k of a coordinate is bit 3 k (x), 3 k + 1 (y), 3 k + 2 (z) of the index.
    spaced = np.zeros_like(axis)
    for k in range(CELLS.bit_length() - 1):
        spaced |= (axis >> k & 1) << 3 * k
    index = spaced[:, None, None] | spaced[:, None] << 1 | spaced << 2
    cells = np.unpackbits(bits.flatten().numpy(), bitorder="little")[index].astype(bool)
    if not cells[:, SLAB].any():
        raise UserError("The checkpoint's occupancy grid is empty: nothing was trained in it.")
    return torch.from_numpy(cells[:, SLAB])


def torso_pixels(
    grid: Tensor, mean: float | None, size: tuple[int, int]
) -> Bool[Tensor, "width height"]:
    """Pixels (x, y) where the torso may be, as the public code looks its grid up."""
    if grid.numel() != CELLS**2:
        raise UserError(f"The checkpoint's density_grid_torso is not {CELLS} x {CELLS}.")
    # Rows of the grid are columns of the image. Corner cells are at the image's corner pixels.
    alpha = grid.float().view(1, 1, CELLS, CELLS)
    height, width = size
    looked_up = nnf.interpolate(alpha, (width, height), mode="bilinear", align_corners=True)
    threshold = min(ALPHA_THRESHOLD, float(alpha.mean()) if mean is None else mean)
    return looked_up[0, 0] > threshold


def _weights(public: dict[str, Tensor], ours: dict[str, Tensor], torso: bool) -> dict[str, Tensor]:
    """Ours by name, from the public ones; a torso that was not trained is nothing at all."""
    weights, missing = {}, []
    for module, our_module in MODULES.items():
        for our_name in (name for name in ours if _within(name, our_module)):
            name = module + our_name[len(our_module) :]
            if module.endswith(".net"):
                name += ".weight"
            shape = tuple(ours[our_name].shape)
            if "torso" in module and not torso:
                weights[our_name] = torch.zeros(shape)
            elif name in public:
                weights[our_name] = _converted(name, public[name], shape)
            elif name in CODES:
                weights[our_name] = torch.zeros(shape)
            else:
                missing.append(name)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(
            f"The checkpoint lacks {', '.join(missing[:3])}{more}: it is damaged, or not of "
            "RAD-NeRF."
        )
    return weights


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _converted(name: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """One public tensor, in our order and scale."""
    value = value.detach().float().clone()
    if name in CODES and value.dim() == 2 and value.shape[1] == shape[1]:
        value = value[: shape[0]]
    absent = OPTIONAL_COLUMNS.get(name, 0)
    if value.dim() == 2 and value.shape[1] == shape[-1] - absent:
        value = nnf.pad(value, (0, absent))
    if tuple(value.shape) != shape:
        raise UserError(
            f"The checkpoint's {name} is {tuple(value.shape)} and not {shape} as RAD-NeRF's: it "
            "was trained with other sizes, which cannot be converted."
        )
    if not value.isfinite().all():
        raise UserError(f"The checkpoint's {name} holds numbers that are none: it is damaged.")
    if name == EYE:
        value[:, -1] *= OPEN_EYE
    elif name in TORSO:
        point = value[:, POINT_COLUMNS[name]].unflatten(1, (-1, 2))
        value[:, POINT_COLUMNS[name]] = point.flip(-1).flatten(1)
    elif name == "torso_deform_net.net.2.weight":
        value = value.flip(0)
    return value


def _need(model: dict[str, Tensor], name: str) -> Tensor:
    if name not in model:
        raise UserError(f"The checkpoint lacks {name}: it is damaged, or not of RAD-NeRF.")
    return model[name]


def _check_boxes(model: dict[str, Tensor]) -> None:
    """Refuse boxes other than the public default's."""
    box = torch.tensor(PUBLIC_HEAD_BOX).flatten()
    found = model.get("aabb_infer", box)
    if found.shape != box.shape or not torch.allclose(found.float(), box):
        raise UserError(
            f"The checkpoint's box is {[round(float(v), 3) for v in found.flatten()]}: only "
            "checkpoints with --bound 1 can be converted."
        )
