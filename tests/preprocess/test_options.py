"""The choices of landmarks=, parser= and tracker=: found, refused, and redone when they change."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from face_models import write_model
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from preprocess_videos import FakeFace, camera_track, fake_person, tone, write_video

from radnerf.conventions import BACKGROUND, HEAD, NECK, TORSO
from radnerf.data.clip import Clip
from radnerf.errors import UserError
from radnerf.geometry.face68 import MESH_TO_68
from radnerf.preprocess.bfm.tracker import BfmTracker
from radnerf.preprocess.landmarks.detect import TaskDetector, read_landmarks
from radnerf.preprocess.landmarks.finders import (
    LandmarkFile,
    MeshLandmarks,
    TaskLandmarks,
    eyes_of_blinks,
    read_blinks,
)
from radnerf.preprocess.options import Option
from radnerf.preprocess.parsing.parsers import FrameParser, SelfieParser
from radnerf.preprocess.pipeline import preprocess_video
from radnerf.preprocess.source import ClipSource

CONF = Path(__file__).parents[2] / "conf"
SIZE, FRAMES = (64, 80), 26
GROUPS = ("landmarks", "parser", "tracker")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    person = fake_person(np.zeros((*SIZE, 3), np.uint8)) > 0.5
    frame = np.where(person[..., None], (205, 150, 120), (60, 90, 160)).astype(np.uint8)
    times = list(np.arange(FRAMES) / 25)
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    return write_video(path, [frame] * FRAMES, times, tone(FRAMES / 25))


@dataclass(frozen=True)
class BandParser(FrameParser):
    """Tells head, neck and torso by the row."""

    chin: float = 0.7  # of the picture's height

    def parse(self, frame: np.ndarray, points: np.ndarray) -> np.ndarray:
        person = fake_person(frame) > 0.5
        row = np.linspace(0, 1, len(frame))[:, None] + 0 * person
        labels = np.select([~person, row < self.chin, row < 0.85], [BACKGROUND, HEAD, NECK], TORSO)
        return np.stack([labels == k for k in range(4)]).astype(np.float32)


class FakeTask:
    """Stands in for a face landmarker: the synthetic face, whose eyes shut in frame 12."""

    @contextlib.contextmanager
    def open(self, path: Path) -> Iterator[Any]:
        self.blendshapes: list[dict[str, float]] = []
        with FakeFace(lost=[4]).open() as self.find:
            yield self

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        i = len(self.blendshapes)
        faces = self.find(image)
        blink = 0.9 if i == 12 else 0.1
        shapes = {"jawOpen": 0.5, "eyeBlinkLeft": blink, "eyeBlinkRight": blink}
        self.blendshapes.append(shapes if faces else {})
        return faces


def preprocess(video: Path, root: Path, **options: Any) -> Clip:
    options = {"landmarks": MeshLandmarks(detector=FakeFace().open)} | options
    options = {"parser": SelfieParser(person_mask=fake_person)} | options
    return preprocess_video(video, root, clip_id="test", **options)


def redone(before: dict[str, str], root: Path) -> set[str]:
    after = stamps(root)
    return {name for name in after if after[name] != before[name]}


def stamps(root: Path) -> dict[str, str]:
    """When each stage was last done."""
    return {
        path.stem: f"{path.stat().st_mtime_ns}{path.read_text()}"
        for path in (root / ".stages").glob("*.json")
    }


def test_another_choice_redoes_what_depends_on_it(video: Path, tmp_path: Path) -> None:
    root = tmp_path / "clip"
    write_model(tmp_path / "3DMM")
    preprocess(video, root)
    before = stamps(root)
    after_parsing = {"parsing", "background", "layers", "index", "sheet", "quality"}
    preprocess(video, root, parser=BandParser())
    assert redone(before, root) == after_parsing
    before = stamps(root)
    preprocess(video, root, parser=BandParser())
    assert redone(before, root) == set()
    preprocess(video, root, parser=BandParser(chin=0.66))
    assert redone(before, root) == after_parsing

    before = stamps(root)
    tracker = BfmTracker(path=str(tmp_path / "3DMM"), photometric=False, device="cpu")
    clip = preprocess(video, root, parser=BandParser(chin=0.66), tracker=tracker)
    assert redone(before, root) == {"poses", "index", "sheet", "quality"}
    assert clip.meta["focal_px"] == pytest.approx(clip.focal)
    assert clip.meta["tracking"]["rmse_px"] < 1
    # As the bundle adjustment: the way that the face was moved.
    rotation, _ = camera_track(FRAMES)
    found = clip.poses[:, :3, :3].swapaxes(1, 2)
    between, wanted = found[20] @ found[0].T, rotation[20] @ rotation[0].T
    off = np.arccos((np.trace(between @ wanted.T) - 1) / 2)
    assert np.rad2deg(off) < 1.5

    before = stamps(root)
    task = tmp_path / "face_landmarker.task"
    task.touch()
    finder = TaskLandmarks(path=str(task), detector=FakeTask().open)
    preprocess(video, root, landmarks=finder, parser=BandParser(chin=0.66))
    assert redone(before, root) == set(before) - {"audio", "cuts"}


def test_a_task_keeps_blendshapes_and_its_blinks_can_be_the_eyes(
    video: Path, tmp_path: Path
) -> None:
    root, task = tmp_path / "clip", tmp_path / "face_landmarker.task"
    task.touch()

    def made(eyes: str) -> Clip:
        finder = TaskLandmarks(path=str(task), eyes=eyes, detector=FakeTask().open)
        return preprocess(video, root, landmarks=finder)

    area = made("area")
    blinks = read_blinks(root)
    assert blinks.shape == (FRAMES,) and blinks[12] == pytest.approx(0.9)
    assert blinks[4] == pytest.approx(0.1)  # no face: between its neighbours
    with np.load(root / "blendshapes.npz") as kept:
        assert sorted(kept["names"]) == ["eyeBlinkLeft", "eyeBlinkRight", "jawOpen"]
    before = stamps(root)
    blink = made("blink")
    assert redone(before, root) == {"index", "sheet", "quality"}
    shut = list(blink.ids).index(12)  # a frame without a face is left out before it
    assert int(blink.eye.argmin()) == shut
    assert area.eye[shut] > 0.9 * area.eye[shut - 2]
    assert blink.eye[:8] == pytest.approx(np.median(area.eye), rel=0.2)
    with pytest.raises(UserError, match=r"landmarks\.eyes=both is not a choice of area, blink"):
        made("both")


def test_blinks_in_the_unit_of_the_eyes_by_hand() -> None:
    blink = np.array([0.2, 0.2, 0.2, 1.0, 0.6, 0.2])
    area = np.array([0.3, 0.3, 0.3, 0.1, 0.2, 0.3])
    assert eyes_of_blinks(blink, area) == pytest.approx([0.3, 0.3, 0.3, 0, 0.15, 0.3])


def test_a_task_without_blendshapes_is_refused(video: Path, tmp_path: Path) -> None:
    class Blind(FakeTask):
        def __call__(self, image: np.ndarray) -> list[np.ndarray]:
            self.blendshapes.append({})
            return self.find(image)

    task = tmp_path / "face_landmarker.task"
    task.touch()
    finder = TaskLandmarks(path=str(task), detector=Blind().open)
    with pytest.raises(UserError, match="tells no blendshapes"):
        preprocess(video, tmp_path / "clip", landmarks=finder)
    assert not (tmp_path / "clip").exists()


def test_the_larger_face_tells_the_blendshapes() -> None:
    def face(width: float) -> list[Any]:
        return [SimpleNamespace(x=0.2 + width * k, y=0.3, z=0.0) for k in (0, 1)]

    def shapes(score: float) -> list[Any]:
        return [SimpleNamespace(category_name="jawOpen", score=score)]

    seen = [
        SimpleNamespace(
            face_landmarks=[face(0.1), face(0.5)], face_blendshapes=[shapes(0.2), shapes(0.7)]
        ),
        SimpleNamespace(face_landmarks=[], face_blendshapes=[]),
    ]
    finder = SimpleNamespace(detect_for_video=lambda image, time: seen.pop(0))
    asked: dict[str, Any] = {}
    vision = SimpleNamespace(
        FaceLandmarker=SimpleNamespace(create_from_options=lambda options: finder),
        FaceLandmarkerOptions=lambda **options: asked.update(options),
        RunningMode=SimpleNamespace(VIDEO="video"),
    )
    mediapipe = SimpleNamespace(
        tasks=SimpleNamespace(vision=vision, BaseOptions=lambda model_asset_path: model_asset_path),
        Image=lambda image_format, data: data,
        ImageFormat=SimpleNamespace(SRGB=1),
    )
    detector = TaskDetector(mediapipe, Path("face_landmarker.task"))
    assert asked["output_face_blendshapes"] is True
    frame = np.zeros((40, 40, 3), np.uint8)
    assert np.ptp(detector(frame)[0][:, 0]) == pytest.approx(20)
    assert detector(frame) == []
    assert detector.blendshapes == [{"jawOpen": 0.7}, {}]


def test_a_file_that_is_no_task(video: Path, tmp_path: Path) -> None:
    pytest.importorskip("mediapipe", reason="no MediaPipe for this Python")
    task = tmp_path / "face_landmarker.task"
    task.write_text("no model")
    with pytest.raises(UserError, match="cannot be loaded as a face landmark model"):
        preprocess(video, tmp_path / "clip", landmarks=TaskLandmarks(path=str(task)))


def test_landmark_files_of_every_convention(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    mesh = random.uniform(0, 60, (20, 478, 3)).astype(np.float32)
    path = tmp_path / "points.npy"
    lids = {468: (33, 160, 158, 133, 153, 144), 473: (362, 385, 387, 263, 373, 380)}
    for given in (mesh, mesh[:, :468]):
        np.save(path, given)
        read = read_landmarks(path, 20)
        assert read.shape == (20, 478, 3) and np.array_equal(read[:, :468], mesh[:, :468])
    for iris, eye in lids.items():
        assert read[3, iris : iris + 5] == pytest.approx(
            np.tile(mesh[3, list(eye)].mean(0), (5, 1))
        )
    for given in (mesh[..., :2], mesh[:, :468, :2], mesh[:, list(MESH_TO_68)]):
        np.save(path, given)
        assert np.array_equal(read_landmarks(path, 20), mesh[:, list(MESH_TO_68), :2])


def test_a_mesh_without_depth_makes_a_clip(video: Path, tmp_path: Path) -> None:
    clip = preprocess(video, tmp_path / "mesh")
    np.save(tmp_path / "flat.npy", np.load(clip.root / "landmarks.npy")[..., :2])
    finder = LandmarkFile(path=str(tmp_path / "flat.npy"))
    flat = preprocess(video, tmp_path / "flat", landmarks=finder)
    assert flat.landmarks(5) == pytest.approx(clip.landmarks(5), abs=0.01)
    assert flat.meta["tracking"]["rmse_px"] < 0.5


def test_facts_are_settings_and_content(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Choice(Option):
        path: str
        side: int = 3

        def files(self) -> tuple[Path, ...]:
            return (Path(self.path),)

    for name, content in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(content)
    a, b, c = (Choice(str(tmp_path / name)).facts() for name in "abc")
    assert a == b != c

    @dataclass(frozen=True)
    class Unread(Option):
        path: str

    # Where no file is told, the path itself counts.
    assert Unread("a").facts() != Unread("b").facts()
    assert Choice(str(tmp_path / "a"), side=4).facts() != a
    assert json.dumps(SelfieParser(person_mask=fake_person).facts()) == json.dumps(
        SelfieParser().facts()
    )


def source(*overrides: str) -> ClipSource:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", list(overrides))
    settings: Any = OmegaConf.to_container(config.data, resolve=True)
    return ClipSource(**settings, **{name: instantiate(config[name]) for name in GROUPS})


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("landmarks=task", r"landmarks\.path is missing: give .*face_landmarker\.task"),
        ("landmarks=task landmarks.path=no.task", r"no\.task does not exist: .*MediaPipe's page"),
        ("landmarks=file landmarks.path=no.npy", r"no\.npy does not exist"),
        ("data.preprocess.landmarks=no.npy", r"no\.npy does not exist"),
        ("parser=selfie_multiclass", r"parser\.path is missing: .*selfie_multiclass_256x256"),
        ("parser=bisenet parser.path=no.pth", r"no\.pth does not exist: give .*79999_iter\.pth"),
        ("tracker=bfm", r"tracker\.path is missing: .*01_MorphableModel\.mat"),
        ("tracker=bfm tracker.path={tmp}", r"lacks topology_info\.npy"),
        (
            "tracker=bfm tracker.path={tmp}/3DMM",
            r"pip install --no-build-isolation .*pytorch3d\.git",
        ),
    ],
)
def test_what_is_missing_is_one_sentence_before_the_work(
    choice: str, words: str, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "3DMM")
    monkeypatch.setitem(sys.modules, "pytorch3d", None)
    given = ["data=video", f"data.video={video}", f"data.folder={tmp_path}/data"]
    chosen = source(*given, *choice.format(tmp=tmp_path).split())
    with pytest.raises(UserError, match=words) as error:
        chosen.prepare()
    assert ". " not in str(error.value).removesuffix(".")
    assert not (tmp_path / "data").exists()


def test_the_parser_of_the_docs_parses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (CONF.parent / "docs" / "preprocessing.md").read_text()
    code, config = (
        text.split(f"```{language}\n# {name}")[1].split("```")[0]
        for language, name in (("python", "my_parser.py"), ("yaml", "conf/parser/mine.yaml"))
    )
    (tmp_path / "my_parser.py").write_text("#" + code)
    (tmp_path / "network.onnx").touch()
    monkeypatch.syspath_prepend(tmp_path)
    seen: list[np.ndarray] = []
    classes = np.zeros((1, 5, 256, 256), np.float32)
    classes[0, 1, :128] = classes[0, 4, 128:] = 1  # hair above clothes
    network = SimpleNamespace(setInput=seen.append, forward=lambda: classes)
    monkeypatch.setattr("cv2.dnn.readNetFromONNX", lambda path: network)
    settings = OmegaConf.create("#" + config)
    parser = instantiate(settings, path=str(tmp_path / "network.onnx"))
    frame = np.full((*SIZE, 3), 255, np.uint8)
    labels = parser.parse(frame, np.zeros((68, 2), np.float32)).argmax(0)
    assert seen[0].shape == (1, 3, 256, 256) and seen[0].max() == pytest.approx(1)
    assert (labels[:30] == HEAD).all() and (labels[34:] == TORSO).all()
    with pytest.raises(UserError, match=r"parser\.path is missing: give the network's \.onnx"):
        instantiate(settings).check()


def test_a_task_without_its_package(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "face_landmarker.task").touch()
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    finder = TaskLandmarks(path=str(tmp_path / "face_landmarker.task"))
    with pytest.raises(
        UserError, match=r"landmarks=task needs the package mediapipe .*pip install"
    ):
        preprocess(video, tmp_path / "clip", landmarks=finder)
    assert not (tmp_path / "clip").exists()


def test_choices_reach_the_preprocessing(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("radnerf.preprocess.preprocess_video", lambda *a, **k: given.update(k))
    data = ("data=video", f"data.video={video}")
    source(*data, "parser=bisenet", "parser.side=256", "tracker=bfm").prepare()
    assert isinstance(given["landmarks"], MeshLandmarks)
    assert given["parser"].side == 256 and given["tracker"].photometric is True
    source(*data, "data.preprocess.landmarks=a.npy").prepare()
    assert given["landmarks"] == "a.npy"
