"""Where landmarks come from: the choices of `landmarks=`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from radnerf.errors import UserError
from radnerf.geometry.eyes import usual_opening
from radnerf.models import FACE_DETECTOR, FACE_MESH
from radnerf.preprocess.landmarks.detect import (
    BY_PATH,
    Blendshapes,
    Detector,
    TaskDetector,
    bridge,
    detect,
    mediapipe_detector,
    mesh_detector,
    read_landmarks,
    task_detector,
)
from radnerf.preprocess.options import Option, existing, network
from radnerf.preprocess.stages import Workspace
from radnerf.preprocess.streams import ahead, counted
from radnerf.preprocess.video.decode import Video, read_frames

DETECTION_SIDE = 1280  # larger videos are scaled down to this before landmarks are sought
BLENDSHAPES = "blendshapes.npz"
BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")
EYES = ("area", "blink")
TASK = (
    "give landmarks.path=face_landmarker.task, to download from MediaPipe's page on the face "
    "landmarker"
)

Open = Callable[[], AbstractContextManager[Detector]]
Track = Float[np.ndarray, " t"]


@dataclass(frozen=True)
class LandmarkFinder(Option):
    """Finds the landmarks of a video."""

    extra: ClassVar[tuple[str, ...]] = ()  # files it leaves beside landmarks.npy

    @abstractmethod
    def find(self, video: Video, work: Workspace) -> Float[np.ndarray, "t k c"]:
        """478 mesh points (x, y, z) or 68 points (x, y) of every frame, pixels of the video.

        NaN where no face was seen.

        Raises:
            UserError: no face, two faces, or a file that cannot be used.
        """

    def eye_track(self, root: Path, area: Track) -> Track:
        """Eye ratio of every frame of the clip at `root`; `area` is that of the landmarks."""
        return area

    def eye_facts(self) -> dict[str, str]:
        """What changes the eye track but not the landmarks."""
        return {}


@dataclass(frozen=True)
class MeshLandmarks(LandmarkFinder):
    """MediaPipe's face mesh, its networks run here.

    Attributes:
        path: folder with the networks; None is where `python -m radnerf.models` keeps them, which
            is done at first use.
        detector: opens another detector instead.
    """

    path: str | None = None
    detector: Open | None = field(default=None, compare=False, repr=False)

    def files(self) -> tuple[Path, ...]:
        return self.networks() if self.path else ()

    def check(self) -> None:
        if self.detector is None:
            self.networks()

    def networks(self) -> tuple[Path, Path]:
        find, mesh = (
            network(model, self.path, "landmarks.path") for model in (FACE_DETECTOR, FACE_MESH)
        )
        return find, mesh

    def find(self, video: Video, work: Workspace) -> Float[np.ndarray, "t 478 3"]:
        if self.detector is None:
            return _found(video, mesh_detector(*self.networks()), work)
        with self.detector() as find:
            return _found(video, find, work)


@dataclass(frozen=True)
class MediapipeLandmarks(LandmarkFinder):
    """MediaPipe's face mesh by its own package, whose models are in the wheel.

    Attributes:
        detector: opens the detector.
    """

    detector: Open = field(default=mediapipe_detector, compare=False, repr=False)

    def find(self, video: Video, work: Workspace) -> Float[np.ndarray, "t 478 3"]:
        with self.detector() as find:
            return _found(video, find, work)


@dataclass(frozen=True)
class TaskLandmarks(LandmarkFinder):
    """MediaPipe's face landmarker of a task file; keeps the blendshapes in the clip's folder.

    Attributes:
        path: of face_landmarker.task.
        eyes: where the eye track comes from: `area` of the landmarks' eyes, or `blink`, the mean
            of the blendshapes eyeBlinkLeft and eyeBlinkRight.
        detector: opens the detector of a task file.
    """

    extra: ClassVar[tuple[str, ...]] = (BLENDSHAPES,)

    path: str | None = None
    eyes: str = field(default="area", compare=False)
    detector: Callable[[Path], AbstractContextManager[TaskDetector]] = field(
        default=task_detector, compare=False, repr=False
    )

    def files(self) -> tuple[Path, ...]:
        return (existing(self.path, "landmarks.path", TASK),)

    def check(self) -> None:
        if self.eyes not in EYES:
            raise UserError(f"landmarks.eyes={self.eyes} is not a choice of {', '.join(EYES)}.")
        super().check()

    def find(self, video: Video, work: Workspace) -> Float[np.ndarray, "t 478 3"]:
        with self.detector(self.files()[0]) as find:
            points = _found(video, find, work)
            shapes = find.blendshapes
        names = sorted({name for shape in shapes for name in shape})
        if not set(BLINKS) <= set(names):
            raise UserError(f"{self.path} tells no blendshapes: {TASK}.")
        with (work.out / BLENDSHAPES).open("wb") as file:
            np.savez(file, names=np.array(names), values=_table(shapes, names))
        return points

    def eye_track(self, root: Path, area: Track) -> Track:
        return area if self.eyes == "area" else eyes_of_blinks(read_blinks(root), area)

    def eye_facts(self) -> dict[str, str]:
        return {"eyes": self.eyes}


@dataclass(frozen=True)
class LandmarkFile(LandmarkFinder):
    """Landmarks made elsewhere, 25 frames a second.

    Attributes:
        path: of a .npy with 68, 468 or 478 points a frame, see read_landmarks.
    """

    path: str | None = None

    def files(self) -> tuple[Path, ...]:
        return (existing(self.path, "landmarks.path", BY_PATH),)

    def find(self, video: Video, work: Workspace) -> Float[np.ndarray, "t k c"]:
        points = read_landmarks(self.files()[0], video.n_whole or video.n_frames)
        return points[video.first : video.first + video.n_frames]


def by_path(path: str | Path) -> LandmarkFinder:
    """The finder that a file is meant for: .npy holds landmarks, anything else a model."""
    chosen = LandmarkFile if Path(path).suffix == ".npy" else TaskLandmarks
    return chosen(path=str(path))


def read_blinks(root: Path) -> Track:
    """How shut the eyes are, 0 to 1: the mean of both eyes' blink blendshapes in a clip folder."""
    with np.load(root / BLENDSHAPES, allow_pickle=False) as file:
        columns = [list(file["names"]).index(name) for name in BLINKS]
        return np.asarray(file["values"][:, columns].mean(1), np.float64)


def eyes_of_blinks(blink: Track, area: Track) -> Track:
    """Blinks in the unit of the eye ratio: usually open eyes keep their usual area, 1 is shut."""
    opened = 1 - blink
    return np.asarray(opened * (usual_opening(area) / max(usual_opening(opened), 1e-6)))


def _found(video: Video, find: Detector, work: Workspace) -> Float[np.ndarray, "t 478 3"]:
    size = video.fit(DETECTION_SIDE)
    frames = ahead(read_frames(video, size))
    points = detect(counted(frames, work.report), find, video.n_frames)
    return points * (video.width / size[1])


def _table(shapes: list[Blendshapes], names: list[str]) -> Float[np.ndarray, "t n"]:
    """A row a frame; frames without a face are bridged as the landmarks are."""
    rows = [[shape.get(name, np.nan) for name in names] for shape in shapes]
    return bridge(np.array(rows, np.float32)[..., None])[..., 0]
