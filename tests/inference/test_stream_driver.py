from itertools import pairwise

import numpy as np
import pytest
import torch
from inference.fakes import FakePortrait, make_bundle, make_portrait_config, write_wav
from inference.test_speech import CUTTINGS, cut

from radnerf import kernels
from radnerf.audio import load_audio
from radnerf.errors import UserError
from radnerf.inference.file_driver import FileDriver
from radnerf.inference.stream_driver import StreamDriver
from radnerf.rendering.portrait import Portrait

RATE = 16_000


@pytest.fixture
def portrait(monkeypatch):
    fake = FakePortrait()
    fake.stand_in(monkeypatch)
    return fake


@pytest.fixture
def same_pixels():
    """Threads that draw a frame together round a pixel in a million otherwise, now and then."""
    before = kernels.get_backend()
    kernels.set_backend("reference")
    yield
    kernels.set_backend(before)


def talk(driver, wave, rate=RATE, cutting="7 ms"):
    """Frames of an utterance, taken as soon as there are any."""
    frames = []
    for piece in cut(wave, cutting):
        driver.push(piece, rate)
        frames += driver.frames()
    driver.end()
    return [*frames, *driver.frames()]


@pytest.mark.parametrize("cutting", CUTTINGS[1:])
def test_any_cutting_gives_the_frames_of_the_file(tmp_path, cutting, same_pixels):
    torch.manual_seed(0)
    config = make_portrait_config()
    bundle = make_bundle(portrait=config, weights=Portrait.from_config(config).state_dict())
    bundle.weights["rest_code"] += 0.3
    path = tmp_path / "a.wav"
    write_wav(path, 0.9, RATE, silence=0.5)
    of_file = FileDriver(bundle, path, pose="orbit", eyes="blink", device="cpu")
    driver = StreamDriver(
        bundle, "orbit", "blink", device="cpu", rate=RATE, gain=of_file.recording.gain
    )
    wave = load_audio(path)
    live = talk(driver, wave, cutting=cutting)
    assert len(live) == len(of_file) == 35
    assert all(np.array_equal(a.image, b) for a, b in zip(live, of_file, strict=True))
    assert len({frame.image.tobytes() for frame in live}) > 25
    assert np.array_equal(np.concatenate([frame.sound for frame in live]), wave)


def test_sound_of_another_rate_and_kind_is_the_files(tmp_path, portrait):
    path = write_wav(tmp_path / "a.wav", 1.0, 44_100)
    of_file = FileDriver(make_bundle(), path)
    driver = StreamDriver(make_bundle(), gain=of_file.recording.gain)
    time = np.arange(44_100) / 44_100
    tone = (0.4 * np.sin(2 * np.pi * 440 * time) * 32767).astype("<i2")
    live = talk(driver, tone, 44_100)
    assert all(np.array_equal(a.image, b) for a, b in zip(live, of_file, strict=True))
    assert all(len(frame.sound) == 1920 for frame in live)
    sound = np.concatenate([frame.sound for frame in live])
    expected = 0.4 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)
    assert np.abs(sound - expected)[100:-100].max() < 2e-3
    stereo = StreamDriver(make_bundle(), gain=of_file.recording.gain)
    stereo.push(np.stack([tone, tone]), 44_100)
    stereo.end()
    assert np.array_equal(np.concatenate([frame.sound for frame in stereo.frames()]), sound)


@pytest.mark.parametrize("fps", [25.0, 30.0, 24000 / 1001])
@pytest.mark.parametrize("n_samples", [1, 5000, 16_000, 16_321])
def test_no_sound_is_dropped_and_time_goes_on(portrait, fps, n_samples):
    driver = StreamDriver(make_bundle(fps=fps), rate=RATE)
    random = np.random.default_rng(0)
    said = [random.uniform(-0.5, 0.5, n_samples).astype(np.float32) for _ in range(3)]
    frames = []
    for number, wave in enumerate(said):
        frames += talk(driver, wave, cutting=CUTTINGS[number + 1])
        frames.append(driver.idle())
    assert [frame.position for frame in frames] == [
        round(i * RATE / fps) for i in range(len(frames))
    ]
    assert driver.position == round(len(frames) * RATE / fps)
    sound = np.concatenate([frame.sound for frame in frames])
    place = 0
    for wave in said:
        place += int(np.flatnonzero(sound[place:])[0])
        assert np.array_equal(sound[place : place + n_samples], wave)
        place += n_samples
    assert not sound[place:].any()
    idle = [frame for frame in frames if not frame.speaking]
    assert len(idle) == 3 and not any(frame.sound.any() for frame in idle)


def test_frames_wait_for_the_lookahead(portrait):
    driver = StreamDriver(make_bundle(), rate=RATE)
    assert driver.lookahead == pytest.approx(0.3825, abs=1e-9)
    silence = np.zeros(20, np.float32)
    for n_samples in range(20, RATE, 20):
        driver.push(silence, RATE)
        n_frames = int(max(0.0, n_samples / RATE - driver.lookahead) * 25 + 1e-6)
        assert driver.ready == n_frames + (n_samples >= driver.lookahead * RATE)


def test_an_interrupt_leaves_no_stale_frame_and_shuts_the_mouth(portrait):
    driver = StreamDriver(make_bundle(), rate=RATE, gain=1.0)
    loud = 0.3 * np.sin(np.arange(30 * RATE) / 7).astype(np.float32)
    driver.push(loud, RATE)
    before = [driver.take() for _ in range(20)]
    assert all(frame is not None and frame.speaking for frame in before)
    driver.interrupt()
    assert driver.ready == 0 and driver.take() is None
    quiet = [driver.idle() for _ in range(3)]
    codes = [call[4] for call in portrait.calls]
    opened = codes[19] + 1  # the mouth rests at -1
    assert opened > 1
    assert [code + 1 for code in codes[20:]] == pytest.approx(
        [opened * 0.35**k for k in (1, 2, 3)], abs=1e-5
    )
    assert not any(frame.sound.any() or frame.speaking for frame in quiet)

    driver.push(np.zeros(RATE, np.float32), RATE)
    driver.end()
    after = list(driver.frames())
    assert len(after) == 25 and not any(frame.sound.any() for frame in after)
    assert max(call[4] for call in portrait.calls[23:]) < -0.9, "nothing of the old sound"
    assert [frame.position for frame in (*before, *quiet, *after)] == [640 * i for i in range(48)]


def test_speech_goes_on_after_a_gap_and_begins_without_a_jump(portrait):
    wave = 0.3 * np.sin(np.arange(2 * RATE) / 7).astype(np.float32)
    driver, steady = (StreamDriver(make_bundle(), rate=RATE, gain=1.0) for _ in range(2))
    expected = talk(steady, wave)
    frames = [driver.idle()]
    driver.push(wave[:RATE], RATE)
    frames += driver.frames()
    frames += [driver.idle() for _ in range(9)]
    driver.push(wave[RATE:], RATE)
    driver.end()
    frames += driver.frames()
    spoken = [frame for frame in frames if frame.speaking]
    assert len(spoken) == len(expected) == 50
    sound = np.concatenate([frame.sound for frame in spoken])
    assert np.array_equal(sound, np.concatenate([frame.sound for frame in expected]))
    codes = [call[4] for call in portrait.calls[50:]]
    first = portrait.calls[0][4]
    assert codes[0] == -1 and codes[1] == pytest.approx(-0.35 + 0.65 * first, abs=1e-5)
    assert first > 0


def test_idle_moves_head_and_eyes_and_can_be_left_undrawn(portrait):
    driver = StreamDriver(make_bundle(), eyes="own", rate=RATE)
    frames = [driver.idle() for _ in range(5)]
    poses = [call[0] for call in portrait.calls]
    assert not any(torch.equal(a, b) for a, b in pairwise(poses))
    assert {call[4] for call in portrait.calls} == {-1.0}
    undrawn = driver.idle(draw=False)
    assert undrawn.image is None and undrawn.position == 5 * 640 and len(portrait.calls) == 5
    driver.push(np.ones(RATE, np.float32), RATE)
    spoken = driver.take(draw=False)
    assert spoken.image is None and spoken.sound.all() and len(portrait.calls) == 5
    assert frames[4].image is not None


@pytest.mark.parametrize(
    ("samples", "rate", "words"),
    [
        (np.zeros(10, np.float32), 7_999, "give 8000 to 192000"),
        (np.zeros(10, np.float32), 192_001, "give 8000"),
        (np.zeros(10, np.int32), RATE, "floats or 16-bit numbers, not int32"),
        (np.zeros((1, 2, 3), np.float32), RATE, "channels"),
    ],
)
def test_sound_that_is_none_is_refused_in_a_sentence(portrait, samples, rate, words):
    driver = StreamDriver(make_bundle())
    with pytest.raises(UserError, match=words):
        driver.push(samples, rate)
    driver.end()
    assert driver.ready == 0


def test_a_changed_rate_and_broken_numbers(portrait):
    driver = StreamDriver(make_bundle(), rate=RATE)
    driver.push(np.array([np.nan, np.inf, -9.0, 0.5], np.float64), RATE)
    with pytest.raises(UserError, match="changed from 16000 to 48000"):
        driver.push(np.zeros(5, np.float32), 48_000)
    driver.end()
    (frame,) = driver.frames()
    assert frame.sound[:5].tolist() == [0.0, 0.0, -1.0, 0.5, 0.0]
    driver.push(np.zeros(5, np.float32), 48_000)


def test_hours_of_speech_keep_nothing(portrait):
    driver = StreamDriver(make_bundle(), rate=RATE)
    silence = np.zeros(RATE, np.float32)
    for _ in range(120):
        driver.push(silence, RATE)
        while driver.take(draw=False) is not None:
            pass
    (utterance,) = driver._utterances
    assert sum(map(len, utterance.sound)) < RATE and not utterance.codes
    assert len(driver._speech._frame_windows) < 16
