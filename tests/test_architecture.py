"""docs/architecture.md as it stands: its package is written, trained, saved, loaded, rendered."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import av
import pytest
from inference.fakes import write_wav

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "architecture.md"
# The page's commands are for a real training; these make them short.
SHORT = (
    *("data.demo.seconds=2", "data.demo.size=48", "logger=none", "minutes=null", "previews=1"),
    *("trainer=cpu", "stages=[preprocess,head,lips,torso,joint]"),
    *("model.stages.head.warm_start_steps=5", "model.stages.head.sampling.n_rays=1024"),
)


def blocks(language: str) -> list[str]:
    """The page's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def commands(what: str) -> list[list[str]]:
    """The page's commands that begin so, without those that are cut short."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(what) and "..." not in line]


def run(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(REPOSITORY / command[1]), *command[2:]]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    return subprocess.run(
        program, cwd=folder, env=environment, capture_output=True, text=True, timeout=400
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page's package is."""
    folder = tmp_path_factory.mktemp("cards")
    for block in (*blocks("python"), *blocks("yaml")):
        name, _, text = block.partition("\n")
        path = folder / name.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)
    write_wav(folder / "speech.wav", 1.0, 16000)
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """The portrait of the page's first training."""
    ended = run(folder, [*commands("python train.py")[0], *SHORT])
    assert ended.returncode == 0, ended.stderr
    return folder / "outputs" / "demo" / "latest" / "portrait.safetensors"


def test_the_package_is_short(folder: Path) -> None:
    text = (folder / "cards" / "parts.py").read_text()
    assert sum(bool(line.strip()) for line in text.splitlines()) < 60


def test_the_portrait_is_of_the_packages_own_parts(trained: Path) -> None:
    header = trained.read_bytes()
    length = int.from_bytes(header[:8], "little")
    facts = json.loads(json.loads(header[8 : 8 + length])["__metadata__"]["facts"])
    assert facts["portrait"]["head"]["_target_"] == "cards.parts.Card"
    assert facts["portrait"]["head"]["encoder"]["_target_"] == "cards.parts.Waves"
    assert facts["extractor"]["name"] == "loudness"


def test_it_is_rendered(folder: Path, trained: Path) -> None:
    (command,) = commands("python render.py")
    ended = run(folder, command)
    assert ended.returncode == 0, ended.stderr
    with av.open(str(folder / "card.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 25


def test_without_the_plugin_one_sentence_says_what_is_missing(folder: Path, trained: Path) -> None:
    (command,) = commands("python render.py")
    ended = run(folder, [part for part in command if not part.startswith("plugins=")])
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert "cards.parts.Card" in ended.stderr and "plugins=[cards.parts]" in ended.stderr


def test_the_other_kinds_train_too(folder: Path) -> None:
    ended = run(folder, [*commands("python train.py")[1], *SHORT, "outputs=others"])
    assert ended.returncode == 0, ended.stderr
    assert (folder / "others" / "demo" / "latest" / "portrait.safetensors").is_file()
