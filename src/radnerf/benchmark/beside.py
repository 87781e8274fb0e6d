"""Training, preprocessing and frames beside other programs, or under a quota, in turns with none.

This file is also the program of a second training, see SECOND.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table

from radnerf.benchmark.frames import Frames
from radnerf.benchmark.portraits import stand_in
from radnerf.callbacks import StepControl
from radnerf.data.datamodule import ClipDataModule
from radnerf.data.demo import make_demo_clip
from radnerf.errors import UserError
from radnerf.experiment.build import build_portrait, build_stage
from radnerf.experiment.compile import compile_ahead
from radnerf.experiment.launch import make_trainer
from radnerf.experiment.plan import TRAINING
from radnerf.fields.audio_net import mouth_codes, pretrain_audio_net
from radnerf.load import GROUPS
from radnerf.modules.budget import Budget
from radnerf.team import team

if TYPE_CHECKING:
    from radnerf.benchmark.report import Report

# Busy until whoever started it is gone.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
SECOND = "training"
WARM_START_STEPS = 25  # of a unit of work
FIRST = "start"  # from the command to the first steps
UNITS = {
    "warm_start": f"{WARM_START_STEPS} steps/s",
    "frames": "frames/s",
    "preprocess": "videos/s",
    FIRST: "starts/s",
}


class Programs(AbstractContextManager["Programs"]):
    """Other programs that can be let run and stopped."""

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        if not hasattr(signal, "SIGSTOP"):
            raise UserError("Programs cannot be stopped on this system, so none is measured here.")
        self.running = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands
        ]

    def wait_for_a_word(self) -> None:
        """Until each has printed a line."""
        for process in self.running:
            assert process.stdout
            process.stdout.readline()

    def switch(self, on: bool) -> None:
        for process in self.running:
            process.send_signal(signal.SIGCONT if on else signal.SIGSTOP)

    def __exit__(self, *_error: object) -> None:
        for process in self.running:
            process.kill()
            process.wait()


class Quota(AbstractContextManager["Quota"]):
    """A control group around this process and its threads, which limits them when it is told to.

    Raises:
        UserError: this system or this user cannot make one.
    """

    def __init__(self, cores: float) -> None:
        self.cores = cores
        self.old = (GROUPS / "cpu").is_dir()  # version 1 of control groups
        self.root = GROUPS / "cpu" if self.old else GROUPS
        self.group = self.root / f"radnerf-{os.getpid()}"
        try:
            self.group.mkdir()
            self.switch(on=False)
            (self.group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError as error:
            raise UserError(f"A quota needs root and control groups: {error}.") from error

    def switch(self, on: bool) -> None:
        period = 100_000
        quota = round(self.cores * period)
        if self.old:
            (self.group / "cpu.cfs_quota_us").write_text(str(quota if on else -1))
        else:
            (self.group / "cpu.max").write_text(f"{quota if on else 'max'} {period}")

    def __exit__(self, *_error: object) -> None:
        (self.root / "cgroup.procs").write_text(str(os.getpid()))
        self.group.rmdir()


@dataclass
class Turns:
    """Units of work counted in turns: alone, beside, alone, beside.

    Attributes:
        switch: lets the others run, or stops them.
        seconds: of a turn, at least; a unit is never cut.
        count: turns.
        warm_up: units before the first turn.
        rates: units a second of every turn.
    """

    switch: Callable[[bool], None]
    seconds: float
    count: int = 4
    warm_up: int = 10
    rates: list[float] = field(default_factory=list)
    _units: int = 0
    _began: float = 0.0

    @property
    def over(self) -> bool:
        return len(self.rates) >= self.count

    def tick(self) -> None:
        """A unit is done."""
        if self.warm_up > 0:
            self.warm_up -= 1
            if self.warm_up == 0:
                self._begin()
            return
        self._units += 1
        took = time.perf_counter() - self._began
        if took >= self.seconds and not self.over:
            self.rates.append(self._units / took)
            self._begin()

    def _begin(self) -> None:
        self.switch(len(self.rates) % 2 == 1)
        self._units, self._began = 0, time.perf_counter()

    def report(self, name: str) -> Report:
        alone, beside = (self.rates[i::2] for i in (0, 1))
        a, b = sum(alone) / len(alone), sum(beside) / len(beside)
        return {
            f"beside.{name}.alone": a,
            f"beside.{name}.beside": b,
            f"beside.{name}.ratio": b / a,
            f"beside.{name}.turns": " ".join(f"{rate:.3g}" for rate in self.rates),
        }


class Work:
    """What is measured, on the demo clip and with the default configuration."""

    def __init__(self, conf: Path, folder: Path) -> None:
        with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
            self.config = compose("train", ["trainer=cpu", "logger=none"])
        root = folder / "demo"
        make_demo_clip(root, **self.config.data.demo)
        self.data = ClipDataModule(root, instantiate(self.config.audio.extractor))
        self.data.setup()
        self.portrait = build_portrait(self.config, self.data)
        compile_ahead(self.portrait, self.data, "cpu")

    def train(self, name: str, turns: Turns) -> None:
        """Steps of a stage, as train.py makes them."""
        changes = {"warm_start_steps": 0} if name == "head" else {}  # measured by itself
        module = build_stage(self.config, name, self.portrait, Budget(steps=3000), **changes)
        self.data.use(module.sampling)
        callbacks = [StepControl(), instantiate(self.config.callbacks.ema)]
        trainer = make_trainer(
            self.config.trainer,
            max_steps=-1,
            max_epochs=1,
            logger=False,
            callbacks=[*callbacks, _Count(turns)],
        )
        trainer.fit(module, datamodule=self.data)

    def warm_start(self, turns: Turns) -> None:
        """Steps of the audio net's warm start, some at a time."""
        data, frames = self.data, torch.arange(self.data.clip.n_train)
        codes = mouth_codes(data.mouth, self.portrait.audio_net.code_dim)[frames]
        augment = instantiate(self.config.audio.augment)
        team.elements()  # as in all of training
        while not turns.over:
            pretrain_audio_net(
                self.portrait.audio_net,
                lambda frame: data.conditioning(frame).audio,
                codes,
                augment,
                n_steps=WARM_START_STEPS,
            )
            turns.tick()
        team.rest()


class _Count(pl.Callback):
    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_batch_end(self, trainer: pl.Trainer, *_args: Any) -> None:
        self.turns.tick()
        trainer.should_stop = self.turns.over


def benchmark_beside(
    conf: Path,
    beside: int | str | None,
    quota: float | None = None,
    seconds: float = 5.0,
    video: Path | None = None,
    only: Sequence[str] = (),
) -> Report:
    """Units of work a second alone and beside others, in turns.

    Args:
        beside: so many programs that are busy all the time, or SECOND.
        quota: cores that this process may use, instead of other programs.
        seconds: of a turn.
        video: to preprocess; without one preprocessing is left out.
        only: names of what to measure; empty for all.

    Raises:
        UserError: an unknown name.
    """
    report: Report = {}
    if unknown := set(only) - {*TRAINING, *UNITS}:
        raise UserError(f"--only {unknown.pop()} is none of {', '.join([*TRAINING, *UNITS])}.")
    with TemporaryDirectory() as name:
        folder = Path(name)
        work = Work(conf, folder)
        subject = stand_in(conf, torch.device("cpu"))
        frames = Frames(subject, 256, "auto")

        def draw(turns: Turns) -> None:
            while not turns.over:
                frames.next()
                turns.tick()

        parts: dict[str, Callable[[Turns], None]] = {
            **{name: partial(work.train, name) for name in TRAINING},
            "warm_start": work.warm_start,
            "frames": draw,
        }
        if video:
            parts["preprocess"] = lambda turns: _preprocess(video, folder, turns)
        if beside:
            parts[FIRST] = lambda turns: _start(conf, folder, turns)
        with _others(conf, beside, quota) as switch:
            for name, part in parts.items():
                if only and name not in only:
                    continue
                switch(False)
                turns = Turns(switch, 0.0 if name in ("preprocess", FIRST) else seconds)
                turns.warm_up = 1 if name in ("preprocess", FIRST, "warm_start") else 10
                part(turns)
                report |= turns.report(name)
    return report


def show_beside(report: Report, console: Console | None = None) -> None:
    """A table for a person to read."""
    table = Table("what", "unit", "alone", "beside", "ratio", "turns", title_justify="left")
    names = [key.split(".")[1] for key in report if key.endswith(".ratio")]
    for name in names:
        rates = (float(report[f"beside.{name}.{key}"]) for key in ("alone", "beside", "ratio"))  # type: ignore[arg-type]
        shown = [f"{rate:.3g}" for rate in rates]
        table.add_row(name, UNITS.get(name, "steps/s"), *shown, str(report[f"beside.{name}.turns"]))
    (console or Console(highlight=False)).print(table)


@contextmanager
def _others(
    conf: Path, beside: int | str | None, quota: float | None
) -> Iterator[Callable[[bool], None]]:
    if quota is not None:
        with Quota(quota) as group:
            yield group.switch
        return
    second = [sys.executable, "-m", __name__, str(conf)]
    busy = [sys.executable, "-c", BUSY]
    commands = [second] if beside == SECOND else [busy] * int(beside or 0)
    with Programs(commands) as programs:
        if beside == SECOND:
            programs.wait_for_a_word()
        yield programs.switch


def _preprocess(video: Path, folder: Path, turns: Turns) -> None:
    from radnerf.preprocess import preprocess_video

    for number in itertools.count():
        if turns.over:
            return
        preprocess_video(video, folder / f"{number}", clip_id="beside", resolution=225)
        turns.tick()


def _start(conf: Path, folder: Path, turns: Turns) -> None:
    """From the command to the tenth step, kernels compiled before and the clip made."""
    command = [
        *(sys.executable, str(conf.parent / "train.py"), "stages=[preprocess,head]", "minutes=1"),
        *("logger=none", "trainer=cpu", f"data.folder={folder / 'data'}", f"outputs={folder}/out"),
    ]
    while not turns.over:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("head:"):
                    break
            process.kill()
        turns.tick()
        for state in (folder / "out").glob("*"):
            shutil.rmtree(state)


def main(conf: str) -> None:
    """A training that never ends; it says when it has begun."""

    def said(on: bool) -> None:
        print("trains", flush=True)

    with TemporaryDirectory() as folder:
        Work(Path(conf), Path(folder)).train("head", Turns(said, 1e9))


if __name__ == "__main__":
    main(sys.argv[1])
