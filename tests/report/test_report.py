"""Runs read from folders, put into groups, compared, and shown."""

from __future__ import annotations

import base64
import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from pytest import approx

from radnerf.data.clip import write_image
from radnerf.errors import UserError
from radnerf.report import __main__ as report
from radnerf.report import dashboard, page
from radnerf.report.runs import baseline_of, delta, find_runs, group, pooled_std


def write_run(
    folder: Path, loss: str, seed: int, psnr: float | None, sweep: str = "", **more: float
) -> Path:
    folder.mkdir(parents=True)
    overrides = [f"loss={loss}", f"seed={seed}", "outputs=o"]
    (folder / "config.yaml").write_text(f"loss: {{name: '{loss}'}}\nseed: {seed}\n")
    state = {"finished": psnr is not None, "overrides": overrides, "sweep": sweep}
    (folder / "run.json").write_text(json.dumps(state))
    if psnr is not None:
        metrics = {"full.psnr": psnr, "full.lpips": None, "device": "cpu", **more}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def write_note(sweep: Path, number: int, overrides: list[str], error: str) -> None:
    home = sweep / str(number)
    home.mkdir(parents=True)
    command = f"python train.py {' '.join(overrides)}"
    note = {"folder": str(home), "overrides": overrides, "command": command}
    (home / "job.json").write_text(json.dumps(note | {"status": "failed", "error": error}))


@pytest.fixture
def four_runs(tmp_path: Path) -> Path:
    """Two losses with two seeds each."""
    given = [("<a>", 0, 30.0), ("<a>", 1, 32.0), ("b", 0, 27.0), ("b", 1, 28.0)]
    for i, (loss, seed, psnr) in enumerate(given):
        write_run(tmp_path / "out" / f"run{i}", loss, seed, psnr)
    return tmp_path / "out"


def test_runs_that_differ_in_their_seed_alone_are_one_group(four_runs: Path) -> None:
    first, second = group(find_runs([four_runs]))
    assert (first.choices, second.choices) == ({"loss": "<a>"}, {"loss": "b"})
    assert (first.mean("full.psnr"), second.mean("full.psnr")) == (31.0, 27.5)
    assert first.std("full.psnr") == approx(2**0.5)
    assert first.mean("full.lpips") is None and first.mean("device") is None
    # Variances 2 and 0.5 of one degree of freedom each.
    pooled = pooled_std([first, second], "full.psnr")
    assert pooled == approx(1.25**0.5)
    change = delta(second, first, "full.psnr", pooled)
    assert change and change.value == -3.5 and change.error == approx(1.25**0.5)
    assert change.clear
    unknown = delta(second, first, "full.psnr", None)
    assert unknown and not unknown.clear


def test_the_baseline_is_chosen_by_its_options(four_runs: Path) -> None:
    groups = group(find_runs([four_runs]))
    assert baseline_of(groups, []) is groups[0]
    assert baseline_of(groups, ["loss=b"]) is groups[1]
    with pytest.raises(UserError, match=r"--baseline loss=c fits 0 groups .* loss=b"):
        baseline_of(groups, ["loss=c"])


def test_without_overrides_the_options_that_differ_name_a_group(tmp_path: Path) -> None:
    for name in "ab":
        home = write_run(tmp_path / name, name, 0, 30.0)
        (home / "run.json").write_text('{"finished": true}')
    assert [one.label for one in group(find_runs([tmp_path]))] == ["loss.name=a", "loss.name=b"]


def test_a_failed_job_is_listed_once_and_not_after_it_was_repeated(tmp_path: Path) -> None:
    sweep = tmp_path / "sweeps" / "monday"
    write_run(tmp_path / "c" / "begun", "a", 0, None, "monday")
    write_run(tmp_path / "c" / "repeated", "b", 0, 30.0)
    for i, loss in enumerate("abc"):
        write_note(sweep, i, [f"loss={loss}", "seed=0", "outputs=o"], f"no {loss}")
    runs = find_runs([tmp_path])
    assert {(run.name, run.problem) for run in runs} == {
        ("c/begun", "no a"),
        ("c/repeated", ""),
        ("monday/2", "no c"),
    }
    text = page.html(runs, groups := group(runs), groups[0])
    assert "1 runs in 1 groups, 2 without figures" in text
    assert "python train.py loss=a seed=0 outputs=o" in text and "no c" in text


def test_the_page_is_one_file_and_text_is_escaped(four_runs: Path, tmp_path: Path) -> None:
    report.main([str(four_runs), "--out", str(tmp_path), "--baseline", "loss=b"])
    text = (tmp_path / "report.html").read_text()
    assert "31.000 ± 1.414" in text and "&lt;a&gt;" in text and "<a>" not in text
    assert '<small class="good">+3.500 ± 1.118</small>' in text
    assert not re.findall(r"https?:|//\w+\.\w+/|<script|<link[^>]*href=\"[^d]", text)
    assert "full.lpips" not in text  # nobody has it
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    assert [row["full.psnr"] for row in rows] == ["30.0", "32.0", "27.0", "28.0"]
    assert [row["loss.name"] for row in rows] == ["<a>", "<a>", "b", "b"]


def test_one_seed_makes_no_claim(tmp_path: Path) -> None:
    for loss, psnr in (("a", 30.0), ("b", 20.0)):
        write_run(tmp_path / loss, loss, 0, psnr)
    text = page.html(runs := find_runs([tmp_path]), groups := group(runs), groups[0])
    assert "<small>−10.000</small>" in text and page.NO_ERROR in text


def test_less_is_better_where_it_is(tmp_path: Path) -> None:
    for i, loss in enumerate("aabb"):
        figures = {"full.lmd": 1.0 + i // 2 + 0.01 * i, "control.frozen_mouth.lmd": 1.0 + i // 2}
        write_run(tmp_path / str(i), loss, i % 2, 30.0, **figures)
    text = page.html(runs := find_runs([tmp_path]), groups := group(runs), groups[0])
    assert '<small class="bad">+1.020' in text
    assert "<small>+1.000 ± 0.000</small>" in text  # a control is neither good nor bad


def test_pictures_are_the_truth_once_and_every_rendering(tmp_path: Path) -> None:
    for i, loss in enumerate("ab"):
        rows = [np.full((9, 30, 3), value, np.uint8) for value in (10, 100 + 100 * i, 250)]
        write_image(write_run(tmp_path / loss, loss, 0, 30.0) / "test.png", np.concatenate(rows))
    text = page.html(runs := find_runs([tmp_path]), groups := group(runs), groups[0])
    found = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", text)]
    means = [cv2.imdecode(np.frombuffer(data, np.uint8), 1).mean() for data in found]
    assert means == approx([10, 100, 200], abs=2)


def test_no_runs_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, what in ((tmp_path, "There is no run in"), (tmp_path / "x", "There is no folder")):
        with pytest.raises(SystemExit, match="1"):
            report.main([str(folder), "--out", str(tmp_path)])
        assert capsys.readouterr().err.startswith(f"error: {what}")
    assert not list(tmp_path.iterdir())


class Server:
    """What W&B's server would be asked, and the least it has to answer."""

    def __init__(self) -> None:
        self.view: dict[str, str] = {}

    def projects(self, entity: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="p")]

    def execute(self, _api: object, _query: object, variables: dict[str, str]) -> dict[str, Any]:
        if "spec" not in variables:
            return {"project": {"internalId": "1"}}
        self.view = variables
        return {"upsertView": {"view": {"id": "7"}}}


def test_the_dashboard_is_of_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb_workspaces")
    from wandb_workspaces.reports.v2 import interface

    server = Server()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(interface, "_get_api", lambda: server)
    monkeypatch.setattr(interface, "execute_graphql", server.execute)
    monkeypatch.setattr(interface, "get_app_url", lambda api: "https://server")
    write_run(tmp_path / "c" / "alone", "c", 0, 29.0)
    for i, loss in enumerate("ab"):
        write_run(tmp_path / "c" / loss, loss, 0, 30.0 + i, "monday")
    runs = find_runs([tmp_path])
    url = dashboard.push("me/p", runs, group(runs), ("full.psnr", "full.lpips"), "T")
    assert url == "https://server/me/p/reports/T--7"
    assert server.view["displayName"] == "T" and server.view["entityName"] == "me"
    spec = server.view["spec"]
    assert "| loss=b | 1 | 31.000 |" in spec
    assert "test/full.psnr" in spec and "test/full.lpips" not in spec and "head/psnr" in spec
    assert dict(re.findall(r'"name":"(group|displayName)"},[^{}]*"value":"([^"]+)"', spec)) == {
        "group": "monday",
        "displayName": "c/alone",
    }


def test_a_dashboard_needs_a_key_and_a_network(
    four_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb_workspaces")
    runs = find_runs([four_runs])
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(UserError, match="wandb login"):
        dashboard.push("me/p", runs, group(runs), ("full.psnr",), "T")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="report in me/p cannot be made"):
        dashboard.push("me/p", runs, group(runs), ("full.psnr",), "T")
    monkeypatch.setattr(dashboard, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'radnerf\[dashboard\]'"):
        dashboard.push("me/p", runs, group(runs), ("full.psnr",), "T")
