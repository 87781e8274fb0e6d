from __future__ import annotations

import itertools
import json
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest
from preprocess_videos import FakeFace, camera_track, fake_person, gray_ramp, tone, write_video

from radnerf import models
from radnerf.conventions import HEAD, NECK, TORSO
from radnerf.data.clip import Clip, read_image
from radnerf.errors import UserError
from radnerf.preprocess.index import smooth_eye
from radnerf.preprocess.layers.stage import over
from radnerf.preprocess.pipeline import preprocess_video
from radnerf.preprocess.video.sound import write_wav

SIZE, FRAMES = (96, 128), 30


def portrait(i: int) -> np.ndarray:
    """A frame for fake_person: skin, hair, coat and a lively background."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    image = np.stack([60 + rows, 90 + columns // 2, 160 - rows], -1).astype(np.uint8)
    person = fake_person(image) > 0.5
    image[person] = (205, 150, 120)
    image[person & (rows > 0.85 * SIZE[0])] = (30, 40, 90)
    return np.clip(image.astype(int) + i % 3, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    frames = [portrait(i) for i in range(FRAMES)]
    return write_video(path, frames, list(np.arange(FRAMES) / 25), tone(FRAMES / 25))


def preprocess(video: Path, root: Path, face: FakeFace | None = None, **options: object) -> Clip:
    return preprocess_video(
        video,
        root,
        clip_id="test",
        detector=(face or FakeFace()).open,
        person_mask=fake_person,
        **options,
    )


@pytest.fixture(scope="module")
def clip(video: Path, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return preprocess(video, tmp_path_factory.mktemp("clip") / "clip")


def test_writes_a_whole_clip(clip: Clip) -> None:
    assert len(clip) == FRAMES
    assert clip.size == SIZE
    assert clip.focal == pytest.approx(2.4 * SIZE[1])
    assert clip.background().shape == (*SIZE, 3)
    for i in (0, FRAMES - 1):
        assert clip.image(i).shape == (*SIZE, 3)
        assert clip.torso(i).shape == (*SIZE, 4)
        labels = clip.parsing(i)
        assert {HEAD, NECK, TORSO} & set(np.unique(labels))
        assert labels[round(0.4 * SIZE[0]), SIZE[1] // 2] == HEAD
    meta = clip.meta
    assert meta["id"] == "test"
    assert meta["size"] == list(SIZE)
    assert meta["tracking"]["rmse_px"] < 0.1
    assert meta["source"]["file"] == "clip.mp4"
    assert np.load(clip.root / "landmarks.npy").shape == (FRAMES, 478, 3)
    assert read_image(clip.root / "preprocess.png").shape[1] > 1000
    assert not list(clip.root.rglob("*.part"))


def test_sound_is_as_long_as_the_picture(clip: Clip) -> None:
    with wave.open(str(clip.root / "aud.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
        assert file.getnframes() == FRAMES * 640


def test_poses_follow_the_face(clip: Clip) -> None:
    rotation, _ = camera_track(FRAMES)
    found = clip.poses[:, :3, :3].swapaxes(1, 2)
    between = found[1:] @ found[:1].swapaxes(1, 2)
    wanted = rotation[1:] @ rotation[:1].swapaxes(1, 2)
    trace = np.trace(between @ wanted.swapaxes(1, 2), axis1=1, axis2=2)
    assert np.rad2deg(np.arccos(np.clip((trace - 1) / 2, -1, 1))).max() < 0.5


def test_head_box_holds_the_head(clip: Clip) -> None:
    (up, towards, right), (up2, towards2, right2) = clip.head_box
    assert up < -0.3 < 0.2 < up2
    assert right < -0.15 < 0.15 < right2
    assert towards < 0.2 < towards2
    assert clip.meta["tracking"]["head_box_coverage"] > 0.99


def test_second_run_changes_nothing(clip: Clip, video: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in clip.root.rglob("*") if p.is_file()}
    preprocess(video, clip.root)
    after = {p: p.stat().st_mtime_ns for p in clip.root.rglob("*") if p.is_file()}
    assert before == after


def test_another_focal_length_keeps_the_parsing(video: Path, tmp_path: Path) -> None:
    first = preprocess(video, tmp_path / "clip")
    stamp = (first.root / "parsing" / "0.png").stat().st_mtime_ns
    second = preprocess(video, tmp_path / "clip", focal=3.0)
    assert second.focal == pytest.approx(3.0 * SIZE[1])
    assert second.poses[:, 1, 3].mean() > 1.15 * first.poses[:, 1, 3].mean()
    assert (second.root / "parsing" / "0.png").stat().st_mtime_ns == stamp


def test_resolution_scales_frames_and_landmarks(video: Path, clip: Clip, tmp_path: Path) -> None:
    small = preprocess(video, tmp_path / "clip", resolution=64)
    assert small.size == (48, 64)
    assert small.landmarks(5) == pytest.approx(clip.landmarks(5) / 2, abs=0.01)
    assert small.eye == pytest.approx(clip.eye, abs=0.01)


def test_landmarks_made_elsewhere(video: Path, clip: Clip, tmp_path: Path) -> None:
    points = np.stack([clip.landmarks(i) for i in range(FRAMES)])
    np.save(tmp_path / "points.npy", points)
    given = preprocess(video, tmp_path / "clip", landmarks=tmp_path / "points.npy")
    assert given.landmarks(3) == pytest.approx(clip.landmarks(3), abs=0.01)
    with pytest.raises(UserError, match="does not exist"):
        preprocess(video, tmp_path / "other", landmarks=tmp_path / "nowhere.npy")


def test_a_lost_face_leaves_nothing_behind(video: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No face was found"):
        preprocess(video, tmp_path / "clip", FakeFace(lost=range(FRAMES)))
    assert not (tmp_path / "clip").exists()


def test_an_error_keeps_the_folder_of_an_earlier_run(
    video: Path, plain_video: Path, tmp_path: Path
) -> None:
    root = preprocess(video, tmp_path / "clip").root
    with pytest.raises(UserError, match="No face"):
        preprocess(plain_video, root, FakeFace(lost=range(100)))
    assert (root / "gt_imgs" / "0.jpg").is_file()


@pytest.fixture
def plain_video(tmp_path: Path) -> Path:
    times = np.arange(30) / 25
    return write_video(tmp_path / "plain.mp4", gray_ramp(times), list(times), tone(1.2))


def test_smoothing_the_eyes_keeps_level_and_lag() -> None:
    assert smooth_eye(np.full(5, 0.3)) == pytest.approx(np.full(5, 0.3))
    blink = np.array([1.0, 1, 1, 0, 1, 1, 1])
    assert smooth_eye(blink).argmin() == 3


def test_person_over_background_by_hand() -> None:
    front, behind = np.full((1, 3, 3), 200, np.uint8), np.full((1, 3, 3), 100, np.uint8)
    alpha = np.array([[0, 51, 255]], np.uint8)
    assert over(front, alpha, behind)[0, :, 0].tolist() == [100, 120, 200]


def test_short_sound_is_filled_and_long_sound_is_cut(tmp_path: Path) -> None:
    for given in (1000, 5000):
        write_wav(tmp_path / "a.wav", np.full(given, 0.5), 5)
        with wave.open(str(tmp_path / "a.wav")) as file:
            samples = np.frombuffer(file.readframes(9999), "<i2")
        assert len(samples) == 3200
        assert (samples[:1000] == 16_384).all()
        assert (samples[1000:] == (0 if given == 1000 else 16_384)).all()


@pytest.mark.parametrize(("name", "resolution"), [("obama.mp4", 225), ("may.mp4", 256)])
def test_real_videos(shared_videos: Path, tmp_path: Path, name: str, resolution: int) -> None:
    if not all(map(models.at_hand, models.MODELS)):
        pytest.skip("no networks here: python -m radnerf.models")
    import av

    short = tmp_path / name
    with av.open(str(shared_videos / name)) as source:
        frames = [
            f.to_ndarray(format="rgb24") for f in itertools.islice(source.decode(video=0), 50)
        ]
    write_video(short, frames, list(np.arange(50) / 25), tone(2.0))
    clip = preprocess_video(short, tmp_path / "clip", clip_id="real", resolution=resolution)
    tracking = json.loads((clip.root / "clip.json").read_text())["tracking"]
    assert len(clip) == 50
    assert tracking["rmse_px"] < 1.0
    assert tracking["jitter_deg"] < 0.5 * tracking["pnp_jitter_deg"]
    assert tracking["head_box_coverage"] > 0.99
    labels = clip.parsing(25)
    nose = clip.landmarks(25)[30].astype(int)
    assert labels[nose[1], nose[0]] == HEAD
    assert 0.1 < (labels == HEAD).mean() < 0.6
    # The person over the background is the frame itself where the person is.
    frame = read_image(clip.root / "ori_imgs" / "25.jpg").astype(int)
    inside = cv2.erode((labels == HEAD).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert np.abs(clip.image(25).astype(int) - frame)[inside].mean() < 2
