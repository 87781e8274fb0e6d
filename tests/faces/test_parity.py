"""Points and masks are those of MediaPipe's own package, on the shared clips."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from radnerf import models
from radnerf.faces.mesh import FaceTracker
from radnerf.faces.person import PersonSegmenter
from radnerf.models import FACE_DETECTOR, FACE_MESH, PERSON
from radnerf.preprocess.landmarks.detect import mediapipe_detector, mesh_detector
from radnerf.preprocess.video.decode import probe, read_frames

CLIPS = (
    *("obama", "may", "more/phone_a", "more/phone_b"),
    *("more/loose_hair", "more/studio", "more/office", "more/glasses"),
)
LIPS = np.array([61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 185, 40, 39, 37, 0, 267, 269,
                 270, 409, 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308])  # fmt: skip
FRAMES, EVERY = 12, 4


def network(model: models.Model) -> Path:
    found = models.at_hand(model)
    if found is None:
        pytest.skip("no networks here: python -m radnerf.models")
    return found


@pytest.mark.parametrize("name", CLIPS)
def test_points_and_mask_are_those_of_the_package(shared_videos: Path, name: str) -> None:
    mediapipe = pytest.importorskip("mediapipe", reason="no MediaPipe for this Python")
    path = shared_videos / f"{name}.mp4"
    if not path.is_file():
        pytest.skip(f"no {path}")
    video = probe(path)
    size = video.fit(640)
    ours = mesh_detector(network(FACE_DETECTOR), network(FACE_MESH))
    person = PersonSegmenter(network(PERSON))
    scale = 256 / max(size)
    mask = mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
    with mediapipe_detector() as theirs, mask:
        for frame in islice(read_frames(video, size), 0, FRAMES * EVERY, EVERY):
            found, true = ours(frame), theirs(frame)
            assert len(found) == len(true) > 0
            off = np.linalg.norm((found[0] - true[0])[:, :2], axis=1) * scale
            assert off.mean() < 0.3 and off[LIPS].max() < 1, "pixels of a frame of 256"
            assert np.abs((found[0] - true[0])[:, 2]).mean() * scale < 1
            soft = mask.process(np.ascontiguousarray(frame)).segmentation_mask
            difference = np.abs(person(frame) - soft)
            assert difference.mean() < 0.002 and np.mean(difference > 0.5) < 0.001


def test_single_frames_are_those_of_the_package(shared_videos: Path) -> None:
    mediapipe = pytest.importorskip("mediapipe", reason="no MediaPipe for this Python")
    video = probe(shared_videos / "may.mp4")
    tracker = FaceTracker(network(FACE_DETECTOR), network(FACE_MESH), most=1, follow=False)
    options = {"static_image_mode": True, "max_num_faces": 1, "refine_landmarks": True}
    with mediapipe.solutions.face_mesh.FaceMesh(**options) as theirs:
        for frame in islice(read_frames(video, (512, 512)), 0, 60, 15):
            (found,) = tracker(frame)
            (face,) = theirs.process(np.ascontiguousarray(frame)).multi_face_landmarks
            true = np.array([(p.x, p.y, p.z) for p in face.landmark]) * 512
            assert np.abs(found - true).max() < 0.2


@pytest.mark.parametrize(("yaw", "side"), [(0, 64), (1, 96), (1, 160)])
def test_small_and_mirrored_faces(shared_videos: Path, yaw: int, side: int) -> None:
    """Where the package finds a face in a small frame, so do we, at the same place."""
    mediapipe = pytest.importorskip("mediapipe", reason="no MediaPipe for this Python")
    video = probe(shared_videos / "obama.mp4")
    tracker = FaceTracker(network(FACE_DETECTOR), network(FACE_MESH), most=2, follow=False)
    options = {"static_image_mode": True, "max_num_faces": 2, "refine_landmarks": True}
    with mediapipe.solutions.face_mesh.FaceMesh(**options) as theirs:
        for frame in islice(read_frames(video, (side, side)), 0, 100, 25):
            # Two faces side by side above an empty half.
            pair = np.concatenate([frame, frame[:, ::-1]], 1)
            pair = np.concatenate([pair, np.zeros_like(pair)])
            pair = np.ascontiguousarray(pair[:, ::-1] if yaw else pair)
            true = theirs.process(pair).multi_face_landmarks or []
            found = tracker(pair)
            assert len(found) == len(true)
            for points, face in zip(found, true, strict=True):
                marks = np.array([(p.x, p.y) for p in face.landmark]) * 2 * side
                assert np.abs(points[:, :2] - marks).mean() < 0.5
