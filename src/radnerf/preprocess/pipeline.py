"""From a video to a clip folder: the stages in order, each with what it reads and writes."""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, UInt8
from threadpoolctl import threadpool_limits

from radnerf.audio import load_audio
from radnerf.data import clip as layout
from radnerf.data.clip import FPS, SAMPLE_RATE, Clip
from radnerf.errors import UserError
from radnerf.files import whole_file
from radnerf.load import cores
from radnerf.preprocess import face, headbox, judgement, sheet, video
from radnerf.preprocess.cuts import SIDE, Shot, longest_shot
from radnerf.preprocess.finders import LandmarkFinder, MediapipeLandmarks, Open, by_path
from radnerf.preprocess.landmarks import bridge, check_face, quiet
from radnerf.preprocess.parsers import Parser, SelfieParser
from radnerf.preprocess.parsing import PersonMask
from radnerf.preprocess.pictures import frame_reader, matte_reader, over, read_parsing, write_grey
from radnerf.preprocess.plate import background_plate, given_plate
from radnerf.preprocess.stages import Desk, Stage, file_hash, locked, run_stages
from radnerf.preprocess.streams import ahead, counted, side_by_side
from radnerf.preprocess.torso import TorsoPainter
from radnerf.preprocess.trackers import BundleTracker, Tracker

CUTS = "cuts.json"
SMALLEST = 16  # longer side of frames, pixels
SILENT = 1e-3  # of full scale: the loudest sample of a track in which nobody speaks

T = TypeVar("T")


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
        detector: opens the face detector of the default `landmarks`; MediaPipe's when not given.
        person_mask: probability of the person at each pixel for the default `parser`; MediaPipe's
            when not given.
        background: picture of the place without the person, instead of the one made from the
            frames.
        workers: threads, as many as there are cores when not given.

    Raises:
        UserError: the video cannot be used, and why; a folder made by this call is removed.
    """
    source, root = Path(path), Path(root)
    if resolution is not None and resolution < SMALLEST:
        raise UserError(
            f"A resolution of {resolution} is too small: give {SMALLEST} or more pixels."
        )
    probed = video.probe(source)
    if isinstance(landmarks, str | Path):
        landmarks = by_path(landmarks)
    elif landmarks is None:
        landmarks = MediapipeLandmarks(detector) if detector else MediapipeLandmarks()
    options = landmarks, parser or SelfieParser(person_mask), tracker or BundleTracker()
    for option in options:
        option.check()
    given = Path(background) if background else None
    if given:
        given_plate(given, probed.fit(resolution))
    fresh = not root.exists()
    try:
        # The stages have threads of their own; those of BLAS would only spin beside them.
        with locked(root), threadpool_limits(1, user_api="blas"):
            run_stages([_cuts(probed)], root, probed.n_frames)
            shot = Shot(**json.loads((root / CUTS).read_text()))
            stages = _stages(
                probed.part(shot.first, shot.count) if shot.cuts else probed,
                shot.told(),
                clip_id,
                probed.fit(resolution),
                focal,
                *options,
                given,
                workers or cores(),
            )
            run_stages(stages, root, probed.n_frames)
            return Clip.open(root)
    except UserError:
        if fresh:
            shutil.rmtree(root, ignore_errors=True)
        raise


def _cuts(probed: video.Video) -> Stage:
    """The stage that comes before all others: they only see the longest shot."""

    def cuts(desk: Desk) -> None:
        frames = ahead(video.read_frames(probed, probed.fit(SIDE)))
        shot = longest_shot(counted(frames, desk.report), probed.n_frames)
        if shot.cuts and shot.count < video.MIN_SECONDS * FPS:
            raise UserError(
                f"{probed.path} has {len(shot.cuts)} cuts and no shot of a second: give a video "
                "of one person who speaks without cuts."
            )
        (desk.out / CUTS).write_text(json.dumps(asdict(shot)))

    settings = {"video": file_hash(probed.path), "n": probed.n_frames}
    return Stage("cuts", (CUTS,), cuts, (), settings, seconds_a_frame=0.002)


def _stages(
    probed: video.Video,
    cut: str | None,
    clip_id: str,
    size: tuple[int, int],
    focal: float | None,
    finder: LandmarkFinder,
    parser: Parser,
    tracker: Tracker,
    background: Path | None,
    workers: int,
) -> list[Stage]:
    n = probed.n_frames
    content = file_hash(probed.path)
    source = {"video": content, "first": probed.first, "n": n}

    def audio(desk: Desk) -> None:
        sound = video.read_audio(probed.path, probed.start)
        if np.abs(sound).max(initial=0.0) < SILENT:
            raise UserError(
                f"The sound of {probed.path} is silent from beginning to end: "
                "give a video with the speech in it."
            )
        write_wav(desk.out / "aud.wav", sound, n)

    def find_landmarks(desk: Desk) -> None:
        found = finder.find(probed, desk)
        np.save(desk.out / "unseen.npy", ~np.isfinite(found).all((1, 2)))
        points = bridge(found) * (size[1] / probed.width)
        check_face(face.to_68(points), size)
        np.save(desk.out / "landmarks.npy", points.astype(np.float32))

    def frames(desk: Desk) -> None:
        points = face.to_68(np.load(desk.root / "landmarks.npy"))
        folder = desk.out / "ori_imgs"
        done = desk.done("ori_imgs/{}.jpg")

        def write(i: int, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
            if i < done:
                return
            with whole_file(folder / f"{i}.lms") as part:
                np.savetxt(part, points[i], fmt="%.4f")
            layout.write_image(folder / f"{i}.jpg", rgb)

        decoded = counted(ahead(video.read_frames(probed, size)), desk.report)
        for _ in _all(lambda item: write(*item), enumerate(decoded), workers):
            pass

    def parse(desk: Desk) -> None:
        points = np.load(desk.root / "landmarks.npy")
        done = desk.done("parsing/{}.png", "matte/{}.png")
        results = parser.labels(frame_reader(desk.root), points, desk.report, workers, done)

        def write(item: tuple[int, Any, Any]) -> None:
            i, labels, alpha = item
            layout.write_parsing(desk.out / "parsing" / f"{i}.png", labels)
            write_grey(desk.out / "matte" / f"{i}.png", alpha)

        with quiet():
            for _ in _all(write, results, workers):
                pass

    def plate(desk: Desk) -> None:
        if background:
            rgb = given_plate(background, size)
        else:
            rgb = background_plate(frame_reader(desk.root), matte_reader(desk.root), n)
        layout.write_image(desk.out / "bc.jpg", rgb)

    def layers(desk: Desk) -> None:
        read, matte = frame_reader(desk.root), matte_reader(desk.root)
        points = np.load(desk.root / "landmarks.npy")
        behind = layout.read_image(desk.root / "bc.jpg")
        painter = TorsoPainter.fit(read, lambda i: read_parsing(desk.root, i), matte, n)

        def write(i: int) -> None:
            rgb, alpha = read(i), matte(i)
            labels = read_parsing(desk.root, i)
            torso = painter.paint(rgb, labels, alpha, points[i], behind)
            layout.write_image(desk.out / "torso_imgs" / f"{i}.png", torso)
            layout.write_image(desk.out / "gt_imgs" / f"{i}.jpg", over(rgb, alpha, behind))

        done = desk.done("gt_imgs/{}.jpg", "torso_imgs/{}.png")
        for _ in counted(_all(write, range(done, n), workers), desk.report, done):
            pass

    def poses(desk: Desk) -> None:
        points = np.load(desk.root / "landmarks.npy")
        track = tracker.track(
            points, size, focal and focal * size[1], frame_reader(desk.root), desk.report
        )
        with (desk.out / "poses.npz").open("wb") as file:
            np.savez(
                file,
                poses=track.poses,
                shape=track.shape,
                focal=track.focal,
                report=json.dumps(track.report),
            )

    def index(desk: Desk) -> None:
        points = face.to_68(np.load(desk.root / "landmarks.npy"))
        solved = np.load(desk.root / "poses.npz")
        focal_px = float(solved["focal"])
        area = np.array([layout.eye_ratio(p, *size) for p in points])
        eye = smooth_eye(finder.eye_track(desk.root, area))
        centre = (size[1] / 2, size[0] / 2)
        box, coverage = headbox.head_box(
            solved["shape"],
            solved["poses"],
            lambda i: read_parsing(desk.root, i) == layout.HEAD,
            focal_px,
            centre,
        )
        unseen = np.load(desk.root / "unseen.npy")
        layout.write_transforms(desk.out, solved["poses"], eye, focal_px, centre, unseen)
        meta = {
            "format": 1,
            "id": clip_id,
            "fps": FPS,
            "size": list(size),
            "head_box": np.round(box, 4).tolist(),
            "focal_px": focal_px,
            "tracking": json.loads(str(solved["report"])) | {"head_box_coverage": coverage},
            "source": {
                "file": probed.path.name,
                "size": [probed.height, probed.width],
                "fps": round(probed.source_fps, 3),
                "rotation": probed.rotation,
                "codec": probed.codec,
            },
        }
        (desk.out / "clip.json").write_text(json.dumps(meta, indent=1))

    def contact_sheet(desk: Desk) -> None:
        layout.write_image(desk.out / "preprocess.png", sheet.contact_sheet(Clip.open(desk.root)))

    def judge(desk: Desk) -> None:
        facts = judgement.measure(
            Clip.open(desk.root),
            load_audio(desk.root / "aud.wav"),
            frame_reader(desk.root),
            matte_reader(desk.root),
            np.load(desk.root / "unseen.npy"),
            cut,
        )
        faults = judgement.find_faults(facts)
        warnings = [{"name": fault.name, "text": fault.text} for fault in faults]
        content = {"warnings": warnings, "facts": facts.as_dict()}
        (desk.out / judgement.JUDGEMENT).write_text(json.dumps(content, indent=1))
        html = judgement.page(clip_id, facts, faults, desk.root / "preprocess.png")
        (desk.out / judgement.REPORT).write_text(html)

    return [
        Stage("audio", ("aud.wav",), audio, (), source, seconds_a_frame=0.0005),
        Stage(
            "landmarks",
            ("landmarks.npy", "unseen.npy", *finder.extra),
            find_landmarks,
            (),
            source | {"landmarks": finder.facts(), "size": size},
            seconds_a_frame=0.009,
        ),
        Stage(
            "frames",
            ("ori_imgs",),
            frames,
            ("landmarks",),
            source | {"size": size},
            goes_on=True,
            seconds_a_frame=0.006,
        ),
        Stage(
            "poses",
            ("poses.npz",),
            poses,
            tracker.needs,
            {"focal": focal, "tracker": tracker.facts()},
        ),
        Stage(
            "parsing",
            ("parsing", "matte"),
            parse,
            ("frames",),
            {"parser": parser.facts()},
            version=2,
            goes_on=True,
            seconds_a_frame=0.02,
        ),
        Stage(
            "plate",
            ("bc.jpg",),
            plate,
            ("parsing",),
            {"background": file_hash(background)} if background else {},
            seconds_a_frame=0.004,
        ),
        Stage(
            "layers",
            ("gt_imgs", "torso_imgs"),
            layers,
            ("parsing", "plate"),
            {},
            goes_on=True,
            seconds_a_frame=0.018,
        ),
        Stage(
            "index",
            ("transforms_train.json", "transforms_val.json", "clip.json"),
            index,
            ("poses", "parsing", "layers"),
            {"id": clip_id, "file": probed.path.name} | finder.eye_facts(),
        ),
        Stage("sheet", ("preprocess.png",), contact_sheet, ("index", "audio", "layers")),
        Stage(
            "judgement",
            (judgement.JUDGEMENT, judgement.REPORT),
            judge,
            ("sheet", "audio", "parsing"),
            {"cut": cut},
        ),
    ]


def _all(work: Callable[[T], None], items: Iterable[T], workers: int) -> Iterator[None]:
    """Do the work on every item, a few side by side."""
    with ThreadPoolExecutor(workers) as pool:
        yield from side_by_side(pool, work, items, 2 * workers)


def smooth_eye(eye: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Eye ratio without the landmarks' tremble: weights 1, 2, 1, blinks keep their depth."""
    padded = np.pad(eye, 1, mode="edge")
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def write_wav(path: Path, sound: Float[np.ndarray, " s"], n_frames: int) -> None:
    """16-bit wav exactly as long as the frames; silence fills what the file lacks."""
    length = round(n_frames / FPS * SAMPLE_RATE)
    sound = np.pad(sound[:length], (0, max(0, length - len(sound))))
    with path.open("wb") as raw, wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(sound, -1, 1) * 32767).round().astype("<i2").tobytes())
