"""Portrait files of version 2 render as they did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inference.fakes import make_bundle, make_portrait_config
from safetensors.torch import save_file

from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.performer import load_portrait
from radnerf.rendering.portrait import Portrait

RATIOS = torch.tensor([0.05, 0.2, 0.21, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.3])
SHUT, OPENED = 0.05, 0.2  # of the ten that were trained on
BEFORE = {
    "head.field.": "head.",
    "head.grid.": "head_grid.",
    "torso.field.": "torso.",
    "torso.grid.": "torso_grid.",
}


def version_2(path: Path, portrait: Portrait, **head: Any) -> None:
    """The file that version 2 wrote of a portrait."""
    import json

    config, bundle = portrait.config, make_bundle()
    field = {k: v for k, v in config["head"]["field"].items() if k != "eye_input"}
    occupancy = "radnerf.rendering.occupancy.OccupancyGrid"
    parts = {
        "audio_net": config["audio_net"],
        "head": field | head,
        "torso": config["torso"]["field"] | {"pose_mean": [0.0] * 6, "pose_scale": [1.0] * 6},
        "head_grid": config["head"]["grid"] | {"_target_": occupancy},
        "torso_grid": config["torso"]["grid"] | {"_target_": occupancy},
        "marching": config["head"]["marching"] | {"_target_": "radnerf.rendering.head.Marching"},
    }
    facts = {
        "id": "old",
        "portrait": parts,
        "extractor": bundle.extractor,
        "focal": bundle.focal,
        "centre": bundle.centre,
        "size": bundle.size,
        "fps": bundle.fps,
        "n_train": 10,
        "lead": 0.12,
    }
    tensors = {"eye": RATIOS.clone(), "poses": bundle.poses, "background": bundle.background}
    tensors["torso_motion"] = bundle.torso_motion
    for name, value in portrait.state_dict().items():
        for now, before in BEFORE.items():
            if name.startswith(now):
                name = before + name[len(now) :]
                break
        tensors[f"weights/{name}"] = value.clone()
    metadata = {"format": "radnerf-portrait", "version": "2", "facts": json.dumps(facts)}
    save_file(tensors, path, metadata)


def portrait(eye_input: list[float]) -> Portrait:
    torch.manual_seed(0)
    config = make_portrait_config()
    config["head"]["field"]["eye_input"] = eye_input
    made = Portrait.from_config(config).eval()
    with torch.no_grad():
        for encoder in (made.head.field.spatial, made.torso.field.grid):
            encoder.table.uniform_(-1, 1)
        made.head.field.sigma_net.weights[-1][0].abs_().mul_(4)
        made.head.field.color_net.weights[-1] *= 20
    return made


def frame(made: Portrait, opening: float) -> np.ndarray:
    bundle, code = make_bundle(), torch.linspace(-1, 1, 64)
    camera = bundle.poses[2], bundle.focal, bundle.centre, bundle.size
    return made.render(*camera, code, opening, torch.full((*bundle.size, 3), 0.5)).numpy()


@pytest.mark.parametrize(
    ("head", "eye_input"),
    [
        # What was trained here: shut and open as in the clip.
        ({"eye_range": [SHUT, OPENED], "eye_input": [-2.0, 2.0]}, [-2.0, 2.0]),
        # The paper's: eye ratios as they are.
        ({"eye_range": [0.0, 1.0], "eye_input": [0.0, 1.0]}, [SHUT, OPENED]),
        # Converted from a public checkpoint.
        ({}, [SHUT / 0.25, OPENED / 0.25]),
    ],
)
def test_the_frames_are_the_same(
    head: dict[str, Any], eye_input: list[float], tmp_path: Path
) -> None:
    made = portrait(eye_input)
    version_2(tmp_path / "old.safetensors", made, **head)
    bundle = PortraitBundle.load(tmp_path / "old.safetensors")
    assert bundle.version == 3 and bundle.audio_offset == 0.12
    expected = (RATIOS - SHUT) / (OPENED - SHUT)
    torch.testing.assert_close(bundle.eye, expected, atol=1e-5, rtol=1e-5)
    again = load_portrait(bundle).eval()
    for opening in (0.0, 0.6, 1.0):
        np.testing.assert_allclose(frame(again, opening), frame(made, opening), atol=1e-4)
    assert np.abs(frame(made, 0.0) - frame(made, 1.0)).max() > 0.002, "eyes are to be seen"


def test_what_is_saved_is_of_this_version(tmp_path: Path) -> None:
    version_2(tmp_path / "old.safetensors", portrait([0.0, 1.0]))
    bundle = PortraitBundle.load(tmp_path / "old.safetensors")
    bundle.save(tmp_path / "new.safetensors")
    again = PortraitBundle.load(tmp_path / "new.safetensors")
    assert again.portrait == bundle.portrait and torch.equal(again.eye, bundle.eye)
