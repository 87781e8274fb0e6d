import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from radnerf.conventions import HEAD, TORSO
from radnerf.data.clip import (
    PUBLIC_HEAD_BOX,
    Clip,
    eye_ratio,
    face_rectangle,
    lips_rectangle,
    n_train_frames,
)
from radnerf.errors import UserError


def test_opens_what_the_public_tools_write(tiny_clip: Path) -> None:
    clip = Clip.open(tiny_clip)
    assert len(clip) == 22 and clip.n_train == 20
    assert clip.size == (24, 32) and clip.focal == 80.0 and clip.centre == (16.0, 12.0)
    assert clip.head_box == PUBLIC_HEAD_BOX
    assert clip.poses[-1, 2, 3] == pytest.approx(0.05)
    assert clip.eye[-1] == pytest.approx(0.3)
    labels = clip.parsing(3)
    assert labels[8, 16] == HEAD and labels[20, 10] == TORSO and labels[0, 31] == 0
    assert clip.torso(0)[20, 10, 3] == 255 and clip.torso(0)[0, 0, 3] == 0


def test_public_parsing_colors(tiny_clip: Path) -> None:
    bgr = cv2.imread(str(tiny_clip / "parsing" / "0.png"))
    assert bgr[8, 16].tolist() == [255, 0, 0] and bgr[20, 10].tolist() == [0, 0, 255]


def test_frames_without_an_image_are_left_out(tiny_clip: Path) -> None:
    (tiny_clip / "gt_imgs" / "7.jpg").unlink()
    clip = Clip.open(tiny_clip)
    assert len(clip) == 21 and clip.n_train == 19
    assert 7 not in clip.ids and clip.ids[7] == 8


def test_eye_ratio_is_measured_when_it_is_not_given(tiny_clip: Path) -> None:
    for name in ("train", "val"):
        path = tiny_clip / f"transforms_{name}.json"
        content = json.loads(path.read_text())
        for frame in content["frames"]:
            del frame["eye_ratio"]
        path.write_text(json.dumps(content))
    clip = Clip.open(tiny_clip)
    assert clip.eye[0] == pytest.approx(eye_ratio(clip.landmarks(0), 24, 32)) and clip.eye[0] > 0


def test_rectangles_by_hand() -> None:
    landmarks = np.zeros((68, 2), np.float32)
    landmarks[:] = (50, 60)
    landmarks[0], landmarks[16], landmarks[8] = (20, 50), (81.5, 50), (50, 99.2)
    landmarks[31:36, 1] = 62
    landmarks[48:60] = [(40 + 2 * i, 80 + i % 3) for i in range(12)]
    landmarks[36:48] = (50, 40)
    assert face_rectangle(landmarks) == (62, 101, 20, 83)
    top, bottom, left, right = lips_rectangle(landmarks, 200, 200, margin=0.0)
    assert bottom - top == right - left == 22 and left == 40


def test_a_tiny_lip_box_still_has_eight_pixels_inside_the_image() -> None:
    landmarks = np.full((68, 2), 1.0, np.float32)
    assert lips_rectangle(landmarks, 64, 64) == (0, 8, 0, 8)


def test_split() -> None:
    assert [n_train_frames(n) for n in (2, 11, 22, 500)] == [1, 10, 20, 454]


@pytest.mark.parametrize("broken", ["missing", "not json", "one frame"])
def test_what_is_no_clip_is_refused_in_one_sentence(tiny_clip: Path, broken: str) -> None:
    path = tiny_clip / "transforms_val.json"
    if broken == "missing":
        path.unlink()
    elif broken == "not json":
        path.write_text("{")
    else:
        content = json.loads(path.read_text())
        content["frames"] = []
        path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=str(tiny_clip)):
        Clip.open(tiny_clip)
