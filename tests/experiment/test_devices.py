"""Two processes train what one trains, and end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from experiment.tiny import REPOSITORY, config, grids, grids_and_training, overrides
from omegaconf import OmegaConf

from radnerf.audio import MelExtractor
from radnerf.data.datamodule import ClipDataModule, Sampling
from radnerf.data.sampling import RegionFractions
from radnerf.errors import UserError
from radnerf.experiment import launch, run
from radnerf.runtime import ranks

DDP = ["trainer=ddp", "trainer.devices=2"]


def test_two_processes_train_as_one(lasting_tiny_clip: Path, tmp_path: Path) -> None:
    frequent = [f"++model.stages.{stage}.update_every=4" for stage in ("head", "torso", "joint")]
    shares = "model.stage_fractions={head:40,lips:8,torso:12,joint:20}"
    more = ["steps=80", shares, *frequent]
    alone = run(config(lasting_tiny_clip, tmp_path / "alone", *more))
    settings = OmegaConf.to_container(config(lasting_tiny_clip, tmp_path / "two", *DDP, *more))
    found, together = launch.launch(
        2,
        grids_and_training,
        OmegaConf.create(settings),
        tmp_path,
        "tiny",
        lasting_tiny_clip,
        0.0,
    )
    expected = grids(slice(0, 300))
    assert not [name for name in found if not np.array_equal(found[name], expected[name])]
    for stage, steps in {"head": 40, "lips": 8, "torso": 12, "joint": 20}.items():
        notes = [(tmp_path / f"{stage}.{rank}").read_text() for rank in (0, 1)]
        assert notes[0] == notes[1] and notes[0].endswith(f" {steps}")
    for name in ("head.psnr", "full.psnr"):
        assert together[name] == pytest.approx(alone[name], abs=0.3)
    (path,) = (path for path in (tmp_path / "two" / "tiny").iterdir() if not path.is_symlink())
    assert len(list((path / "previews").glob("*.png"))) == 4


@pytest.mark.parametrize("n_frames", [4, 1])
def test_shares_of_a_step_are_the_whole_step(
    tiny_clip: Path, monkeypatch: pytest.MonkeyPatch, n_frames: int
) -> None:
    data = ClipDataModule(tiny_clip, MelExtractor())
    data.setup()
    fractions = RegionFractions(head=0.5, lips=0.5)
    data.use(Sampling(n_frames=n_frames, n_rays=240, fractions=fractions, patch_every=2))
    frames = torch.tensor([3, 7, 3, 11])[:n_frames]
    nothing = torch.zeros(0, dtype=torch.long)
    for step in (0, 1):
        drawn = {"step": torch.tensor(step), "frame": frames, "next": nothing}
        whole = data.draw(drawn, 240)
        with monkeypatch.context() as patch:
            patch.setattr(ranks, "count", lambda: 2)
            parts = []
            for rank in (0, 1):
                patch.setattr(ranks, "rank", lambda rank=rank: rank)
                parts.append(data.draw(drawn, 240))
        if step == 1 and n_frames == 1:  # a patch is not cut in two
            assert all(torch.equal(part.target, whole.target) for part in parts)
            continue
        for name in ("xy", "target", "behind", "face"):
            both = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(both, getattr(whole, name))
        for name in ("eye", "index"):
            rows = [getattr(p.conditioning, name)[p.rays.frame] for p in (*parts, whole)]
            assert torch.equal(torch.cat(rows[:2]), rows[2])


def test_no_process_outlives_another(lasting_tiny_clip: Path, tmp_path: Path) -> None:
    more = ["steps=100000", "checkpoint_every_s=0.3", *DDP]
    command = [sys.executable, "train.py", *overrides(lasting_tiny_clip, tmp_path, *more)]
    first = start(command)
    await_line(first, "head:")
    await_file(tmp_path / "tiny" / "latest" / "checkpoints" / "head.ckpt")
    os.kill(workers_of(first.pid)[-1], signal.SIGKILL)
    errors = first.communicate(timeout=120)[1]
    assert first.returncode == 1
    assert errors.startswith("error: ") and errors.count("\n") == 1 and "SIGKILL" in errors, errors
    assert_gone(first.pid)

    again = start(command)
    await_line(again, "head: from step")
    await_line(again, "head:")
    again.send_signal(signal.SIGTERM)
    said, errors = again.communicate(timeout=120)
    assert again.returncode == 143 and "the same command goes on from here" in said, errors
    assert not errors
    assert_gone(again.pid)
    (path,) = (path for path in (tmp_path / "tiny").iterdir() if not path.is_symlink())
    assert (path / "checkpoints" / "head.ckpt").is_file()


def test_what_cannot_be_is_one_sentence(lasting_tiny_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs trainer=ddp"):
        run(config(lasting_tiny_clip, tmp_path, "trainer.devices=2"))
    with pytest.raises(UserError, match="steps"):
        run(config(lasting_tiny_clip, tmp_path, *DDP, "steps=-1"))


def test_slurm_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    slurm = {"NTASKS": 8, "PROCID": 5, "LOCALID": 1, "NODEID": 1, "STEP_ID": 0}
    slurm |= {"STEP_NUM_NODES": 2, "NODELIST": "node[07-08]", "JOB_ID": 70123}
    os.environ.update({f"SLURM_{name}": str(value) for name, value in slurm.items()})
    launch.adopt_slurm()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    assert [os.environ[name] for name in names] == ["5", "8", "1", "4", "node07"]
    assert launch.started()


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # and so a process group of its own
        env=os.environ | {"PYTHONPATH": "src", "OMP_NUM_THREADS": "1"},
    )


def await_line(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        if line.startswith(beginning):
            return
    raise AssertionError(process.stderr.read())


def await_file(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.is_file():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def workers_of(parent: int) -> list[int]:
    """Processes that a process has started to train, by number."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in children}
    return [child for child, command in commands.items() if "spawn_main" in command]


def assert_gone(group: int) -> None:
    """No process of the group is left, at the latest in a few seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("processes are left")
