"""Portrait files of earlier versions, brought to the present one as they are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from radnerf.geometry.eyes import OPEN_EYE, eye_opening, eye_range

# Beginnings of weights' names in version 2, and what they are now.
RENAMED = {
    "head_grid.": "head.grid.",
    "head.": "head.field.",
    "torso_grid.": "torso.grid.",
    "torso.": "torso.field.",
    "cameras.turn": "cameras.rotation",
}


# Parts that were elsewhere in version 2.
MOVED = {
    "radnerf.rendering.head.Marching": "radnerf.heads.marching.Marching",
    "radnerf.rendering.occupancy.OccupancyGrid": "radnerf.fields.occupancy.OccupancyGrid",
    "radnerf.rendering.occupancy.VisibleGrid": "radnerf.fields.occupancy.VisibleGrid",
}


def from_version_2(
    facts: Mapping[str, Any], tensors: Mapping[str, Tensor], weight: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Facts and tensors of the present version.

    Version 2 had grids and marching beside the fields, and eyes in percent of the image area.

    Args:
        weight: what the names of weights begin with.

    Raises:
        KeyError, TypeError, ValueError: the file is damaged.
    """
    old, n_train = dict(facts["portrait"]), int(facts["n_train"])
    limits = eye_range(tensors["eye"][:n_train].numpy())
    head, torso = dict(old["head"]), dict(old["torso"])
    seen = tuple(float(v) for v in head.pop("eye_range", (0.0, OPEN_EYE)))
    shut, opened = (float(v) for v in head.get("eye_input", (0.0, 1.0)))
    for name in ("pose_mean", "pose_scale"):  # the weights have them
        torso.pop(name, None)
    head["eye_input"] = [
        shut + (opened - shut) * (limit - seen[0]) / (seen[1] - seen[0]) for limit in limits
    ]
    portrait = {
        "audio_net": old["audio_net"],
        "head": {
            "_target_": "radnerf.heads.radiance.RadianceHead",
            "field": head,
            "grid": _moved(old["head_grid"]),
            "marching": _moved(old["marching"]),
        },
        "torso": {
            "_target_": "radnerf.torsos.planar.PlanarTorso",
            "field": torso,
            "grid": _moved(old["torso_grid"]),
        },
    }
    if "cameras" in old:
        portrait["cameras"] = old["cameras"]
    tensors = {_renamed(name, weight): value for name, value in tensors.items()}
    opening = eye_opening(tensors["eye"], limits).to(torch.float32)
    rest = {k: v for k, v in facts.items() if k not in ("portrait", "lead")}
    return (
        rest | {"portrait": portrait, "audio_offset": facts["lead"]},
        tensors | {"eye": opening},
    )


def _moved(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part where it is now."""
    return {**part, "_target_": MOVED.get(part["_target_"], part["_target_"])}


def _renamed(name: str, weight: str) -> str:
    for before, after in RENAMED.items():
        if name.startswith(weight + before):
            return weight + after + name[len(weight + before) :]
    return name
