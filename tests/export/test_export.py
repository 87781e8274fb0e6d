from __future__ import annotations

import csv
import errno
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from radnerf.audio import windows
from radnerf.conventions import HEAD
from radnerf.data.clip import Clip, write_transforms
from radnerf.errors import UserError
from radnerf.export.__main__ import main
from radnerf.export.folder import TOOLS, export, face_and_hair


def files(root: Path) -> set[str]:
    """Names in a folder, frames of folders as their suffix."""
    return {
        str(path.relative_to(root)) if path.parent == root else f"{path.parent.name}/{path.suffix}"
        for path in root.rglob("*")
        if path.is_file()
    }


COMMON = {
    *("gt_imgs/.jpg", "ori_imgs/.jpg", "ori_imgs/.lms", "parsing/.png", "torso_imgs/.png"),
    *("aud.wav", "bc.jpg", "transforms_train.json", "transforms_val.json"),
}


@pytest.mark.parametrize(
    ("tool", "more"),
    [("radnerf", set()), ("ernerf", {"au.csv"}), ("geneface", {"head_imgs/.jpg"})],
)
def test_what_was_written_is_read_again(
    tool: str, more: set[str], tiny_clip: Path, tmp_path: Path
) -> None:
    # A clip with gaps, opener and wider eyes, and files that are ours alone.
    (tiny_clip / "gt_imgs" / "7.jpg").unlink()
    (tiny_clip / "clip.json").write_text('{"fps": 25}')
    (tiny_clip / "cache").mkdir()
    source = Clip.open(tiny_clip)
    export(source, tmp_path / "out", TOOLS[tool])
    assert files(tmp_path / "out") == COMMON | more
    again = Clip.open(tmp_path / "out")
    assert again.ids.tolist() == source.ids.tolist() and again.n_train == source.n_train
    np.testing.assert_array_equal(again.poses, source.poses)
    assert (again.focal, again.centre) == (source.focal, source.centre)
    for i in range(len(source)):
        for folder, suffix in (("gt_imgs", "jpg"), ("torso_imgs", "png")):
            written = again.path(folder, i, suffix).read_bytes()
            assert written == source.path(folder, i, suffix).read_bytes()
        assert np.array_equal(again.parsing(i), source.parsing(i))
        np.testing.assert_allclose(again.landmarks(i), source.landmarks(i), atol=5e-5)
    assert (again.root / "aud.wav").read_bytes() == (tiny_clip / "aud.wav").read_bytes()
    if tool == "ernerf":
        # AU45_r has two decimals, and knows no eyes wider than usual.
        area = np.array([source.measured_eye_ratio(i) for i in range(source.n_train)])
        opened = float(np.quantile(area, 0.7))
        wanted = np.clip(source.eye, 0, opened)
        np.testing.assert_allclose(again.eye, wanted, atol=0.005 / 2 * opened + 1e-4)
    else:
        np.testing.assert_allclose(again.eye, source.eye, atol=1e-6)


def test_blinks_are_where_er_nerf_looks_for_them(tiny_clip: Path, tmp_path: Path) -> None:
    """Its loader: a column named ' AU45_r', the row of img_id, 0 open to 2 shut."""
    write_transforms(tiny_clip, Clip.open(tiny_clip).poses, np.linspace(0, 9, 22), 80.0, (16, 12))
    source = Clip.open(tiny_clip)
    export(source, tmp_path / "out", TOOLS["ernerf"])
    with (tmp_path / "out" / "au.csv").open() as file:
        rows = list(csv.DictReader(file))
    blink = np.clip([float(row[" AU45_r"]) for row in rows], 0, 2) / 2
    assert len(blink) == 22 and [row["frame"] for row in rows[:2]] == ["1", "2"]
    area = source.measured_eye_ratio(0)  # the same in all frames, so open
    np.testing.assert_allclose(blink, np.clip(1 - source.eye / area, 0, 1), atol=0.003)
    frames = json.loads((tmp_path / "out" / "transforms_train.json").read_text())["frames"]
    assert set(frames[0]) == {"img_id", "aud_id", "transform_matrix"}


def test_parsing_has_the_public_colors(tiny_clip: Path, tmp_path: Path) -> None:
    source = Clip.open(tiny_clip)
    path = tiny_clip / "parsing" / "3.png"
    noisy = cv2.imread(str(path)).astype(int) + np.random.default_rng(0).integers(
        -60, 60, (24, 32, 3)
    )
    cv2.imwrite(str(path), np.clip(noisy, 0, 255).astype(np.uint8))
    export(source, tmp_path / "out", TOOLS["radnerf"])
    colors = np.unique(cv2.imread(str(tmp_path / "out/parsing/3.png")).reshape(-1, 3), axis=0)
    wanted = {(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)}
    assert {tuple(color) for color in colors.tolist()} == wanted


def test_geneface_gets_heads_and_face_rectangles(tiny_clip: Path, tmp_path: Path) -> None:
    source = Clip.open(tiny_clip)
    export(source, tmp_path / "out", TOOLS["geneface"])
    frame = json.loads((tmp_path / "out" / "transforms_val.json").read_text())["frames"][0]
    assert frame["face_rect"] == face_and_hair(source.landmarks(20), (24, 32))
    head = cv2.imread(str(tmp_path / "out" / "head_imgs" / "20.jpg"))[..., ::-1].astype(int)
    inside = source.parsing(20) == HEAD
    assert np.abs(head - source.image(20))[inside].mean() < 6
    assert np.abs(head - source.background())[~inside].mean() < 6


def test_the_face_rectangle_by_hand() -> None:
    points = np.full((68, 2), 50.0)
    points[0], points[16], points[27], points[8] = (30, 50), (70, 50), (50, 40), (50, 80)
    # 30 to each side of 50; 46 up and down from 40, cut at the top.
    assert face_and_hair(points, (200, 100)) == [20, 0, 60, 92]


@pytest.mark.parametrize(
    ("tool", "width", "name", "shape"),
    [
        ("radnerf", 44, "aud_eo.npy", (22, 16, 44)),
        ("radnerf", 29, "aud_ds.npy", (22, 16, 29)),
        ("ernerf", 1024, "aud_hu.npy", (22, 2, 1024)),
        ("geneface", 1024, "aud_hubert.npy", (44, 1024)),
        ("geneface", 29, "aud_deepspeech.npy", (22, 16, 29)),
    ],
)
def test_features_go_where_the_tool_looks(
    tool: str, width: int, name: str, shape: tuple[int, ...], tiny_clip: Path, tmp_path: Path
) -> None:
    steps = np.random.default_rng(0).standard_normal((44, width)).astype(np.float32)
    np.save(tmp_path / "steps.npy", steps)
    remarks = export(Clip.open(tiny_clip), tmp_path / "out", TOOLS[tool], tmp_path / "steps.npy")
    written = np.load(tmp_path / "out" / name)
    assert written.shape == shape and not any("--audio" in remark for remark in remarks)
    wanted = steps if width == 1024 else windows(steps, 22)
    np.testing.assert_array_equal(written.reshape(wanted.shape), wanted)


def test_features_the_tool_cannot_read(tiny_clip: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "steps.npy", np.ones((44, 40), np.float32))
    with pytest.raises(UserError, match="is 40 wide, and RAD-NeRF reads features of 29, 32, 44"):
        export(Clip.open(tiny_clip), tmp_path / "out", TOOLS["radnerf"], tmp_path / "steps.npy")
    assert not (tmp_path / "out").exists()


def test_the_command(tiny_clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "there" / "out"
    assert main([str(tiny_clip), str(out), "--for", "geneface"]) == 0
    said = capsys.readouterr()
    assert f"{out}: 22 frames for GeneFace" in said.out
    assert "no audio features" in said.err and "vid_coeff.npy" in said.err
    stamp = (out / "bc.jpg").stat().st_mtime_ns
    assert main([str(tiny_clip), str(out)]) == 1
    assert capsys.readouterr().err == (
        f"error: {out} exists: choose another folder, or take this one away first.\n"
    )
    assert (out / "bc.jpg").stat().st_mtime_ns == stamp
    assert main([str(tmp_path), str(tmp_path / "other")]) == 1
    assert "is not a preprocessed clip" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["full disk", "missing"])
def test_the_folder_is_whole_or_not_there(
    tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    clip = Clip.open(tiny_clip)
    if broken == "missing":
        (tiny_clip / "torso_imgs" / "12.png").unlink()
    copy = shutil.copyfile

    def full(source: Path, target: Path) -> object:
        if broken == "full disk" and target.name == "12.png":
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(UserError, match="out cannot be written") as error:
        export(clip, tmp_path / "out", TOOLS["radnerf"])
    assert ("No space left" in str(error.value)) == (broken == "full disk")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_clip_without_torso_is_told(tiny_clip: Path, tmp_path: Path) -> None:
    shutil.rmtree(tiny_clip / "torso_imgs")
    with pytest.raises(UserError, match="no torso_imgs"):
        export(Clip.open(tiny_clip), tmp_path / "out", TOOLS["radnerf"])
    assert not (tmp_path / "out").exists()
