"""Face landmarks of every frame: 478 mesh points, found by MediaPipe or read from a file."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from radnerf.conventions import FPS
from radnerf.errors import UserError
from radnerf.faces.mesh import FaceTracker
from radnerf.geometry.face68 import EYES, EYES_MESH, N_MESH, to_68
from radnerf.runtime.output import quiet

# Faces in one frame, the larger first, in pixels of the frame: [478, 3].
Detector = Callable[[UInt8[np.ndarray, "h w 3"]], list[np.ndarray]]
Blendshapes = dict[str, float]  # strength of each movement of the face, 0 to 1, by its name

MOST_FACES = 2  # that are looked for
MAX_LOST_SECONDS = 1.0
# A second face counts when this wide against the first, for this long.
SECOND_FACE = 0.4
SECOND_FACE_SECONDS = 0.4

SMALLEST_FACE = 16  # pixels
MOST_TILTED = 50.0  # degrees; more is a video on its side

BY_PATH = (
    "give landmarks=file landmarks.path=a .npy made elsewhere ([frames, 478 or 468 or 68, 2 or 3], "
    "pixels of the video, 25 frames a second), or landmarks=mesh, which finds them"
)


def detect(
    frames: Iterable[UInt8[np.ndarray, "h w 3"]], detector: Detector, n_frames: int
) -> Float[np.ndarray, "t 478 3"]:
    """Landmarks of the one face, NaN where none was seen.

    Raises:
        UserError: two faces.
    """
    found = np.full((n_frames, N_MESH, 3), np.nan, np.float32)
    crowded: list[int] = []
    for i, frame in enumerate(frames):
        faces = detector(frame)
        if faces:
            found[i] = faces[0]
        if len(faces) > 1 and _width(faces[1]) > SECOND_FACE * _width(faces[0]):
            crowded.append(i)
    if len(crowded) > SECOND_FACE_SECONDS * FPS:
        raise UserError(
            f"Two faces are in the picture, first at {crowded[0] / FPS:.1f} s "
            f"(frame {crowded[0]}): crop or cut the video to one person."
        )
    return found


def bridge(found: Float[np.ndarray, "t k c"]) -> Float[np.ndarray, "t k c"]:
    """Fill frames of NaN, up to MAX_LOST_SECONDS in a row, in a straight line.

    Raises:
        UserError: longer gaps, or nothing found at all.
    """
    has_face = np.isfinite(found).all((1, 2))
    if not has_face.any():
        raise UserError(
            f"No face was found in any of the {len(found)} frames, from frame 0 on: "
            "give a video of one person who looks towards the camera."
        )
    edges = np.flatnonzero(np.diff(np.concatenate([[True], has_face, [True]]).astype(int)))
    gaps = edges.reshape(-1, 2)
    lost = [(a, b) for a, b in gaps if b - a > MAX_LOST_SECONDS * FPS]
    if lost:
        where = ", ".join(f"{a / FPS:.1f} s to {b / FPS:.1f} s" for a, b in lost[:4])
        raise UserError(
            f"No face was found from {where} (frame {lost[0][0]} on): "
            "cut these seconds out of the video."
        )
    full = found.copy()
    index = np.arange(len(found))
    for a, b in gaps:
        before, after = max(a - 1, 0), min(b, len(found) - 1)
        before = before if has_face[before] else after
        after = after if has_face[after] else before
        fraction = (index[a:b] - before) / max(after - before, 1)
        full[a:b] = found[before] + fraction[:, None, None] * (found[after] - found[before])
    return full


def check_face(points: Float[np.ndarray, "t 68 2"], size: tuple[int, int]) -> None:
    """See that a portrait can be learned of a face.

    Args:
        points: landmarks in pixels of frames of this size (height, width).

    Raises:
        UserError: the face is too small or lies on its side.
    """
    width = float(np.median(np.ptp(points[..., 0], axis=1)))
    if width < SMALLEST_FACE:
        raise UserError(
            f"The face is only {width:.0f} px wide in frames of {size[1]} x {size[0]}: crop the "
            "video to head and shoulders, or give a higher data.resolution."
        )
    right, down = np.median(points[:, 8] - points[:, EYES].mean(1), axis=0)  # from eyes to chin
    tilt = float(np.rad2deg(np.arctan2(-right, down)))
    if abs(tilt) > MOST_TILTED:
        way = "clockwise" if tilt > 0 else "counter-clockwise"
        raise UserError(
            f"The face is turned by {abs(tilt):.0f} degrees {way}: turn the video upright first."
        )


def _width(face: Float[np.ndarray, "k c"]) -> float:
    return float(np.ptp(face[:, 0]))


def mesh_detector(detector: Path, mesh: Path) -> Detector:
    """A detector that follows faces from frame to frame, with these two networks."""
    tracker = FaceTracker(detector, mesh, MOST_FACES, follow=True)
    return lambda frame: larger_first(tracker(frame))


@contextlib.contextmanager
def mediapipe_detector() -> Iterator[Detector]:
    """The same by MediaPipe's own package, with the models of its wheel.

    Raises:
        UserError: this Python's MediaPipe is missing or brings no models.
    """
    with quiet():
        with _no_mediapipe():
            finder = _Mesh(load_mediapipe().solutions.face_mesh.FaceMesh)
        try:
            yield finder
        finally:
            finder.close()


@contextlib.contextmanager
def task_detector(model: Path) -> Iterator[TaskDetector]:
    """The same with a face_landmarker.task, which also tells blendshapes.

    Raises:
        UserError: this Python's MediaPipe is missing, or the file is no such model.
    """
    with quiet():
        try:
            mediapipe = load_mediapipe()
        except ImportError as error:
            raise UserError(
                f"landmarks=task needs the package mediapipe ({error}): pip install mediapipe, or "
                "give landmarks=file landmarks.path=a .npy made elsewhere."
            ) from error
        finder = TaskDetector(mediapipe, model)
        try:
            yield finder
        finally:
            finder.close()


def load_mediapipe() -> Any:
    """MediaPipe, told to say little.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return importlib.import_module("mediapipe")


@contextlib.contextmanager
def _no_mediapipe() -> Iterator[None]:
    try:
        yield
    except (ImportError, AttributeError) as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UserError(
            f"This Python {version} has no MediaPipe with face models ({error}): take "
            "landmarks=mesh, which needs none, or pip install 'radnerf[mediapipe]' on Python 3.10 "
            "to 3.12."
        ) from error


class _Mesh:
    """FaceMesh of MediaPipe below 0.10.30, whose models are in the wheel."""

    def __init__(self, mesh: Any) -> None:
        self.mesh = mesh(refine_landmarks=True, max_num_faces=MOST_FACES)

    def __call__(self, frame: UInt8[np.ndarray, "h w 3"]) -> list[np.ndarray]:
        square, side = _square(frame)
        faces = self.mesh.process(square).multi_face_landmarks or []
        return _sorted([face.landmark for face in faces], side)

    def close(self) -> None:
        self.mesh.close()


class TaskDetector:
    """FaceLandmarker of newer MediaPipe with a model file from the user.

    `blendshapes` holds those of the larger face, a dict a frame, empty where no face was seen.
    """

    def __init__(self, mediapipe: Any, model: Path) -> None:
        try:
            tasks = mediapipe.tasks
            self.finder = tasks.vision.FaceLandmarker.create_from_options(
                tasks.vision.FaceLandmarkerOptions(
                    base_options=tasks.BaseOptions(model_asset_path=str(model)),
                    running_mode=tasks.vision.RunningMode.VIDEO,
                    num_faces=MOST_FACES,
                    output_face_blendshapes=True,
                )
            )
        except (AttributeError, RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"{model} cannot be loaded as a face landmark model ({error}): give "
                "face_landmarker.task as MediaPipe's page on the face landmarker has it."
            ) from error
        self.image = mediapipe.Image
        self.format = mediapipe.ImageFormat.SRGB
        self.time = 0
        self.blendshapes: list[Blendshapes] = []

    def __call__(self, frame: UInt8[np.ndarray, "h w 3"]) -> list[np.ndarray]:
        square, side = _square(frame)
        image = self.image(image_format=self.format, data=square)
        self.time += round(1000 / FPS)
        result = self.finder.detect_for_video(image, self.time)
        widths = [np.ptp([point.x for point in face]) for face in result.face_landmarks]
        shapes = result.face_blendshapes[int(np.argmax(widths))] if widths else []
        self.blendshapes.append({shape.category_name: shape.score for shape in shapes})
        return _sorted(result.face_landmarks, side)

    def close(self) -> None:
        self.finder.close()


def _square(frame: UInt8[np.ndarray, "h w 3"]) -> tuple[UInt8[np.ndarray, "s s 3"], int]:
    """Padded to a square (right or below): MediaPipe's turned regions assume one."""
    height, width = frame.shape[:2]
    side = max(height, width)
    if height != width:
        frame = np.pad(frame, ((0, side - height), (0, side - width), (0, 0)))
    return np.ascontiguousarray(frame), side


def _sorted(faces: list[Any], side: int) -> list[np.ndarray]:
    """MediaPipe's lists of points as arrays in pixels, in larger_first's order."""
    return larger_first(
        [np.array([(p.x, p.y, p.z) for p in face], np.float32) * side for face in faces]
    )


def larger_first(faces: list[np.ndarray]) -> list[np.ndarray]:
    """Larger faces first, the same face twice dropped."""
    arrays = sorted(faces, key=_width, reverse=True)
    return [
        face
        for i, face in enumerate(arrays)
        if all(
            np.linalg.norm((face - other)[:, :2].mean(0)) > _width(other) / 2
            for other in arrays[:i]
        )
    ]


def read_landmarks(path: Path, n_frames: int) -> Float[np.ndarray, "t k c"]:
    """Landmarks made elsewhere, one row a frame at 25 a second, NaN where unseen.

    Of 68 points x and y are taken. The mesh may come without its irises (468 points): they are
    put in the middle of the eyes. Without its depth it is reduced to 68 points.

    Raises:
        UserError: unreadable, of another shape, or for another number of frames.
    """
    try:
        points = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as landmarks ({error}): {BY_PATH}.") from error
    shape: tuple[int, ...] = getattr(points, "shape", ())
    good = len(shape) == 3 and shape[1] in (68, N_MESH - 10, N_MESH) and shape[2] in (2, 3)
    if not good or points.dtype.kind not in "fiu":
        raise UserError(f"{path} holds an array of shape {shape}: {BY_PATH}.")
    if abs(len(points) - n_frames) > 2:
        raise UserError(
            f"{path} has {len(points)} rows for a video of {n_frames} frames at 25 a second: "
            "make the landmarks from the same video."
        )
    rows = np.minimum(np.arange(n_frames), len(points) - 1)
    found = points[rows].astype(np.float32)
    if shape[1] == 68 or shape[2] == 2:
        found = to_68(found)
    elif shape[1] < N_MESH:
        irises = [np.repeat(found[:, eye].mean(1, keepdims=True), 5, 1) for eye in EYES_MESH]
        found = np.concatenate([found, *irises], 1)
    return found
