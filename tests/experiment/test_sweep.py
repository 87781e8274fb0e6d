"""A real sweep with two jobs at a time, of which some fail, the report on it, and the notebook."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from notebook_runner import run_notebook

from radnerf.report import __main__ as report

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def swept(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Folder and process of a sweep of 2 x 2 x 2 jobs, half of which cannot run."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    folder = tmp_path_factory.mktemp("sweep")
    options = ("data.demo.seconds=1", "data.demo.size=32", "steps=30", "previews=0")
    places = (f"outputs={folder}/outputs", f"data.folder={folder}/data", "logger=csv")
    choices = ("encoder=tiledgrid,hashgrid", "seed=0,1", "stages=[preprocess,head,test],[wrong]")
    parallel = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = subprocess.run(
        [sys.executable, "train.py", "-m", *options, *places, *choices, *parallel],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return folder, done


def test_two_parallel_jobs_end_in_one_table(
    swept: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder, done = swept
    assert done.returncode == 1, done.stderr
    assert "4 of 8 jobs finished" in done.stdout, done.stdout + done.stderr
    assert len(re.findall(r"^    python train.py .*wrong", done.stdout, re.MULTILINE)) == 4
    notes = [json.loads(path.read_text()) for path in folder.glob("outputs/sweeps/*/*/job.json")]
    assert sorted(note["status"] for note in notes) == ["failed"] * 4 + ["finished"] * 4

    report.main([str(folder / "outputs"), "--out", str(tmp_path)])
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    finished = [row for row in rows if not row["problem"]]
    assert len(rows) == 8 and len(finished) == 4
    chosen = [(row["encoder.spatial.kind"], row["seed"]) for row in finished]
    assert sorted(chosen) == [("hash", "0"), ("hash", "1"), ("tiled", "0"), ("tiled", "1")]
    assert len({row["full.psnr"] for row in finished}) == 4
    page = (tmp_path / "report.html").read_text()
    assert "4 runs in 2 groups, 4 without figures" in page


def test_the_notebook_on_sweeps_runs(
    swept: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    outputs = run_notebook("sweep.ipynb", swept[0])
    text = "".join(str(output.get("text", "")) for output in outputs)
    assert re.search(r"encoder=tiledgrid: 2 runs, seeds \[0, 1\]", text)
    assert re.search(r"encoder=hashgrid: [+-]\d+\.\d+ \(standard error \d", text)
    assert sum("image/png" in str(output.get("data")) for output in outputs) == 3
    assert (swept[0] / "outputs" / "report.html").is_file()


def test_a_launcher_that_is_not_installed_is_one_sentence(tmp_path: Path) -> None:
    for group, name, extra in (
        ("launcher", "ray", "ray"),
        ("launcher", "submitit_slurm", "slurm"),
        ("sweeper", "optuna", "optuna"),
    ):
        done = subprocess.run(
            [sys.executable, "train.py", "-m", f"hydra/{group}={name}", f"outputs={tmp_path}"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if "is not installed" not in done.stderr:
            pytest.importorskip(f"hydra_plugins.hydra_{name.split('_')[0]}_{group}")
        assert done.returncode == 1
        assert done.stderr == (
            f"error: hydra/{group}={name} is not installed: pip install 'radnerf[{extra}]'.\n"
        )
