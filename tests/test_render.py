"""render.py as a user calls it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from inference.fakes import make_bundle, make_portrait_config, write_wav

import render
from radnerf.cli import explain, quote
from radnerf.errors import UserError
from radnerf.rendering.portrait import Portrait

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with a portrait, sound, and things that are neither."""
    root = tmp_path_factory.mktemp("render (ü)")
    config = make_portrait_config()
    weights = Portrait.from_config(config).state_dict()
    make_bundle(portrait=config, weights=weights, size=(39, 30)).save(root / "p.safetensors")
    raw = (root / "p.safetensors").read_bytes()
    (root / "short.safetensors").write_bytes(raw[: len(raw) // 2])
    write_wav(root / "a b (1), x=y.wav", 0.5, 44100, 2)
    write_wav(root / "long.wav", 200, 16000)
    write_wav(root / "empty.wav", 0, 16000)
    (root / "text.wav").write_text("not sound")
    return root


def command(files, **options):
    values = {"portrait": "p.safetensors", "audio": "a b (1), x=y.wav", "out": "v=1, ü.mp4"}
    values |= {"kernels": "reference", "device": "cpu"} | options
    arguments = [f"{name}={value}" for name, value in values.items()]
    return [sys.executable, str(REPOSITORY / "render.py"), *arguments]


def call(files, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(files, **options),
        capture_output=True,
        text=True,
        cwd=files,
        env=environment,
        timeout=120,
        check=False,
    )


def test_video_of_a_real_portrait(files):
    before = set(files.iterdir())
    result = call(files, pose="orbit", eyes="blink", background="#00ff00", resolution=48)
    assert result.returncode == 0, result.stderr
    video = files / "v=1, ü.mp4"
    assert set(files.iterdir()) - before == {video}
    with av.open(str(video)) as file:
        frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
    assert len(frames) == 12 and frames[0].shape == (48, 38, 3)
    with av.open(str(video)) as file:
        assert file.streams.audio[0].rate == 44100 and file.streams.audio[0].channels == 2
        assert file.duration / av.time_base == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"portrait": "none.safetensors"}, "no portrait file none.safetensors"),
        ({"portrait": "short.safetensors"}, "short.safetensors is cut short"),
        ({"portrait": "long.wav"}, "long.wav is not a portrait file"),
        ({"audio": "none.wav"}, "no audio file none.wav"),
        ({"audio": "text.wav"}, "text.wav cannot be decoded"),
        ({"audio": "empty.wav"}, "empty.wav is empty"),
        ({"pose": "dance"}, "pose=dance"),
        ({"background": "#12"}, "background=#12"),
        ({"resolution": "big"}, "resolution=big"),
        ({"kernels": "magic"}, "magic"),
        ({"out": "p.safetensors"}, "would replace a file"),
        ({"out": "v.avi"}, "ends in .mp4"),
        ({"devices": 0}, "devices=0"),
    ],
)
def test_bad_input_is_one_sentence(files, monkeypatch, options, words):
    monkeypatch.chdir(files)
    before = set(files.iterdir())
    values = {"portrait": "p.safetensors", "audio": "a b (1), x=y.wav", "out": "bad.mp4"}
    values |= {"kernels": "reference", "device": "cpu"} | options
    with initialize_config_dir(str(REPOSITORY / "conf/render"), version_base="1.3"):
        config = compose("config", [quote(f"{name}={value}") for name, value in values.items()])
    with pytest.raises(UserError) as caught:
        try:
            render.main(config)
        except HydraException as error:
            raise UserError(explain(error, "render.py")) from error
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert set(files.iterdir()) == before


def test_bad_input_ends_the_program(files):
    before = set(files.iterdir())
    result = call(files, portrait="short.safetensors")
    assert result.returncode == 1 and not result.stdout
    assert result.stderr.startswith("error: short.safetensors is cut short")
    assert result.stderr.count("\n") == 1
    assert set(files.iterdir()) == before


def test_interrupted_rendering_leaves_nothing(files):
    before = set(files.iterdir())
    process = subprocess.Popen(
        command(files, audio="long.wav", out="long.mp4"),
        cwd=files,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while set(files.iterdir()) == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(files.iterdir()) != before, "the temporary file shows that it has begun"
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert set(files.iterdir()) == before
