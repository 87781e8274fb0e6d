"""Folders of RAD-NeRF, ER-NeRF and GeneFace style tools, and what may be missing in them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data.tool_folders import TOOLS, blinks, write_openface
from experiment.tiny import config
from safetensors import safe_open

from radnerf.audio import FeatureFile, load_audio
from radnerf.data.blinks import read_blinks
from radnerf.data.clip import Clip
from radnerf.data.datamodule import ClipDataModule
from radnerf.data.demo import make_demo_clip
from radnerf.data.frames import FrameStore
from radnerf.errors import UserError
from radnerf.experiment import run
from radnerf.experiment.evaluate import held_out_wave
from radnerf.geometry.eyes import eye_range
from radnerf.preprocess.source import ClipSource


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "demo"
    make_demo_clip(root, seconds=2.0, size=48)
    return root


def public_pose(matrix: np.ndarray) -> np.ndarray:
    """What the public loader makes of a pose: rows y, z, x; y and z axes flipped; times 4."""
    scale = np.array([1, -1, -1, 4.0])
    return np.stack([matrix[1] * scale, matrix[2] * scale, matrix[0] * scale, matrix[3]])


@pytest.mark.parametrize("tool", TOOLS)
def test_the_folder_of_a_tool_is_the_clip(tool: str, demo: Path, tmp_path: Path) -> None:
    root = TOOLS[tool](demo, tmp_path / tool)
    clip, source = Clip.open(root), Clip.open(demo)
    content = json.loads((root / "transforms_train.json").read_text())
    wanted = [public_pose(np.array(f["transform_matrix"])) for f in content["frames"]]
    np.testing.assert_allclose(clip.poses[: clip.n_train], wanted, atol=1e-6)
    np.testing.assert_allclose(clip.poses, source.poses, atol=1e-5)
    assert (clip.focal, clip.centre) == (source.focal, source.centre)
    assert (len(clip), clip.n_train) == (len(source), source.n_train)
    for i in (0, len(clip) - 1):
        assert np.array_equal(clip.image(i), source.image(i))
        assert np.array_equal(clip.torso(i), source.torso(i))
        assert np.array_equal(clip.parsing(i), source.parsing(i))
    if tool == "ernerf":
        shut, opened = eye_range(source.eye[: clip.n_train])
        closed = np.clip(np.round(blinks(demo), 2) / 2, 0, 1)
        np.testing.assert_allclose(clip.eye, opened + (shut - opened) * closed, atol=1e-3)
        assert any("au.csv" in note for note in clip.notes)
    else:
        np.testing.assert_allclose(clip.eye, source.eye, atol=1e-4)
        assert clip.notes == []


@pytest.mark.parametrize(
    ("tool", "file", "width"),
    [("radnerf", None, 44), ("ernerf", "aud_hu.npy", 1024), ("geneface", "aud_deepspeech.npy", 29)],
)
def test_the_folder_of_a_tool_trains(
    tool: str, file: str | None, width: int, demo: Path, tmp_path: Path
) -> None:
    root = TOOLS[tool](demo, tmp_path / tool)
    named = [] if file is None else [f"audio.extractor.file={file}"]
    stages = "stages=[preprocess,head,torso]"
    run(config(root, tmp_path / "runs", "audio=features", *named, "steps=4", stages))
    (portrait,) = (tmp_path / "runs").rglob("portrait.safetensors")
    with safe_open(str(portrait), "pt") as file_:
        shapes = [file_.get_slice(name).get_shape() for name in file_.keys()]  # noqa: SIM118
    assert any(width in shape for shape in shapes)


@pytest.mark.parametrize("tool", ["ernerf", "geneface"])
def test_features_of_several_kinds_must_be_chosen(tool: str, demo: Path, tmp_path: Path) -> None:
    root = TOOLS[tool](demo, tmp_path / tool)
    with pytest.raises(UserError, match=r"29 wide, DeepSpeech.*audio\.extractor\.file") as error:
        FeatureFile().found(root)
    assert "mel_f0" not in str(error.value)


def counting(count: int) -> np.ndarray:
    """Windows that hold their own number."""
    return np.arange(count, dtype=np.float32)[:, None, None] + np.zeros((16, 3))


def edited(root: Path, change: Callable[[dict[str, Any]], object], *splits: str) -> Path:
    for split in splits or ("train", "val"):
        path = root / f"transforms_{split}.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
    return root


def test_frames_without_images_are_left_out_with_one_line(
    tiny_clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tiny_clip / "gt_imgs" / "7.jpg").unlink()
    (tiny_clip / "torso_imgs" / "9.png").unlink()
    (tiny_clip / "parsing" / "21.png").write_bytes(b"")
    clip = Clip.open(tiny_clip)
    assert sorted({*range(22)} - {*clip.ids.tolist()}) == [7, 9, 21]
    assert (len(clip), clip.n_train) == (19, 18)
    np.save(tiny_clip / "aud.npy", counting(22))
    data = ClipDataModule(tiny_clip, FeatureFile())
    with caplog.at_level(logging.WARNING):
        data.setup()
    told = [record.message for record in caplog.records if "frames" in record.message]
    assert len(told) == 1
    assert "3 of 22 frames lack an image (1 in gt_imgs, 1 in torso_imgs, 1 in parsing)" in told[0]
    # Frame 8 is the eighth now, and still has the eighth window.
    window = data.audio[data.audio_ids[7]]
    assert clip.ids[7] == 8 and float(window[0, 0]) == 8


def test_many_frames_without_images_are_an_error(tiny_clip: Path) -> None:
    for i in range(6):
        (tiny_clip / "gt_imgs" / f"{i}.jpg").unlink()
    with pytest.raises(UserError, match=r"6 of 22 frames lack an image \(6 in gt_imgs\)"):
        Clip.open(tiny_clip)


@pytest.mark.parametrize("folder", ["torso_imgs", "parsing"])
def test_a_missing_folder_of_images_is_told_with_its_purpose(tiny_clip: Path, folder: str) -> None:
    for path in (tiny_clip / folder).iterdir():
        path.unlink()
    (tiny_clip / folder).rmdir()
    assert len(Clip.open(tiny_clip)) == 22  # its poses can still drive a portrait
    with pytest.raises(UserError, match=rf"has no {folder} \(they tell .*\): repeat"):
        FrameStore.open(Clip.open(tiny_clip))
    assert not (tiny_clip / "cache").exists()


def test_gaps_in_numbering_and_other_numbers_of_the_sound(tiny_clip: Path) -> None:
    for folder, suffix in (("gt_imgs", "jpg"), ("torso_imgs", "png"), ("parsing", "png")):
        for i in reversed(range(22)):
            path = tiny_clip / folder / f"{i}.{suffix}"
            path.rename(path.with_stem(f"{3 * i + 1}"))
    for i in reversed(range(22)):
        path = tiny_clip / "ori_imgs" / f"{i}.lms"
        path.rename(path.with_name(f"{3 * i + 1}.lms"))

    def renumber(content: dict[str, Any]) -> None:
        for frame in content["frames"]:
            frame["img_id"] = 3 * frame["img_id"] + 1

    np.save(tiny_clip / "aud.npy", counting(22))
    data = ClipDataModule(edited(tiny_clip, renumber), FeatureFile())
    data.setup()
    assert data.clip.ids.tolist() == list(range(1, 65, 3))
    assert data.audio[data.audio_ids, 0, 0].tolist() == list(range(22))


def test_the_split_is_taken_as_given(tiny_clip: Path) -> None:
    train, held_out = (tiny_clip / f"transforms_{split}.json" for split in ("train", "val"))
    first = FrameStore.open(Clip.open(tiny_clip)).images[3].clone()
    content = json.loads(train.read_text())
    frames = content["frames"] + json.loads(held_out.read_text())["frames"]
    train.write_text(json.dumps(content | {"frames": frames[0:5] + frames[10:]}))
    held_out.write_text(json.dumps(content | {"frames": frames[5:10]}))
    np.save(tiny_clip / "aud.npy", np.ones((22, 16, 3), np.float32))
    data = ClipDataModule(tiny_clip, FeatureFile())
    data.setup()
    assert data.clip.ids[data.clip.n_train :].tolist() == [5, 6, 7, 8, 9]
    # The cache of the other order is not taken.
    assert np.array_equal(data.frames.images[5].numpy(), data.clip.image(5))
    assert np.array_equal(data.frames.images[3], first) and data.clip.ids[5] == 10
    # The test's sound is that of its frames.
    whole = load_audio(tiny_clip / "aud.wav")
    assert np.array_equal(held_out_wave(data), whole[5 * 640 : 10 * 640])


def test_short_gaps_of_landmarks_are_bridged(tiny_clip: Path) -> None:
    folder = tiny_clip / "ori_imgs"
    for i in range(22):
        np.savetxt(folder / f"{i}.lms", np.full((68, 2), 10.0 + i))
    for i in (0, 5, 6, 7, 21):
        (folder / f"{i}.lms").unlink()
    clip = Clip.open(tiny_clip)
    found = [float(clip.landmarks(i)[0, 0]) for i in range(22)]
    assert found == pytest.approx([11.0, *range(11, 31), 30.0])


def test_long_gaps_of_landmarks_are_one_sentence(tiny_clip: Path) -> None:
    numbers = list(range(10)) + list(range(40, 52))

    def spread(content: dict[str, Any]) -> None:
        for frame in content["frames"]:
            frame["img_id"] = numbers[frame["img_id"]]

    edited(tiny_clip, spread)
    for folder, suffix in (("gt_imgs", "jpg"), ("torso_imgs", "png"), ("parsing", "png")):
        for i in reversed(range(22)):
            path = tiny_clip / folder / f"{i}.{suffix}"
            path.rename(path.with_stem(str(numbers[i])))
    for i in range(10, 22):
        (tiny_clip / "ori_imgs" / f"{i}.lms").unlink()
    with pytest.raises(UserError, match=r"no landmarks \(\.lms\) for frame 40"):
        FrameStore.open(Clip.open(tiny_clip))


CAMERAS = {
    "fl_x": {"fl_x": 80.0, "fl_y": 80.4, "cx": 16.0, "cy": 12.0, "w": 32, "h": 24},
    "no centre": {"focal_len": 80.2},
    # 32 pixels wide at 80.2 pixels.
    "angle": {"camera_angle_x": 2 * np.arctan(16 / 80.2), "cx": 16, "cy": 12},
}


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS)
def test_other_fields_of_the_camera(tiny_clip: Path, camera: dict[str, float]) -> None:
    def replace(content: dict[str, Any]) -> None:
        for name in ("focal_len", "cx", "cy"):
            del content[name]
        content |= camera

    clip = Clip.open(edited(tiny_clip, replace))
    assert clip.focal == pytest.approx(80.2) and clip.centre == (16.0, 12.0)


BAD_CAMERAS = {
    "no focal": ({"focal_len": None}, "cannot be read as camera poses"),
    "zero": ({"focal_len": 0}, "no usable focal length"),
    "anisotropic": ({"fl_x": 80.0, "fl_y": 120.0}, "two focal lengths, 80.0 and 120.0"),
    "other size": ({"cx": 64, "cy": 48}, "not for frames of 32 x 24 pixels"),
    "stated size": ({"w": 64, "h": 48}, "not for frames of 32 x 24 pixels"),
}


@pytest.mark.parametrize(("camera", "words"), BAD_CAMERAS.values(), ids=BAD_CAMERAS)
def test_cameras_that_do_not_fit(tiny_clip: Path, camera: dict[str, Any], words: str) -> None:
    def replace(content: dict[str, Any]) -> None:
        if "fl_x" in camera:
            del content["focal_len"]
        content |= camera

    with pytest.raises(UserError, match=words):
        Clip.open(edited(tiny_clip, replace))


def test_both_splits_have_one_camera(tiny_clip: Path) -> None:
    edited(tiny_clip, lambda content: content.update(focal_len=90), "val")
    with pytest.raises(UserError, match="different focal lengths"):
        Clip.open(tiny_clip)


def test_the_background_comes_to_the_size_of_the_frames(tiny_clip: Path) -> None:
    background = np.full((48, 64, 3), (10, 20, 30), np.uint8)
    cv2.imwrite(str(tiny_clip / "bc.jpg"), background)
    assert Clip.open(tiny_clip).background().shape == (24, 32, 3)


def test_frames_of_another_size_are_named(tiny_clip: Path) -> None:
    cv2.imwrite(str(tiny_clip / "torso_imgs" / "4.png"), np.zeros((24, 30, 4), np.uint8))
    with pytest.raises(UserError, match=r"torso_imgs/4\.png has 30 x 24 pixels .* 32 x 24"):
        FrameStore.open(Clip.open(tiny_clip))


def test_blinks_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "au.csv"
    write_openface(path, np.array([0, 0, 1, 1, 3.0, 0]), lost=(1,))
    ids = np.array([4, 0, 1, 2, 5])
    assert read_blinks(path, ids).tolist() == [1.0, 0.0, 0.25, 0.5, 0.0]
    with pytest.raises(UserError, match="no AU45_r near frame 99"):
        read_blinks(path, np.array([3, 99]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column AU45_r"),
        ("frame, AU12_r\n1, 0.5\n", "no column AU45_r"),
        ("frame, AU45_r\n1, much\n", "cannot be read"),
        ("frame, success, AU45_r\n1, 0, 0.00\n", "found a face"),
    ],
)
def test_other_tables_are_refused_in_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "au.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_blinks(path, np.array([0]))


def test_a_folder_nobody_may_write_to_is_one_sentence(
    tiny_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    clip = Clip.open(tiny_clip)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"cache cannot be written \(Permission denied\)"):
        FrameStore.open(clip)


def test_a_folder_of_another_tool_is_not_preprocessed_over(tiny_clip: Path) -> None:
    """The public layout keeps the video in the folder, as data/<id>/<id>.mp4."""
    video = tiny_clip / "tiny.mp4"
    video.write_text("whatever")
    before = sorted(path.name for path in tiny_clip.iterdir())
    named = ClipSource(id="tiny", folder=str(tiny_clip.parent), url="https://nowhere.example/a.mp4")
    given = ClipSource(id=None, folder=str(tiny_clip.parent), root=str(tiny_clip))
    assert named.prepare() == given.prepare() == tiny_clip
    with pytest.raises(
        UserError, match=r"holds a clip of another tool: train on it with data=clip"
    ):
        ClipSource(id="tiny", folder=str(tiny_clip.parent), video=str(video)).prepare()
    assert sorted(path.name for path in tiny_clip.iterdir()) == before
