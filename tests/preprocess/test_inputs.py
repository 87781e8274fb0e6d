"""What people give: every video ends as a clip or in one sentence, and leaves no half of one."""

from __future__ import annotations

import errno
import os
import shutil
import wave
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from preprocess.test_pipeline import portrait
from preprocess_videos import FakeFace, fake_person, tone, write_video

from radnerf.data import clip as layout
from radnerf.data.clip import Clip, write_image
from radnerf.errors import UserError
from radnerf.files import UNFINISHED
from radnerf.geometry.face68 import to_68
from radnerf.preprocess import stages
from radnerf.preprocess.pipeline import preprocess_video
from radnerf.preprocess.report import warnings_of

FRAMES = 30


class SeeingFace(FakeFace):
    """Finds no face in the dark, and one as large as `share` of the usual."""

    def __init__(self, share: float = 1.0, **kinds: Sequence[int]) -> None:
        super().__init__(**kinds)
        self.share = share

    def find(self, image: np.ndarray) -> list[np.ndarray]:
        found = super().find(image)
        if image.max() < 32:
            return []
        middle = np.array([image.shape[1] / 2, image.shape[0] / 2, 0])
        return [(middle + self.share * (face - middle)).astype(np.float32) for face in found]


def preprocess(video: Path, root: Path, face: FakeFace | None = None, **options: object) -> Clip:
    return preprocess_video(
        video,
        root,
        clip_id="test",
        detector=(face or SeeingFace()).open,
        person_mask=fake_person,
        **options,
    )


def film(
    path: Path,
    times: Sequence[float] | None = None,
    sound: np.ndarray | None = None,
    rate: int = 16_000,
    change: Callable[[int, np.ndarray], np.ndarray] = lambda i, frame: frame,
) -> Path:
    """A video of the portrait that changes with time, by default 30 frames at 25 a second."""
    times = list(np.arange(FRAMES) / 25) if times is None else times
    frames = [change(i, portrait(i)) for i in range(len(times))]
    return write_video(path, frames, times, tone(1.2) if sound is None else sound, rate)


def refused(
    video: Path, root: Path, words: str, face: FakeFace | None = None, **more: object
) -> None:
    """One sentence, and nothing left behind."""
    with pytest.raises(UserError, match=words) as error:
        preprocess(video, root, face, **more)
    told = str(error.value)
    assert "\n" not in told and told.endswith(".")
    assert not root.exists()


UNEVEN = np.concatenate([[0.0], np.cumsum(np.random.default_rng(1).uniform(0.01, 0.09, 80))])
VIDEOS: dict[str, dict[str, object]] = {
    "10 fps": {"times": list(np.arange(12) / 10)},
    "60 fps": {"times": list(np.arange(72) / 60)},
    "variable rate": {"times": list(UNEVEN[UNEVEN < 1.2])},
    "44.1 kHz stereo": {"sound": np.stack([tone(1.2, 44_100)] * 2), "rate": 44_100},
    "8 kHz": {"sound": tone(1.2, 8_000), "rate": 8_000},
}


@pytest.mark.parametrize("kind", VIDEOS)
def test_any_rate_and_sound_becomes_a_clip(kind: str, tmp_path: Path) -> None:
    clip = preprocess(film(tmp_path / "a.mp4", **VIDEOS[kind]), tmp_path / "clip")  # type: ignore[arg-type]
    assert abs(len(clip) - FRAMES) <= 1 and clip.fps == 25
    # 16-bit samples at 16 kHz after a header of 44 bytes, as long as the frames.
    assert (clip.root / "aud.wav").stat().st_size == 44 + 2 * 640 * len(clip)


def test_a_video_turned_by_90_degrees_becomes_an_upright_clip(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", change=lambda i, frame: np.ascontiguousarray(np.rot90(frame)))
    content = path.read_bytes()
    identity = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    quarter = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    at = content.index(identity, content.index(b"tkhd"))
    path.write_bytes(content[:at] + quarter + content[at + len(quarter) :])
    clip = preprocess(path, tmp_path / "clip")
    assert clip.size == (96, 128)
    assert np.abs(clip.image(0).astype(int) - portrait(0)).mean() < 12


def test_a_picture_on_its_side_is_one_sentence(tmp_path: Path) -> None:
    """Turned by its pixels, with no word of it in the file."""

    class Lying(SeeingFace):
        def find(self, image: np.ndarray) -> list[np.ndarray]:
            found = super().find(np.rot90(image))  # upright, counter-clockwise
            # Back: the top goes to the right again.
            return [np.stack([len(image[0]) - f[:, 1], f[:, 0], f[:, 2]], 1) for f in found]

    path = film(
        tmp_path / "a.mp4", change=lambda i, frame: np.ascontiguousarray(np.rot90(frame, -1))
    )
    words = r"face is turned by (8\d|9\d) degrees clockwise: turn the video"
    refused(path, tmp_path / "clip", words, Lying())


def upright(i: int, frame: np.ndarray) -> np.ndarray:
    """A person from head to foot in 9:16."""
    return np.tile(frame[:, 37:91], (2, 1, 1))[:96]


def test_a_whole_person_in_9_to_16_becomes_a_clip(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", change=upright)
    clip = preprocess(path, tmp_path / "clip", SeeingFace(0.9))
    assert clip.size == (96, 54) and len(clip) == FRAMES


def test_a_face_too_small_to_learn_is_one_sentence(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", change=upright)
    refused(path, tmp_path / "clip", r"face is only \d+ px wide .* crop the video", SeeingFace(0.4))


def test_4k_is_scaled_down(tmp_path: Path) -> None:
    large = np.repeat(np.repeat(portrait(0), 30, 0), 30, 1)[:2160]
    still = [large] * 26
    path = write_video(tmp_path / "a.mp4", still, list(np.arange(26) / 25), tone(1.04))
    clip = preprocess(path, tmp_path / "clip", resolution=96)
    assert clip.meta["source"]["size"] == [2160, 3840]
    assert clip.size == (54, 96) and len(clip) == 26


def test_silent_sound_is_one_sentence(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", sound=np.zeros(19_200))
    refused(path, tmp_path / "clip", "silent from beginning to end")


def test_no_sound_is_one_sentence(tmp_path: Path) -> None:
    times = list(np.arange(FRAMES) / 25)
    path = write_video(tmp_path / "a.mp4", [portrait(i) for i in range(FRAMES)], times, None)
    refused(path, tmp_path / "clip", "no audio track")


def test_one_frame_is_one_sentence(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [portrait(0)], [0.0], tone(1.2))
    refused(path, tmp_path / "clip", "at least 1 s")


def test_files_that_are_no_whole_video_are_one_sentence(tmp_path: Path) -> None:
    good = film(tmp_path / "good.mp4")
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 100)
    for name in ("cut.mp4", "text.mp4", "missing.mp4"):
        refused(tmp_path / name, tmp_path / "clip", name)


def test_two_faces_are_one_sentence(tmp_path: Path) -> None:
    face = SeeingFace(double=range(5, 25))
    refused(film(tmp_path / "a.mp4"), tmp_path / "clip", r"Two faces .* at 0\.2 s", face)


def test_a_face_that_leaves_for_two_seconds_is_one_sentence(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", times=list(np.arange(75) / 25), sound=tone(3.0))
    words = r"No face was found from 0\.4 s to 2\.4 s \(frame 10 on\)"
    refused(path, tmp_path / "clip", words, SeeingFace(lost=range(10, 60)))


def dark(first: int, last: int) -> Callable[[int, np.ndarray], np.ndarray]:
    return lambda i, frame: frame * np.uint8(not first <= i < last)


def test_black_frames_for_a_moment_are_bridged(tmp_path: Path) -> None:
    clip = preprocess(film(tmp_path / "a.mp4", change=dark(10, 14)), tmp_path / "clip")
    assert np.array_equal(clip.ids, [*range(10), *range(14, FRAMES)])
    every = to_68(np.load(clip.root / "landmarks.npy"))
    wanted = every[9] + 0.6 * (every[14] - every[9])
    np.testing.assert_allclose(every[12], wanted, atol=0.01)


def test_the_background_may_be_given(tmp_path: Path) -> None:
    room = np.full((48, 64, 3), (200, 30, 90), np.uint8)
    write_image(tmp_path / "room.png", room)
    video, root = film(tmp_path / "a.mp4"), tmp_path / "clip"
    preprocess(video, root)
    parsed = (root / ".stages" / "parsing.json").stat().st_mtime_ns
    clip = preprocess(video, root, background=tmp_path / "room.png")
    assert np.abs(clip.background().astype(int) - room[0, 0]).max() < 8
    assert (root / ".stages" / "parsing.json").stat().st_mtime_ns == parsed
    write_image(tmp_path / "tall.png", room[:, :20])
    refused(video, tmp_path / "b", "other proportions", background=tmp_path / "tall.png")


def test_a_moving_camera_and_changing_light_are_told(tmp_path: Path) -> None:
    random = np.random.default_rng(0).integers(0, 90, (24, 32, 3), np.uint8)
    wall = np.repeat(np.repeat(random, 4, 0), 4, 1)

    def in_room(shift: int, light: float) -> Callable[[int, np.ndarray], np.ndarray]:
        def change(i: int, frame: np.ndarray) -> np.ndarray:
            room = np.roll(wall, shift * i // 4, 1)
            seen = np.where(fake_person(frame)[..., None] > 0.5, frame, room)
            return (seen * (1 - light * i / FRAMES)).astype(np.uint8)

        return change

    said = []
    for name, change in (
        ("still", in_room(0, 0)),
        ("moving", in_room(1, 0)),
        ("dim", in_room(0, 0.4)),
    ):
        clip = preprocess(film(tmp_path / f"{name}.mp4", change=change), tmp_path / name)
        said.append(" ".join(warnings_of(clip.root)))
    assert ["camera moves" in text for text in said] == [False, True, False]
    assert ["light changes" in text for text in said] == [False, False, True]


def test_the_longest_shot_is_used(tmp_path: Path) -> None:
    other = np.random.default_rng(1).integers(0, 255, (6, 8, 3), np.uint8)
    other = np.repeat(np.repeat(other, 16, 0), 16, 1)
    path = film(tmp_path / "a.mp4", change=lambda i, f: other if i < 4 else f)
    clip = preprocess(path, tmp_path / "clip")
    assert len(clip) == FRAMES - 4
    whole = preprocess(film(tmp_path / "b.mp4"), tmp_path / "whole")
    difference = clip.image(0).astype(float) - whole.image(4)
    assert np.abs(difference).mean() < 2
    with wave.open(str(clip.root / "aud.wav")) as file:
        assert file.getnframes() == (FRAMES - 4) * 640
    assert any("1 cut at 00:00.2" in text for text in warnings_of(clip.root))


def test_a_black_video_is_one_sentence(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", change=dark(0, 99))
    refused(path, tmp_path / "clip", "No face was found in any of the 30 frames")


def test_paths_with_spaces_and_other_letters(tmp_path: Path) -> None:
    folder = tmp_path / "мои видео" / "a b"
    folder.mkdir(parents=True)
    clip = preprocess(film(folder / "言葉 é.mp4"), folder / "клип 1")
    assert clip.meta["source"]["file"] == "言葉 é.mp4"
    assert clip.image(3).shape == (96, 128, 3)


def test_a_folder_nobody_may_write_to_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, make = film(tmp_path / "a.mp4"), Path.mkdir

    def refuse(self: Path, *arguments: object, **options: object) -> None:
        if "archive" in str(self):
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        make(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", refuse)
    refused(video, tmp_path / "archive" / "clip", r"clip cannot be written \(Permission denied\)")


IMAGES = ["7.jpg", "7.lms", "7.png"]
OTHERS = ["aud.wav", "landmarks.npy", "poses.npz", "transforms_val.json"]


@pytest.mark.parametrize("name", [*IMAGES, *OTHERS])
def test_a_full_disk_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when a file of this name is opened, by whatever writes it."""
    import builtins
    import io

    video, opened = film(tmp_path / "a.mp4"), io.open

    def full(file: object, mode: str = "r", *arguments: object, **options: object) -> object:
        path = Path(str(file))
        if set(mode) & set("wxa") and path.name in (name, _unfinished(name)):
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        return opened(file, mode, *arguments, **options)  # type: ignore[call-overload]

    for place in (builtins, io):
        monkeypatch.setattr(place, "open", full)
    refused(video, tmp_path / "clip", rf"{name} cannot be written \(No space left on device\)")


def _unfinished(name: str) -> str:
    """What a file is called until it is whole."""
    stem, suffix = name.split(".")
    return f".{stem}.{os.getpid()}{UNFINISHED}.{suffix}"


class Killed(BaseException):
    """As if the process were killed: no handler of the project's catches it."""


def test_killed_at_each_stage_and_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in every stage's work and before its stamp; each run goes on from there."""
    video = film(tmp_path / "a.mp4")
    root = tmp_path / "clip"
    began: list[str] = []
    deadly: list[tuple[str, str]] = []
    make, note, remove = stages._run, stages._write_stamp, shutil.rmtree

    def die() -> None:
        deadly.clear()
        raise Killed

    def removing(path: Path, **options: bool) -> None:
        if deadly:  # the dead do not clean up
            remove(path, **options)

    def running(stage: stages.Stage, *rest: object) -> None:
        began.append(stage.name)

        kind, run = type(stage), type(stage).run

        def work(self: stages.Stage, place: stages.Workspace) -> None:
            run(self, place)
            if deadly == [(self.name, "work")]:
                die()

        with monkeypatch.context() as patch:
            patch.setattr(kind, "run", work)
            make(stage, *rest)

    def stamping(path: Path, content: object) -> None:
        if deadly == [(path.stem, "stamp")]:
            die()
        note(path, content)

    monkeypatch.setattr(stages, "_run", running)
    monkeypatch.setattr(stages, "_write_stamp", stamping)
    monkeypatch.setattr(shutil, "rmtree", removing)
    deadly[:] = [("nothing", "")]
    whole = preprocess(video, tmp_path / "whole")
    order = began.copy()
    began.clear()
    for name in order:
        for moment in ("work", "stamp"):
            deadly[:] = [(name, moment)]
            with pytest.raises(Killed):
                preprocess(video, root)
    deadly[:] = [("nothing", "")]
    preprocess(video, root)
    assert order[:2] == ["cuts", "audio"] and order[-1] == "quality"
    # Once for each death and once to the end, and no stage before.
    assert began == [name for name in order for _ in range(3)]
    assert not list((root / ".stages").glob("*.part"))
    names = {path.relative_to(root) for path in root.rglob("*") if path.is_file()}
    assert names == {p.relative_to(whole.root) for p in whole.root.rglob("*") if p.is_file()}
    for name in ("transforms_train.json", "aud.wav", "gt_imgs/7.jpg", "torso_imgs/7.png"):
        assert (root / name).read_bytes() == (whole.root / name).read_bytes()


@pytest.mark.parametrize("folder", ["ori_imgs", "parsing", "torso_imgs"])
def test_interrupted_at_a_frame_and_repeated(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run writes no frame again that the first one finished, and the same clip."""
    video = film(tmp_path / "a.mp4")
    whole = preprocess(video, tmp_path / "whole")
    written: list[int] = []
    fatal = [17]
    write = layout._save

    def writing(path: Path, image: Image.Image) -> None:
        if path.parent.name == folder:
            if int(path.stem) in fatal:
                raise Killed
            written.append(int(path.stem))
        write(path, image)

    monkeypatch.setattr(layout, "_save", writing)
    with pytest.raises(Killed):
        preprocess(video, tmp_path / "clip")
    assert set(range(17)) <= set(written)
    fatal.clear()
    written.clear()
    root = preprocess(video, tmp_path / "clip").root
    assert set(written) == set(range(17, FRAMES))
    files = [path.relative_to(whole.root) for path in whole.root.glob("*/*") if path.is_file()]
    assert {path.parent.name for path in files} > {"ori_imgs", "parsing", "gt_imgs", "torso_imgs"}
    for name in files:
        if name.parent.name != ".stages":
            assert (root / name).read_bytes() == (whole.root / name).read_bytes(), name
