import numpy as np
import pytest

from radnerf.geometry.face68 import JAW_BELOW_EARS, JAW_MESH, MESH_TO_68, mouth_opening


def test_table_names_each_landmark_once():
    assert len(MESH_TO_68) == 68 and len(set(MESH_TO_68)) == 68
    assert all(0 <= i < 468 for i in MESH_TO_68)


def test_mouth_opening_by_hand():
    points = np.random.default_rng(0).uniform(0, 9, (2, 68, 2))
    points[:, 36], points[:, 45] = (0, 0), (30, 40)  # 50 apart
    for upper, lower, gap in ((61, 67, 4), (62, 66, 6), (63, 65, 5)):
        points[:, lower] = points[:, upper] + (0, gap)
    assert mouth_opening(points) == pytest.approx([0.1, 0.1])
    assert mouth_opening(points[0] * 3) == pytest.approx(0.1)
    points[1, 61] = np.nan
    assert np.isnan(mouth_opening(points)[1])


def test_mesh_and_68_points_give_the_same_jaw() -> None:
    """JAW_MESH passes through the 68 convention's points."""
    jaw = [MESH_TO_68[i] for i in JAW_BELOW_EARS]
    assert [i for i in JAW_MESH if i in jaw] == jaw
