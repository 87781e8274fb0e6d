import av
import cv2
import numpy as np
import pytest
from inference.fakes import write_wav

from radnerf.errors import UserError
from radnerf.inference.video import Sound, VideoWriter, comparison_strip, side_by_side
from radnerf.provenance import Marks


def decode(path):
    """Frames, sound [channels, samples] and its rate, as a player would have them."""
    with av.open(str(path)) as file:
        frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    with av.open(str(path)) as file:
        if not file.streams.audio:
            return frames, None, 0
        rate = file.streams.audio[0].rate
        blocks = [f.to_ndarray() for f in file.decode(audio=0)]
    return frames, np.concatenate(blocks, 1), rate


def write(path, n_frames, size=(32, 48), fps=25.0, sound=None):
    with VideoWriter(path, fps, sound) as video:
        for i in range(n_frames):
            video.write(np.full((*size, 3), 8 * i % 256, np.uint8))


def test_codecs_frames_and_rate(tmp_path):
    wav = write_wav(tmp_path / "a.wav", 1.0, 16000)
    write(tmp_path / "v.mp4", 25, sound=Sound.of_file(wav))
    with av.open(str(tmp_path / "v.mp4")) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert video.pix_fmt == "yuv420p" and video.average_rate == 25
        assert file.duration / av.time_base == pytest.approx(1.0, abs=0.05)
    assert len(decode(tmp_path / "v.mp4")[0]) == 25
    # Fast start: the index comes before the data.
    raw = (tmp_path / "v.mp4").read_bytes()
    assert raw.index(b"moov") < raw.index(b"mdat")


@pytest.mark.parametrize("fps", [24.0, 25.0, 29.97, 30000 / 1001, 60.0])
def test_frame_rates(tmp_path, fps):
    write(tmp_path / "v.mp4", 12, fps=fps)
    with av.open(str(tmp_path / "v.mp4")) as file:
        assert float(file.streams.video[0].average_rate) == pytest.approx(fps, rel=1e-4)
        assert sum(1 for _ in file.decode(video=0)) == 12


@pytest.mark.parametrize("size", [(32, 48), (31, 48), (32, 47), (31, 47)])
def test_odd_sizes_repeat_the_border(tmp_path, size):
    image = np.zeros((*size, 3), np.uint8)
    image[-1] = image[:, -1] = 255
    with VideoWriter(tmp_path / "v.mp4", 25.0, crf=1) as video:
        for _ in range(3):
            video.write(image)
    frame = decode(tmp_path / "v.mp4")[0][0]
    assert frame.shape == (32, 48, 3)
    even = np.pad(image, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), "edge").astype(int)
    assert np.abs(frame - even)[-1].mean() < 30 and np.abs(frame - even).mean() < 15


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 150, 120)])
def test_colors_survive_in_both_decoders(tmp_path, color):
    with VideoWriter(tmp_path / "v.mp4", 25.0) as video:
        for _ in range(3):
            video.write(np.full((64, 64, 3), color, np.uint8))
    ours = decode(tmp_path / "v.mp4")[0][0].reshape(-1, 3).mean(0)
    theirs = cv2.VideoCapture(str(tmp_path / "v.mp4")).read()[1][..., ::-1].reshape(-1, 3).mean(0)
    assert np.abs(ours - color).max() < 5 and np.abs(theirs - color).max() < 5


@pytest.mark.parametrize(
    ("rate", "channels", "expected"),
    [(8000, 1, 8000), (16000, 1, 16000), (44100, 2, 44100), (96000, 2, 48000), (37800, 1, 48000)],
)
def test_sound_keeps_its_quality_pitch_and_length(tmp_path, rate, channels, expected):
    wav = write_wav(tmp_path / "a.wav", 1.3, rate, channels)
    write(tmp_path / "v.mp4", 33, sound=Sound.of_file(wav))
    _, sound, decoded_rate = decode(tmp_path / "v.mp4")
    assert decoded_rate == expected and len(sound) == channels
    assert sound.shape[1] / expected == pytest.approx(1.3, abs=2048 / expected)
    steady = sound[0, expected // 4 : expected]
    spectrum = np.abs(np.fft.rfft(steady * np.hanning(len(steady))))
    assert spectrum.argmax() * expected / len(steady) == pytest.approx(440, abs=3)
    assert np.abs(steady).max() == pytest.approx(0.4, abs=0.05)


def test_sound_from_samples_longer_than_the_picture(tmp_path):
    samples = np.sin(np.arange(16000) / 10).astype(np.float32) / 2
    write(tmp_path / "v.mp4", 2, sound=Sound.of_samples(samples, 16000))
    frames, sound, _ = decode(tmp_path / "v.mp4")
    assert len(frames) == 2 and sound.shape[1] == pytest.approx(16000, abs=2048)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_sound_and_picture_meet(tmp_path, rate):
    click = np.zeros(2 * rate, np.float32)
    click[rate : rate + 2] = 0.9, -0.9
    with VideoWriter(tmp_path / "v.mp4", 25.0, Sound.of_samples(click, rate)) as video:
        for i in range(50):
            video.write(np.full((32, 32, 3), 255 * (i == 25), np.uint8))
    frames, sound, _ = decode(tmp_path / "v.mp4")
    assert [i for i, f in enumerate(frames) if f.mean() > 100] == [25]
    assert np.abs(sound[0]).argmax() / rate == pytest.approx(1.0, abs=0.002)


def test_nothing_is_left_after_a_failure(tmp_path):
    with pytest.raises(RuntimeError), VideoWriter(tmp_path / "v.mp4", 25.0) as video:
        video.write(np.zeros((32, 32, 3), np.uint8))
        assert len(list(tmp_path.iterdir())) == 1
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_failure_keeps_the_old_video(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "v.mp4", 25.0) as video:
        video.write(np.zeros((32, 32, 3), np.uint8))
        raise KeyboardInterrupt
    assert (tmp_path / "v.mp4").read_bytes() == b"old"


def test_frames_of_another_size_are_refused(tmp_path):
    with pytest.raises(ValueError, match="first"), VideoWriter(tmp_path / "v.mp4", 25.0) as video:
        video.write(np.zeros((32, 32, 3), np.uint8))
        video.write(np.zeros((32, 40, 3), np.uint8))


@pytest.mark.parametrize("name", ["video", "video.avi", "folder.mp4"])
def test_names_that_are_no_video(tmp_path, name):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UserError, match=r"ends in \.mp4"):
        VideoWriter(tmp_path / name, 25.0)


def test_video_without_sound_is_no_audio_file(tmp_path):
    write(tmp_path / "v.mp4", 3)
    with pytest.raises(UserError, match="no audio track"):
        Sound.of_file(tmp_path / "v.mp4")


def test_comparisons_show_the_frames_under_a_bar(tmp_path):
    truth, rendering = np.full((40, 60, 3), 10, np.uint8), np.full((40, 60, 3), 200, np.uint8)
    both = side_by_side([truth, rendering])
    assert both.shape[1] == 120 and both.shape[0] > 40
    assert (both[-40:, :60] == 10).all() and (both[-40:, 60:] == 200).all()
    assert both[:-40, :60].max() > 100, "a caption"
    (tmp_path / "p.safetensors").write_bytes(b"portrait")
    bare = Marks.of(tmp_path / "p.safetensors", provenance="none", watermark="none")
    rows = [[truth] * 3, [rendering] * 3]
    comparison_strip(tmp_path / "s.png", rows, ["truth", "ours"], bare)
    strip = cv2.imread(str(tmp_path / "s.png"))
    assert strip.shape == (2 * both.shape[0], 180, 3)
