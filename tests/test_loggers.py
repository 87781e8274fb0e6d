"""What a run leaves in W&B's offline files and in TensorBoard's."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import wandb
from experiment.tiny import config

from radnerf import loggers
from radnerf.errors import UserError
from radnerf.experiment import run

SHORT = ("steps=40", "previews=1", "stages=[head,test]")


def records(folder: Path) -> dict[str, list[Any]]:
    """The records of W&B's offline run in a folder, by their kind."""
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    store, found = DataStore(), defaultdict(list)
    store.open_for_scan(str(path))
    while data := store.scan_data():
        record = Record()
        record.ParseFromString(data)
        found[record.WhichOneof("record_type")].append(record)
    return found


def test_wandb_offline_holds_the_whole_run(
    lasting_tiny_clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    settings = config(lasting_tiny_clip, tmp_path / "out", *SHORT, "logger=wandb")
    metrics = run(settings)
    said = [line for line in capsys.readouterr().out.splitlines() if "W&B" in line]
    assert len(said) == 1 and "no API key, logging offline" in said[0]

    (home,) = (tmp_path / "out" / "tiny").glob("2*")
    found = records(home)
    (begun,) = [record.run for record in found["run"]]
    assert begun.display_name == f"tiny/{home.name}" and begun.project == "radnerf"
    options = {item.key: json.loads(item.value_json) for item in begun.config.update}
    for record in found["config"]:
        for item in record.config.update:
            options[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    assert options["loss"]["region"]["weight"] == settings.loss.region.weight
    assert options["stages"] == ["head", "test"]

    logged: dict[str, list[Any]] = defaultdict(list)
    for record in found["history"]:
        for item in record.history.item:
            logged[item.key or "/".join(item.nested_key)].append(json.loads(item.value_json))
    rates = logged["head/lr/grid"]
    assert len(rates) > 2 and rates[1] > rates[-1] > 0  # after the warm-up
    assert len(logged["head/psnr"]) == len(rates)
    assert logged["test/full.psnr"] == [pytest.approx(metrics["full.psnr"])]
    kinds = {name: logged[f"{name}/_type"] for name in ("preview/head", "test/strip", "test/video")}
    pictures = ["images/separated"]
    assert kinds == {
        "preview/head": pictures,
        "test/strip": pictures,
        "test/video": ["video-file"],
    }
    media = {path.suffix for path in home.glob("wandb/offline-run-*/files/media/**/*.*")}
    assert media == {".png", ".mp4"}
    (artifact,) = [record.artifact for record in found["artifact"]]
    assert artifact.name == "portrait-tiny" and artifact.type == "portrait"
    assert [entry.path for entry in artifact.manifest.contents] == ["portrait.safetensors"]
    assert found["exit"][0].exit.exit_code == 0


def test_tensorboard_has_curves_and_pictures(lasting_tiny_clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(config(lasting_tiny_clip, tmp_path, *SHORT, "logger=tensorboard"))
    (home,) = (tmp_path / "tiny").glob("2*")
    events = EventAccumulator(str(home / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"head/psnr", "head/lr/grid", "test/full.psnr"} <= set(tags["scalars"])
    assert {"preview/head", "test/strip"} <= set(tags["images"])


def test_tensorboard_without_its_package_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'radnerf\[tensorboard\]'"):
        loggers.tensorboard_logger(str(tmp_path))


def test_a_run_that_goes_on_goes_on_in_wandb(tmp_path: Path) -> None:
    numbers = []
    for name in ("a", "a", "b"):
        (tmp_path / name).mkdir(exist_ok=True)
        logger = loggers.wandb_logger("p", str(tmp_path / name), True)
        numbers.append(logger.experiment.id)
        loggers.close(logger)
    first, again, other = numbers
    assert first == again != other
    assert len(list(tmp_path.glob("a/wandb/offline-run-*"))) == 2


def test_wandb_out_of_reach_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(**_settings: Any) -> None:
        raise wandb.errors.CommError("Run initialization has timed out\nmore")

    monkeypatch.setattr(wandb, "init", unreachable)
    with pytest.raises(UserError, match=r"timed out; WANDB_MODE=offline logs"):
        loggers.wandb_logger("p", str(tmp_path), False)
