"""Measures of a clip folder, on clips whose faults are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from radnerf.conventions import HEAD, NECK, TORSO
from radnerf.data.clip import Clip, write_parsing
from radnerf.data.demo import make_demo_clip
from radnerf.errors import UserError
from radnerf.preprocess.report.accuracy import beside_truth, degrees_off, flicker, mean_overlap


@pytest.fixture
def demo(tmp_path: Path) -> Clip:
    make_demo_clip(tmp_path / "demo", seconds=1.0, size=64)
    return Clip.open(tmp_path / "demo")


def copy_with(clip: Clip, root: Path, change) -> Clip:  # type: ignore[no-untyped-def]
    """The demo with other labels."""
    make_demo_clip(root, seconds=1.0, size=64)
    for i in range(len(clip)):
        labels = clip.parsing(i)
        change(i, labels)
        write_parsing(root / "parsing" / f"{i}.png", labels)
    return Clip.open(root)


def test_the_truth_beside_itself_is_perfect(demo: Clip) -> None:
    report = beside_truth(demo, demo)
    assert {report[f"{name}_iou"] for name in ("person", "head", "neck", "torso")} == {1.0}
    assert report["pose_deg"] == pytest.approx(0, abs=1e-3)
    assert report["truth_flicker"] == flicker(demo) < 0.005


def test_half_a_torso_is_half_an_overlap(demo: Clip, tmp_path: Path) -> None:
    def halve(i: int, labels: np.ndarray) -> None:
        rows, columns = np.nonzero(labels == TORSO)
        labels[rows[::2], columns[::2]] = NECK

    found = mean_overlap(copy_with(demo, tmp_path / "half", halve), demo)
    assert found["torso"] == pytest.approx(0.5, abs=0.01)
    assert found["person"] == found["head"] == 1.0 and found["neck"] < 0.5


def test_a_label_for_one_frame_is_flicker_and_a_lasting_one_is_not(
    demo: Clip, tmp_path: Path
) -> None:
    def blink(i: int, labels: np.ndarray) -> None:
        if i % 2:
            labels[labels == HEAD] = NECK

    def switch(i: int, labels: np.ndarray) -> None:
        if i > 12:
            labels[labels == HEAD] = NECK

    assert flicker(copy_with(demo, tmp_path / "blink", blink)) > 0.2
    assert flicker(copy_with(demo, tmp_path / "switch", switch)) == pytest.approx(
        flicker(demo), abs=0.005
    )


def test_another_video_s_truth_is_one_sentence(demo: Clip, tmp_path: Path) -> None:
    make_demo_clip(tmp_path / "other", seconds=1.0, size=96)
    with pytest.raises(UserError, match="give the truth of this very video"):
        mean_overlap(demo, Clip.open(tmp_path / "other"))


def test_degrees_off_forgets_the_world_s_turn_and_keeps_each_frame_s() -> None:
    random = np.random.default_rng(0)
    true = Rotation.from_euler("xyz", random.uniform(-20, 20, (50, 3)), degrees=True)
    world = Rotation.from_euler("xyz", [30, -50, 10], degrees=True)
    assert degrees_off((true * world).as_matrix(), true.as_matrix()).max() < 1e-5
    off = np.zeros((50, 3))
    off[7, 1] = 3.0
    moved = Rotation.from_euler("xyz", off, degrees=True) * true * world
    found = degrees_off(moved.as_matrix(), true.as_matrix())
    assert found[7] == pytest.approx(3.0, abs=0.2) and np.delete(found, 7).max() < 0.2
