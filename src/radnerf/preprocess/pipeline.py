"""From a video to a clip folder: which stages there are, and in which order."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from threadpoolctl import threadpool_limits

from radnerf.data.clip import Clip
from radnerf.errors import UserError
from radnerf.load import cores
from radnerf.preprocess.index import Index
from radnerf.preprocess.landmarks.finders import (
    LandmarkFinder,
    MeshLandmarks,
    Open,
    by_path,
)
from radnerf.preprocess.landmarks.stage import Landmarks
from radnerf.preprocess.layers.background import Background, given_background
from radnerf.preprocess.layers.stage import Layers
from radnerf.preprocess.parsing.parsers import Parser, SelfieParser
from radnerf.preprocess.parsing.selfie import PersonMask
from radnerf.preprocess.parsing.stage import Parsing
from radnerf.preprocess.report.sheet import Sheet
from radnerf.preprocess.report.stage import QualityReport
from radnerf.preprocess.stages import locked, run_stages
from radnerf.preprocess.tracking.stage import Poses
from radnerf.preprocess.tracking.trackers import BundleTracker, Tracker
from radnerf.preprocess.video.cuts import CUTS, Cuts, Shot
from radnerf.preprocess.video.decode import probe
from radnerf.preprocess.video.frames import Frames
from radnerf.preprocess.video.sound import Sound

SMALLEST = 16  # longer side of frames, pixels


def preprocess_video(
    path: str | Path,
    root: str | Path,
    *,
    clip_id: str,
    resolution: int | None = None,
    focal: float | None = None,
    landmarks: LandmarkFinder | str | Path | None = None,
    parser: Parser | None = None,
    tracker: Tracker | None = None,
    detector: Open | None = None,
    person_mask: PersonMask | None = None,
    background: str | Path | None = None,
    workers: int | None = None,
) -> Clip:
    """Turn a video of one talking person into a clip folder; what is up to date is kept.

    Args:
        path: the video, in any container, codec, frame rate, sample rate and rotation.
        root: the clip folder to make.
        clip_id: the clip's name in its metadata.
        resolution: the longer side in pixels; smaller videos keep their size.
        focal: focal length in image widths, the tracker's choice when not given.
        landmarks: finds the landmarks; or landmarks made elsewhere (.npy), or the
            face_landmarker.task to find them with.
        parser: tells head, neck, torso and background apart.
        tracker: finds the head's pose.
        detector: opens another face detector for the default `landmarks`.
        person_mask: another probability of the person at each pixel for the default `parser`.
        background: picture of the place without the person, instead of the one made from the
            frames.
        workers: threads, as many as there are cores when not given.

    Raises:
        UserError: the video cannot be used, and why; a folder made by this call is removed.
    """
    path, root = Path(path), Path(root)
    if resolution is not None and resolution < SMALLEST:
        raise UserError(
            f"A resolution of {resolution} is too small: give {SMALLEST} or more pixels."
        )
    whole = probe(path)
    if isinstance(landmarks, str | Path):
        landmarks = by_path(landmarks)
    elif landmarks is None:
        landmarks = MeshLandmarks(detector=detector)
    parser, tracker = parser or SelfieParser(person_mask=person_mask), tracker or BundleTracker()
    for option in (landmarks, parser, tracker):
        option.check()
    size, n_threads = whole.fit(resolution), workers or cores()
    given = Path(background) if background else None
    if given:
        given_background(given, size)
    with _fresh_folder_removed(root), locked(root), threadpool_limits(1, user_api="blas"):
        # The stages have threads of their own; those of BLAS would only spin beside them.
        run_stages([Cuts(whole)], root, whole.n_frames)
        shot = Shot(**json.loads((root / CUTS).read_text()))
        video = whole.part(shot.first, shot.count) if shot.cuts else whole
        stages = [
            Sound(video),
            Landmarks(video, size, landmarks),
            Frames(video, size, n_threads),
            Poses(size, focal, tracker),
            Parsing(parser, n_threads),
            Background(size, video.n_frames, given),
            Layers(video.n_frames, n_threads),
            Index(video, clip_id, size, landmarks),
            Sheet(),
            QualityReport(clip_id, shot.told()),
        ]
        run_stages(stages, root, whole.n_frames)
        return Clip.open(root)


@contextmanager
def _fresh_folder_removed(root: Path) -> Iterator[None]:
    """A folder that did not exist before does not after a user's error either."""
    fresh = not root.exists()
    try:
        yield
    except UserError:
        if fresh:
            shutil.rmtree(root, ignore_errors=True)
        raise
