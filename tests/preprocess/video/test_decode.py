from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from preprocess_videos import gray_ramp, tone, write_video

from radnerf.errors import UserError
from radnerf.preprocess.streams import ahead
from radnerf.preprocess.video.decode import probe, read_audio, read_frames


def even(fps: float, seconds: float) -> list[float]:
    return list(np.arange(round(fps * seconds)) / fps)


def uneven(seconds: float) -> list[float]:
    gaps = np.random.default_rng(1).uniform(0.01, 0.09, 200)
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    return list(times[times < seconds])


@pytest.mark.parametrize(
    "times",
    [even(25, 2), even(10, 2), even(60, 2), even(30_000 / 1001, 2), uneven(2)],
    ids=["25", "10", "60", "29.97", "variable"],
)
def test_any_frame_rate_becomes_25_frames_a_second(tmp_path: Path, times: list[float]) -> None:
    path = write_video(tmp_path / "a.mp4", gray_ramp(times), times, tone(2.0))
    video = probe(path)
    assert abs(video.n_frames - 50) <= 1
    shown = np.array([frame.mean() for frame in read_frames(video)])
    assert len(shown) == video.n_frames
    # Each output frame shows the source frame nearest to its time.
    wanted = [20 + 60 * min(times, key=lambda t: abs(t - i / 25)) for i in range(len(shown))]
    assert np.abs(shown - wanted).max() < 2.5


def test_rotation_flag_is_honoured(tmp_path: Path) -> None:
    marked = np.full((48, 80, 3), 30, np.uint8)
    marked[:16, :16] = 220
    path = write_video(tmp_path / "a.mp4", [marked] * 30, even(25, 1.2), tone(1.2))
    content = path.read_bytes()
    track = content.index(b"tkhd")
    identity = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    quarter = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    at = content.index(identity, track)
    path.write_bytes(content[:at] + quarter + content[at + len(quarter) :])
    video = probe(path)
    assert video.size == (80, 48)
    frame = next(iter(read_frames(video)))
    # The matrix says: turn clockwise for display, so the top left corner goes to the top right.
    assert frame.shape == (80, 48, 3)
    assert frame[4:12, 36:44].mean() > 180 > 60 > frame[4:12, 4:12].mean()


@pytest.mark.parametrize(
    ("size", "resolution", "fitted"),
    [((97, 75), None, (96, 76)), ((480, 640), 320, (240, 320)), ((120, 90), 400, (120, 90))],
)
def test_sizes_are_even_and_only_scaled_down(
    tmp_path: Path, size: tuple[int, int], resolution: int | None, fitted: tuple[int, int]
) -> None:
    frames = gray_ramp(even(25, 1.2), *size)
    path = write_video(tmp_path / "a.mp4", frames, even(25, 1.2), tone(1.2))
    video = probe(path)
    found = video.fit(resolution)
    assert np.abs(np.array(found) - fitted).max() <= 2
    assert found[0] % 2 == found[1] % 2 == 0
    assert next(iter(read_frames(video, found))).shape == (*found, 3)


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (8_000, 1), (48_000, 1)])
def test_sound_becomes_16_khz_mono(tmp_path: Path, rate: int, channels: int) -> None:
    sound = tone(2.0, rate, 330.0)
    sound = np.stack([sound, sound]) if channels == 2 else sound
    times = even(25, 2)
    path = write_video(tmp_path / "a.mp4", gray_ramp(times), times, sound, rate)
    heard = read_audio(path)
    assert abs(len(heard) - 32_000) < 1600
    middle = heard[8000:24_000]
    loudest = np.abs(np.fft.rfft(middle)).argmax() * 16_000 / len(middle)
    assert loudest == pytest.approx(330, abs=2)


def test_paths_with_spaces_and_other_letters(tmp_path: Path) -> None:
    folder = tmp_path / "my videos" / "вид 東"
    folder.mkdir(parents=True)
    times = even(25, 1.2)
    path = write_video(folder / "a b é.mp4", gray_ramp(times), times, tone(1.2))
    assert probe(path).n_frames == 30


def test_sound_that_ends_early_cuts_the_picture(tmp_path: Path) -> None:
    times = even(25, 3)
    path = write_video(tmp_path / "a.mp4", gray_ramp(times), times, tone(1.6))
    assert probe(path).n_frames == pytest.approx(1.6 * 25, abs=3)


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    times = even(25, 3)
    frames = [np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8) for i in range(75)]
    good = write_video(folder / "good.mp4", frames, times, tone(3.0))
    fast = write_video(
        folder / "fast.mp4", frames, times, tone(3.0), options={"movflags": "faststart"}
    )
    text = folder / "text.mp4"
    text.write_text("this is not a video\n" * 100)
    cut, cut_fast, empty = folder / "cut.mp4", folder / "cut_fast.mp4", folder / "empty.mp4"
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    cut_fast.write_bytes(fast.read_bytes()[: fast.stat().st_size // 3])
    empty.write_bytes(b"")
    silent = write_video(folder / "silent.mp4", frames, times, None)
    short = write_video(folder / "short.mp4", frames[:5], times[:5], tone(0.2))
    one = write_video(folder / "one.mp4", frames[:1], times[:1], tone(2.0))
    mute = write_video(folder / "mute.mp4", frames, times, np.zeros(0))
    return {
        "missing": (folder / "nowhere.mp4", "does not exist"),
        "folder": (folder, "is a folder"),
        "text": (text, "cannot be read as a video"),
        "cut": (cut, "cannot be read as a video"),
        "cut_fast": (cut_fast, "cut off"),
        "empty": (empty, "cannot be read as a video"),
        "silent": (silent, "no audio track"),
        "short": (short, "at least 1 s"),
        "one": (one, "at least 1 s"),
        "mute": (mute, "audio track"),
    }


def test_bad_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    for name, (path, words) in bad_files(tmp_path).items():
        with pytest.raises(UserError) as error:
            probe(path)
        message = str(error.value)
        assert words in message, (name, message)
        assert str(path) in message
        assert message.endswith(".")
        assert "\n" not in message


def test_audio_errors(tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no sound in here")
    with pytest.raises(UserError, match="cannot be read as audio"):
        read_audio(text)


def test_ahead_keeps_order_and_passes_errors_on() -> None:
    assert list(ahead(iter(range(50)), depth=3)) == list(range(50))

    def failing() -> object:
        yield 1
        raise UserError("gone.")

    items = ahead(iter(failing()))
    assert next(items) == 1
    with pytest.raises(UserError, match="gone"):
        next(items)
