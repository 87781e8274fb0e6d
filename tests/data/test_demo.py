"""The demo clip: its layout, and that its truth is the truth of its pictures and its sound."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from scipy.io import wavfile
from scipy.ndimage import gaussian_filter1d

from radnerf.conventions import BACKGROUND, HEAD, NECK, OUTER_EYE_DISTANCE, TORSO
from radnerf.data.clip import Clip, eye_ratio, read_image
from radnerf.data.demo import make_demo_clip, write_demo_clip, write_demo_video
from radnerf.data.demo.__main__ import main
from radnerf.data.demo.character import bake, face, scene
from radnerf.data.demo.landmarks import landmarks, landmarks_at_rest
from radnerf.data.demo.oracle import mouth_opening_from_frames
from radnerf.data.demo.speech import NAMES, RATE, synthesize
from radnerf.errors import UserError
from radnerf.geometry.cameras import project

SECONDS, SIZE = 2.0, 96


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    root = tmp_path_factory.mktemp("demo") / "clip"
    write_demo_clip(root, SECONDS, SIZE, seed=0)
    return Clip.open(root)


@pytest.fixture(scope="module")
def truth(clip: Clip) -> dict[str, np.ndarray]:
    return dict(np.load(clip.root / "truth.npz"))


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return bake()


def test_opens_as_a_clip_and_splits(clip: Clip) -> None:
    assert len(clip) == SECONDS * 25
    assert clip.n_train == 45
    assert clip.size == (SIZE, SIZE)
    assert clip.focal == pytest.approx(2.4 * SIZE)
    rate, wave = wavfile.read(clip.root / "aud.wav")
    assert (rate, len(wave), wave.dtype) == (16_000, SECONDS * 16_000, np.int16)
    for i in (0, len(clip) - 1):
        assert set(np.unique(clip.parsing(i))) == {BACKGROUND, HEAD, NECK, TORSO}


def test_same_seed_same_files_other_seed_other_person_speaking(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_demo_clip(tmp_path / name, seconds=0.4, size=48, seed=seed)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) > 15
    for file in files:
        if file.name != "clip.json":  # it names the folder
            same = (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
            assert same, file
    assert (tmp_path / "a/aud.wav").read_bytes() != (tmp_path / "c/aud.wav").read_bytes()


def test_projected_points_are_the_landmarks(clip: Clip, truth: dict[str, np.ndarray]) -> None:
    for i in range(0, len(clip), 7):
        uv, depth = project(
            torch.from_numpy(truth["landmarks_3d"][i]),
            torch.from_numpy(clip.poses[i]),
            clip.focal,
            clip.centre,
        )
        np.testing.assert_allclose(uv.numpy(), clip.landmarks(i), atol=2e-3)
        assert depth.min() > 2
    still = truth["landmarks_3d"][:, truth["rigid"]]
    assert np.ptp(still, axis=0).max() == 0
    eyes = np.linalg.norm(truth["landmarks_3d"][:, 36] - truth["landmarks_3d"][:, 45], axis=-1)
    np.testing.assert_allclose(eyes, OUTER_EYE_DISTANCE, rtol=0.02)


@pytest.mark.parametrize("opening", [0.0, 0.7])
def test_landmarks_lie_on_the_surface(table: np.ndarray, opening: float) -> None:
    f = face(opening, 0.2, 1.0)
    points = landmarks(landmarks_at_rest(table), table, f)
    distance = np.array([scene(x, y, z, table, f)[0] for x, y, z in points])
    assert np.abs(distance).max() < 0.25  # cm; a pixel is 0.23 at 160 px


def test_landmarks_have_the_order_of_the_convention(truth: dict[str, np.ndarray]) -> None:
    up, _, x = truth["landmarks_3d"][0].T  # as seen from the front, not by the turned camera
    y = -up
    assert np.all(np.diff(x[:17]) > 0) and y[:17].argmax() == 8  # contour, chin lowest
    assert np.all(np.diff(x[17:27]) > 0)  # brows, left to right
    assert np.all(np.diff(y[27:31]) > 0)  # down the nose
    for a in (36, 42):
        assert x[a] < x[a + 1] < x[a + 2] < x[a + 3] and y[a + 1] <= y[a + 5]
    assert np.all(np.diff(x[48:55]) > 0) and np.all(np.diff(x[54:60]) < 0)
    assert np.all(np.diff(x[60:65]) > 0) and np.all(np.diff(x[64:68]) < 0)


def test_head_stays_in_its_box(clip: Clip) -> None:
    low, high = (torch.tensor(v) for v in clip.head_box)
    pick = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    corners = low + pick * (high - low)
    for i in (0, 20, 40):
        uv, _ = project(corners, torch.from_numpy(clip.poses[i]), clip.focal, clip.centre)
        hull = cv2.convexHull(uv.numpy().astype(np.float32))
        v, u = np.nonzero(clip.parsing(i) == HEAD)
        inside = [
            cv2.pointPolygonTest(hull, (float(a), float(b)), False)
            for a, b in zip(u, v, strict=True)
        ]
        assert min(inside) >= 0


def test_picture_is_head_over_torso_over_room(clip: Clip) -> None:
    room = clip.background().astype(float)
    for i in (0, 25):
        torso, labels = clip.torso(i), clip.parsing(i)
        alpha = torso[..., 3:] / 255
        behind = torso[..., :3] * alpha + room * (1 - alpha)
        away = cv2.dilate((labels == HEAD).astype(np.uint8), np.ones((5, 5))) == 0
        error = np.abs(behind - clip.image(i))[away]
        assert error.mean() < 1.5 and error.max() < 25  # two JPEGs apart
        assert np.abs(behind - clip.image(i))[labels == HEAD].mean() > 20
        np.testing.assert_array_equal(labels[away] != BACKGROUND, alpha[..., 0][away] > 0.5)
        # The neck goes on under the head: the chin covers it.
        chin = clip.landmarks(i)[8].astype(int)
        assert alpha[chin[1] - 3, chin[0], 0] == 1 and labels[chin[1] - 3, chin[0]] == HEAD


def test_mouth_in_pictures_follows_the_truth(clip: Clip, truth: dict[str, np.ndarray]) -> None:
    frames = np.stack([clip.image(i) for i in range(len(clip))])
    measured = mouth_opening_from_frames(frames, clip.poses)
    assert np.corrcoef(measured, truth["mouth_opening"])[0, 1] > 0.97
    assert np.corrcoef(measured, truth["mouth_opening_px"])[0, 1] > 0.97
    assert measured[truth["mouth_opening"] == 0].max() < 0.08
    shuffled = np.random.default_rng(0).permutation(truth["mouth_opening"])
    assert abs(np.corrcoef(measured, shuffled)[0, 1]) < 0.5


def test_eyes_blink_in_the_landmarks_and_the_control(
    clip: Clip, truth: dict[str, np.ndarray]
) -> None:
    assert truth["eye_opening"].min() < 0.1 and truth["eye_opening"].max() > 0.9
    assert np.corrcoef(clip.eye, truth["eye_opening"])[0, 1] > 0.99
    assert clip.eye[7] == pytest.approx(eye_ratio(clip.landmarks(7), SIZE, SIZE), abs=1e-4)
    assert 0.2 < clip.eye.max() < 0.4  # an open eye, as in real clips


def test_lips_close_for_their_sounds_and_in_pauses() -> None:
    speech = synthesize(12.0, seed=0)
    for name in "mbp":
        middle = speech.opening[speech.phoneme == NAMES.index(name)]
        assert len(middle) and np.median(middle) == 0
    pause = speech.phoneme == NAMES.index("_")
    core = gaussian_filter1d(pause.astype(float), 6) > 0.97
    assert core.any() and speech.opening[core].max() < 0.02
    assert speech.opening.max() > 0.9
    assert np.abs(np.diff(speech.opening)).max() < 0.25  # no jumps from one 10 ms to the next


def test_louder_is_wider() -> None:
    speech = synthesize(12.0, seed=1)
    energy = gaussian_filter1d(speech.wave.astype(float) ** 2, 400)
    loudness = np.sqrt(energy[80 :: 16_000 // RATE][: len(speech.opening)])
    assert np.corrcoef(loudness, speech.opening)[0, 1] > 0.6
    later = np.roll(speech.opening, RATE)
    assert np.corrcoef(loudness, later)[0, 1] < 0.3


def test_a_clip_is_made_once(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    make_demo_clip(root, seconds=0.12, size=48)
    assert json.loads((root / "clip.json").read_text())["id"] == "demo"
    made = (root / "clip.json").stat().st_mtime_ns
    make_demo_clip(root, seconds=0.12, size=48)
    assert (root / "clip.json").stat().st_mtime_ns == made
    make_demo_clip(root, seconds=0.12, size=64)
    assert read_image(root / "bc.jpg").shape == (64, 64, 3)
    assert [p.name for p in tmp_path.iterdir() if p.name != ".demo.lock"] == ["demo"]


def test_what_is_not_a_demo_clip_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "clip.json").write_text('{"source": {"file": "anna.mp4"}}')
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file"):
        with pytest.raises(UserError, match=f"{name} holds something else than a demo clip"):
            make_demo_clip(tmp_path / name, seconds=0.12, size=48)
    assert (tmp_path / "mine" / "clip.json").is_file()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["song", "a.wav"], "invalid choice: 'song'"),
        (["speech", "a.wav", "--seconds", "-1"], "--seconds above 0"),
        (["clip", "a", "--size", "3"], "--size of 16 pixels"),
        (["video", "a.mp4", "--size", "33"], "even --size"),
        (["video", "a.xyz"], "is an .mp4"),
        (["video", "/dev/null/a.mp4"], "cannot be written"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert words in told and told.startswith("error: ") and told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_video_has_the_sound_and_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "demo.mp4"
    write_demo_video(path, seconds=0.4, size=64)
    with av.open(str(path)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 10
    with av.open(str(path)) as file:
        samples = sum(frame.samples for frame in file.decode(audio=0))
    assert samples == pytest.approx(0.4 * 16_000, abs=2048)
