"""Every warning comes when it should, and stays away when it should."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from radnerf.conventions import HEAD, TORSO
from radnerf.data.clip import write_image
from radnerf.errors import UserError
from radnerf.preprocess.report import QUALITY, Facts, find_faults, page, warn, warnings_of
from radnerf.preprocess.report.facts import (
    audio_offset,
    brightness,
    brightness_change,
    camera_motion,
    count_blinks,
    fraction_below_jaw,
    head_angles,
    on_its_head,
    sharpness,
)

SIZE = 120, 160


def good(n: int = 1500) -> Facts:
    """A minute of somebody who does everything right."""
    time = np.arange(n) / 25
    eye = np.ones(n)
    eye[::100] = 0.0
    return Facts(
        seconds=n / 25,
        speech_s=0.8 * n / 25,
        face_px=80.0,
        frame_px=225,
        eye=eye,
        mouth=0.2 + 0.1 * np.sin(9 * time),
        loudness=np.ones(n),
        head_angles=np.stack([3 * np.sin(time), 10 * np.sin(time / 2), np.zeros(n)], 1),
        sampled=list(range(0, n, 100)),
        sharpness=np.ones(n // 100),
        brightness=np.full(n // 100, 100.0),
        camera=np.zeros(n // 100),
        below_jaw=0.02,
        on_its_head=-0.9,
        audio_offset_s=0.1,
        blinks=15,
        unseen=0,
        tracking={"rmse_px": 0.6, "head_box_coverage": 0.999},
    )


def test_nothing_is_said_of_a_good_clip() -> None:
    assert find_faults(good()) == []


BAD: dict[str, tuple[Callable[[Facts], Facts], str]] = {
    "upside_down": (lambda f: replace(f, on_its_head=0.6), "turn it"),
    "cuts": (lambda f: replace(f, cut="1 cut at 00:41.0: ..."), "00:41.0"),
    "camera": (lambda f: replace(f, camera=np.full(15, 9.0)), "drifts by 9 px"),
    "speech": (lambda f: replace(f, speech_s=12.0), "only 12 s of speech"),
    "offset": (lambda f: replace(f, audio_offset_s=-0.12), "sound leads by 3 frames"),
    "face": (lambda f: replace(f, face_px=30.0, tracking={}), "only 30 px wide"),
    "blinks": (lambda f: replace(f, blinks=1), "1 blink in 60 s"),
    "turned": (lambda f: replace(f, head_angles=5 * f.head_angles), "degrees: poses are guessed"),
    "light": (lambda f: replace(f, brightness=np.linspace(80, 120, 15)), "changes by 20 %"),
    "hair": (lambda f: replace(f, below_jaw=0.2), "20 % of the head"),
    "blurred": (lambda f: replace(f, sharpness=np.r_[np.ones(10), np.full(5, 0.2)]), "33 %"),
    "tracking": (lambda f: replace(f, tracking={"rmse_px": 4.0}), "by 4.0 px"),
    "unseen": (lambda f: replace(f, unseen=50), "50 frames"),
    "coverage": (lambda f: replace(f, tracking={"head_box_coverage": 0.9}), "10 % of the head"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_fault_is_found_alone(name: str) -> None:
    spoil, words = BAD[name]
    (fault,) = find_faults(spoil(good()))
    assert fault.name == name
    assert words in fault.text


def test_a_late_sound_and_a_plain_background() -> None:
    (fault,) = find_faults(replace(good(), audio_offset_s=0.32))
    assert "sound lags by 3 frames" in fault.text
    assert find_faults(replace(good(), audio_offset_s=None, camera=None)) == []


def room(shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    """A background with corners to follow, moved by pixels."""
    coarse = np.random.default_rng(3).uniform(20, 230, (30, 40, 3)).astype(np.float32)
    big = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    return cv2.warpAffine(big, move, SIZE[::-1], borderMode=cv2.BORDER_REFLECT).astype(np.uint8)


def someone(frame: np.ndarray, x: int) -> tuple[np.ndarray, np.ndarray]:
    matte = np.zeros(SIZE, np.uint8)
    cv2.ellipse(matte, (x, 110), (40, 70), 0, 0, 360, 255, -1)
    return np.where(matte[..., None] > 0, np.uint8(150), frame), matte


def test_the_camera_moves_and_the_person_does_not_count() -> None:
    still = [someone(room(), 80 + 2 * i) for i in range(8)]
    moving = [someone(room((1.0 * i, -0.5 * i)), 80) for i in range(8)]
    calm, drift = (camera_motion(*map(list, zip(*f, strict=True))) for f in (still, moving))
    assert calm is not None and calm.max() < 0.3
    assert drift is not None and drift[-1] == pytest.approx(np.hypot(7, 3.5), rel=0.1)
    wall = [someone(np.full((*SIZE, 3), 90, np.uint8), 80) for _ in range(8)]
    assert camera_motion(*map(list, zip(*wall, strict=True))) is None


def test_light_and_detail() -> None:
    frames, mattes = map(list, zip(*(someone(room(), 80) for _ in range(6)), strict=True))
    assert brightness_change(brightness(frames, mattes)) == 0
    frames[3] = (frames[3] * 0.7).astype(np.uint8)
    assert brightness_change(brightness(frames, mattes)) == pytest.approx(0.3, abs=0.02)
    points = [np.random.default_rng(0).uniform(30, 110, (68, 2)) for _ in range(6)]
    sharp = [room() for _ in range(6)]
    sharp[2] = cv2.GaussianBlur(sharp[2], (0, 0), 3)
    found = sharpness(sharp, points)
    assert found[2] < 0.5 and np.delete(found, 2) == pytest.approx(1)


def test_hair_below_the_jaw_and_who_stands_on_his_head() -> None:
    points = np.full((68, 2), 60.0)
    points[8, 1] = 80  # chin
    labels = np.zeros(SIZE, np.uint8)
    labels[30:80, 60:100] = HEAD
    labels[90:, 30:130] = TORSO
    assert fraction_below_jaw([labels], [points]) == 0
    labels[80:112, 60:100] = HEAD
    # 2.4 rows under the chin still count as chin.
    assert fraction_below_jaw([labels], [points]) == pytest.approx(30 / 82)
    matte = np.where(labels == TORSO, 255, 0).astype(np.uint8)
    assert on_its_head([matte]) == pytest.approx(-100 / 160)
    assert on_its_head([matte[::-1]]) == pytest.approx(100 / 160)


def test_blinks_head_angles_and_audio_offset() -> None:
    eye = np.ones(100)
    eye[[0, 1, 40, 41, 42, 80]] = 0.1
    assert count_blinks(eye) == 3
    frontal = np.eye(4)
    frontal[:3, :3] = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]).T
    assert np.abs(head_angles(frontal[None])).max() < 1e-6
    angle = np.deg2rad(20)
    about_up = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    frontal[:3, :3] = about_up @ frontal[:3, :3]
    assert np.abs(head_angles(frontal[None])[0]) == pytest.approx([0, 20, 0], abs=1e-6)
    random = np.random.default_rng(0)
    loud = np.repeat(random.uniform(0, 1, 60), 4)  # syllables of 0.16 s
    wave = random.normal(0, 0.1, 240 * 640) * np.repeat(loud, 640)
    ahead = np.roll(loud, -5)
    assert audio_offset(ahead, wave.astype(np.float32)) == pytest.approx(0.2, abs=0.03)
    assert audio_offset(random.uniform(0, 1, 240), wave.astype(np.float32)) is None


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.lines = 0
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.lines += tag == "polyline"
        if tag not in ("meta", "link", "img", "line", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "polyline"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_holds_all_in_one_file(tmp_path: Path) -> None:
    write_image(tmp_path / "sheet.png", room())
    facts = replace(good(), speech_s=12.0)
    html = page("<anna>", facts, find_faults(facts), tmp_path / "sheet.png")
    read = _Page()
    read.feed(html)
    assert not read.open
    assert read.lines == 9  # three of the head, one of the eyes, two of mouth and sound, ...
    assert "only 12 s of speech" in read.text and "<anna>" in read.text
    assert html.count("src=") == 1 and "data:image/png;base64," in html


def test_warnings_are_said_or_are_errors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    warn(tmp_path, strict=True)  # a clip without a report
    text = "only 12 s of speech: expect soft lips."
    (tmp_path / QUALITY).write_text(json.dumps({"warnings": [{"name": "speech", "text": text}]}))
    assert warnings_of(tmp_path) == [text]
    with caplog.at_level(logging.WARNING):
        warn(tmp_path)
    assert text in caplog.text and "preprocess.html" in caplog.text
    with pytest.raises(UserError, match="only 12 s of speech"):
        warn(tmp_path, strict=True)
