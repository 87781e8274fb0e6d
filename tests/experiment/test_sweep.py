"""A real sweep with two jobs at a time, of which some fail, and the report on it."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from radnerf import report

REPOSITORY = Path(__file__).parents[2]


def test_two_parallel_jobs_end_in_one_table(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    options = ("data.demo.seconds=1", "data.demo.size=32", "minutes=null", "steps=10", "previews=0")
    places = (f"outputs={tmp_path}/out", f"data.folder={tmp_path}/data", "logger=none")
    swept = ("encoder=tiledgrid,hashgrid", "stages=[preprocess,head,test],[wrong]")
    parallel = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = subprocess.run(
        [sys.executable, "train.py", "-m", *options, *places, *swept, *parallel],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert "2 of 4 jobs finished" in done.stdout, done.stdout + done.stderr
    assert len(re.findall(r"^    python train.py .*wrong", done.stdout, re.MULTILINE)) == 2
    notes = [json.loads(path.read_text()) for path in tmp_path.glob("out/sweeps/*/*/job.json")]
    assert sorted(note["status"] for note in notes) == ["failed", "failed", "finished", "finished"]

    report.main([str(tmp_path / "out"), "--out", str(tmp_path)])
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    finished = [row for row in rows if not row["problem"]]
    assert len(rows) == 4 and len(finished) == 2
    assert {row["encoder.spatial.kind"] for row in finished} == {"tiled", "hash"}
    assert len({row["full.psnr"] for row in finished}) == 2


def test_seeds_are_one_group_and_text_is_escaped(tmp_path: Path) -> None:
    for i, (name, seed, psnr) in enumerate(
        [("<a>", 0, 30.0), ("<a>", 1, 32.0), ("b", 0, 28.0), ("b", 1, 28.0)]
    ):
        home = tmp_path / f"run{i}"
        home.mkdir()
        (home / "config.yaml").write_text(f"loss: '{name}'\nseed: {seed}\n")
        (home / "run.json").write_text('{"finished": true}')
        (home / "metrics.json").write_text(json.dumps({"full.psnr": psnr}))
    runs = report.find_runs([tmp_path])
    first, second = report.group(runs)
    assert (first.mean("full.psnr"), second.mean("full.psnr")) == (31.0, 28.0)
    assert first.spread("full.psnr") == pytest.approx(2**0.5)
    page = report.html(runs)
    assert "31.000 ± 1.414" in page and '<span class="bad">(-3.000)</span>' in page
    assert "loss=&lt;a&gt;" in page and "<a>" not in page and "http" not in page
