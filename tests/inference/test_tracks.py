import json

import cv2
import numpy as np
import pytest
import torch
from inference.fakes import make_bundle, turned

from radnerf.data.clip import to_public_pose, write_image, write_transforms
from radnerf.errors import UserError
from radnerf.inference.tracks import (
    Blinks,
    background_image,
    cover,
    eye_track,
    orbit,
    ping_pong,
    pose_track,
    rest_pose,
)


@pytest.mark.parametrize(
    ("n_frames", "length", "expected"),
    [
        (9, 4, [0, 1, 2, 3, 2, 1, 0, 1, 2]),
        (3, 4, [0, 1, 2]),
        (5, 2, [0, 1, 0, 1, 0]),
        (3, 1, [0, 0, 0]),
    ],
)
def test_ping_pong_by_hand(n_frames, length, expected):
    assert ping_pong(np.arange(n_frames), length).tolist() == expected


def test_own_poses_are_mirrored():
    bundle = make_bundle(n_frames=3)
    track = pose_track(bundle, "own")(np.arange(6))
    assert torch.equal(track, bundle.poses[[0, 1, 2, 1, 0, 1]])


def test_hold_is_a_pose_of_the_track_near_its_middle():
    bundle = make_bundle(n_frames=11)
    track = pose_track(bundle, "hold")(np.arange(4))
    assert all(torch.equal(pose, bundle.poses[5]) for pose in track)


def angle_from_front(track):
    return torch.rad2deg(torch.atan2(track[:, 2, 3], track[:, 1, 3]))


def test_orbit_keeps_looking_at_the_head_from_the_same_distance():
    rest = turned(0)
    track = orbit(torch.stack([turned(d) for d in (-8, -4, 0, 4, 8)]), 25.0)(np.arange(200))
    assert torch.allclose(track[0], rest, atol=1e-6) and torch.allclose(track[150], rest, atol=1e-5)
    identity = torch.eye(3).expand(200, 3, 3)
    assert torch.allclose(track[:, :3, :3] @ track[:, :3, :3].mT, identity, atol=1e-5)
    # The head, at the origin, stays on the optical axis 3 units away.
    seen = -(track[:, :3, :3].mT @ track[:, :3, 3:])[..., 0]
    assert torch.allclose(seen, torch.tensor([0.0, 0, 3]).expand(200, 3), atol=1e-5)
    steps = (track[1:, :3, 3] - track[:-1, :3, 3]).norm(dim=1)
    assert steps.max() < 0.05, "it does not jump"


@pytest.mark.parametrize(("own", "expected"), [(0.1, 3), (8, 8), (40, 15)])
def test_orbit_turns_as_far_as_the_clip_did(own, expected):
    poses = torch.stack([turned(d) for d in np.linspace(-own, own, 201)])
    angle = angle_from_front(orbit(poses, 25.0)(np.arange(150)))
    assert angle.max() == pytest.approx(expected, rel=0.06)
    assert angle.min() == pytest.approx(-expected, rel=0.06)


def test_poses_from_a_portrait_file_and_a_transforms_file_agree(tmp_path):
    poses = torch.stack([turned(d) for d in (0.0, 4, 8, 3, 1)])
    make_bundle(n_frames=5, poses=poses).save(tmp_path / "p.safetensors")
    frames = [{"transform_matrix": m.tolist()} for m in to_public_pose(poses.numpy())]
    (tmp_path / "t.json").write_text(json.dumps({"frames": frames}))
    bundle = make_bundle(n_frames=11)
    from_portrait = pose_track(bundle, str(tmp_path / "p.safetensors"))(np.arange(5))
    from_json = pose_track(bundle, str(tmp_path / "t.json"))(np.arange(5))
    assert torch.allclose(from_portrait, from_json, atol=1e-5)
    # Their rest is turned(3), ours is turned(5): the motion is theirs, the rest ours.
    expected = torch.stack([turned(d + 2) for d in (0.0, 4, 8, 3, 1)])
    assert torch.allclose(from_portrait, expected, atol=1e-5)


def test_poses_from_a_clip_folder(tmp_path):
    poses = torch.stack([turned(d) for d in range(11)])
    write_transforms(tmp_path, poses.numpy(), np.full(11, 0.2), 72.0, (15.0, 20.0))
    for i in range(11):
        write_image(tmp_path / "gt_imgs" / f"{i}.jpg", np.zeros((40, 30, 3), np.uint8))
    track = pose_track(make_bundle(n_frames=11), str(tmp_path))(np.arange(20))
    assert torch.allclose(track, poses[ping_pong(np.arange(20), 11)], atol=1e-5)


def test_a_camera_twice_as_far_moves_the_head_alike(tmp_path):
    poses = torch.stack([turned(d) for d in range(11)])
    poses[:, 2, 3] += 0.01 * torch.arange(11)
    far = poses.clone()
    far[:, :3, 3] *= 2
    make_bundle(poses=far).save(tmp_path / "p.safetensors")
    bundle = make_bundle(poses=poses)
    track = pose_track(bundle, str(tmp_path / "p.safetensors"))(np.arange(11))
    assert torch.allclose(track, poses, atol=1e-4)


def test_rest_pose_ignores_outliers():
    poses = torch.stack([turned(d) for d in (0, 0.1, 0.2, 0.3, 60)])
    assert torch.equal(rest_pose(poses), poses[2])


@pytest.mark.parametrize("content", ["{", '{"frames": []}', '{"frames": [{}]}', "[]"])
def test_transforms_that_hold_no_poses(tmp_path, content):
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(UserError, match="poses"):
        pose_track(make_bundle(), str(tmp_path / "t.json"))


@pytest.mark.parametrize("pose", ["orbits", "nowhere/t.json"])
def test_unknown_pose(pose):
    with pytest.raises(UserError, match="own, hold or orbit"):
        pose_track(make_bundle(), pose)


def test_folder_that_is_no_clip(tmp_path):
    with pytest.raises(UserError, match="not a preprocessed clip"):
        pose_track(make_bundle(), str(tmp_path))


def test_own_eyes_follow_the_clip():
    bundle = make_bundle(n_frames=4, eye=torch.tensor([1.2, 0.0, 1.2, 1.2]))
    # Smoothed over 3 frames, but for the blink.
    assert eye_track(bundle, "own")(np.arange(5)) == pytest.approx(
        [0.8, 0.0, 0.8, 1.2, 0.8], abs=1e-6
    )


@pytest.mark.parametrize(
    ("eyes", "expected"),
    [(0, 0), (1, 1), ("1", 1), (0.5, 0.5), (1.2, 1.2), (1.5, 1.25)],
)
def test_fixed_eyes_are_shut_and_open_as_this_person_has_them(eyes, expected):
    """0 is the most shut, 1 the usual opening; never wider than in the clip."""
    eye = torch.tensor([1.0] * 40 + [1.25] * 5 + [0.5, 0.0])
    track = eye_track(make_bundle(n_frames=47, eye=eye), eyes)(np.arange(3))
    assert track == pytest.approx([expected] * 3, abs=1e-6)


@pytest.mark.parametrize("eyes", ["shut", -0.1, 2.5, "nan", "inf"])
def test_eyes_that_are_none(eyes):
    with pytest.raises(UserError, match="own, blink"):
        eye_track(make_bundle(), eyes)


def test_blinks_are_as_often_and_as_long_as_people_blink():
    fps, minutes = 200.0, 60
    closed = Blinks(fps, 3)(np.arange(int(fps * 60 * minutes)))
    assert closed.min() == 0 and closed.max() == 1
    begins, ends = (np.flatnonzero(np.diff((closed > 0).astype(int)) == s) for s in (1, -1))
    gaps = np.diff(begins) / fps
    assert gaps.min() >= 1 - 1 / fps and 3.7 < gaps.mean() < 4.3
    # Log-normal: long gaps lie as far above the median as short ones below it, as factors.
    low, middle, high = np.log(np.quantile(gaps, [0.1, 0.5, 0.9]))
    assert high - middle == pytest.approx(middle - low, abs=0.06)
    assert 0.5 < np.mean((gaps > 3) & (gaps < 5)) < 0.85
    first, last = ((np.flatnonzero(np.diff((closed == 1).astype(int)) == s)) for s in (1, -1))
    n = min(len(begins), len(ends), len(first), len(last))
    closing, opening = (first[:n] - begins[:n]) / fps, (ends[:n] - last[:n]) / fps
    assert closing.min() > 0.09 and closing.max() < 0.16 and closing.std() > 0.01
    assert opening == pytest.approx(np.full(n, 0.2), abs=2.1 / fps)


def test_tracks_do_not_depend_on_what_was_asked_before():
    poses = torch.stack([turned(d) for d in (-8, -4, 0, 4, 8)])
    for track in (Blinks(25.0, 5), orbit(poses, 25.0), pose_track(make_bundle(), "own")):
        whole = np.asarray(track(np.arange(900)))
        apart = [np.asarray(track(np.array([i])))[0] for i in range(900)]
        assert (whole == np.stack(apart)).all()
    late, early = Blinks(25.0, 5), Blinks(25.0, 5)
    assert (late(np.arange(600, 900)) == early(np.arange(900))[600:]).all()


def test_blinks_close_at_25_fps_and_depend_on_the_seed_alone():
    first, again, other = (Blinks(25.0, s)(np.arange(5000)) for s in (1, 1, 2))
    assert (first == again).all() and (first != other).any()
    begins = np.flatnonzero((first[:-1] == 0) & (first[1:] > 0))
    peaks = [first[i : i + 9].max() for i in begins[:-1]]
    assert min(peaks) > 0.95, "no blink falls between two frames"


def test_blinking_stays_within_what_the_clip_showed():
    bundle = make_bundle(n_frames=100, eye=torch.linspace(0, 1.2, 100))
    eyes = eye_track(bundle, "blink")(np.arange(1000))
    assert eyes.min() >= 0 and eyes.max() == 1
    assert eyes.min() < 0.05


@pytest.mark.parametrize(
    ("background", "color"),
    [("own", 128), ("white", 255), ("black", 0), ("#00ff7f", (0, 255, 127)), ("#FFFFFF", 255)],
)
def test_plain_backgrounds(background, color):
    image = background_image(make_bundle(), background, (20, 15))
    assert image.shape == (20, 15, 3) and image.dtype == np.uint8
    assert (image == np.array(color)).all()


@pytest.mark.parametrize("background", ["#00ff7", "#00ff7g", "green", "no/such.png"])
def test_backgrounds_that_are_none(background):
    with pytest.raises(UserError, match="color"):
        background_image(make_bundle(), background, (20, 15))


def test_background_that_is_no_image(tmp_path):
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(UserError, match="not a 3-channel image"):
        background_image(make_bundle(), str(tmp_path / "a.png"), (20, 15))


def test_image_fills_the_picture_around_its_middle(tmp_path):
    wide = np.zeros((10, 60, 3), np.uint8)
    wide[:, 20:40] = (0, 0, 255)  # BGR: red
    cv2.imwrite(str(tmp_path / "a.png"), wide)
    image = background_image(make_bundle(), str(tmp_path / "a.png"), (40, 60))
    assert image.shape == (40, 60, 3)
    assert (image == (255, 0, 0)).all(), "only the middle 15 of 60 columns are seen"


@pytest.mark.parametrize("old", [(7, 5), (100, 33), (33, 100), (40, 31)])
def test_cover_gives_the_exact_size(old):
    image = cover(np.full((*old, 3), 9, np.uint8), (40, 30))
    assert image.shape == (40, 30, 3) and (image == 9).all()
