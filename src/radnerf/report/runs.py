"""What the folders of runs and the notes of sweeps say, and runs of one group put together."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from radnerf.errors import UserError
from radnerf.sweep import NOTE

# They differ between runs without being a choice of the experiment's.
NOT_COMPARED = ("seed", "outputs", "consent")


@dataclass
class Run:
    """What a run's folder, or a failed job's note, says."""

    name: str
    options: dict[str, Any]  # the resolved config, flat
    metrics: dict[str, Any]
    problem: str = ""  # why there are no metrics
    command: str = ""  # that repeats it alone, of a failed job
    folder: Path | None = None
    sweep: str = ""
    overrides: list[str] = field(default_factory=list)

    @property
    def chosen(self) -> dict[str, str]:
        """The overrides by their names, but what tells runs apart without being a choice."""
        pairs = (part.lstrip("+").partition("=")[::2] for part in self.overrides)
        return {name: value for name, value in pairs if name not in NOT_COMPARED}

    @property
    def strip(self) -> Path | None:
        """The picture of its held-out frames."""
        path = self.folder / "test.png" if self.folder else None
        return path if path and path.is_file() else None


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs and the failed jobs of sweeps in folders, at any depth.

    A job that failed and was then repeated with success is not a failure.

    Raises:
        UserError: a folder does not exist or holds no run.
    """
    runs: dict[Path, Run] = {}
    notes: dict[Path, dict[str, Any]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}: give folders of runs, such as outputs.")
        for path in sorted(folder.rglob("run.json")):
            home = path.parent.resolve()
            if (home / "config.yaml").is_file():
                runs[home] = _run(home)
        for path in sorted(folder.rglob(NOTE)):
            notes[path.parent.resolve()] = _json(path)
    for home, note in notes.items():
        if note.get("status") != "failed":
            continue
        overrides = list(note.get("overrides", []))
        same = [run for run in runs.values() if run.overrides == overrides]
        begun = [run for run in same if run.sweep == home.parent.name and run.problem]
        if begun:
            begun[0].problem, begun[0].command = str(note["error"]), str(note["command"])
        elif not any(run.metrics for run in same):
            name = "/".join(home.parts[-2:])
            problem, command = str(note["error"]), str(note["command"])
            runs[home] = Run(name, {}, {}, problem, command, overrides=overrides)
    if not runs:
        raise UserError(f"There is no run in {', '.join(map(str, folders))}: train first.")
    return list(runs.values())


def _run(home: Path) -> Run:
    config = OmegaConf.to_container(OmegaConf.load(home / "config.yaml"))
    metrics, state = _json(home / "metrics.json"), _json(home / "run.json")
    return Run(
        name="/".join(home.parts[-2:]),
        options=dict(_flat(config)),
        metrics=metrics,
        problem="" if metrics else "no test" if state.get("finished") else "not finished",
        folder=home,
        sweep=str(state.get("sweep", "")),
        overrides=list(state.get("overrides", [])),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [pair for key, part in value.items() for pair in _flat(part, f"{prefix}{key}.")]
    return [(prefix[:-1], value)]


def differing(runs: Sequence[Run]) -> list[str]:
    """Options that do not have the same value in all runs that have options."""
    runs = [run for run in runs if run.options]
    names = dict.fromkeys(name for run in runs for name in run.options)
    return [
        name
        for name in names
        if name not in NOT_COMPARED and len({str(run.options.get(name)) for run in runs}) > 1
    ]


@dataclass
class Group:
    """Runs that differ in nothing but their seed."""

    choices: dict[str, str]  # what was chosen, of what differs between groups
    runs: list[Run]

    @property
    def label(self) -> str:
        """Its choices in a line."""
        return ", ".join(f"{name}={value}" for name, value in self.choices.items()) or "default"

    def values(self, metric: str) -> list[float]:
        """A metric of all its runs that have it."""
        found = [run.metrics.get(metric) for run in self.runs]
        return [float(v) for v in found if isinstance(v, int | float) and not isinstance(v, bool)]

    def mean(self, metric: str) -> float | None:
        values = self.values(metric)
        return statistics.fmean(values) if values else None

    def std(self, metric: str) -> float | None:
        """Standard deviation over the seeds, of two or more."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None


def group(runs: Sequence[Run]) -> list[Group]:
    """Runs with metrics, put together when only their seed differs."""
    runs = [run for run in runs if run.metrics]
    options, members = differing(runs), defaultdict(list)
    for run in runs:
        members[tuple(str(run.options.get(name)) for name in options)].append(run)
    chosen = [found[0].chosen for found in members.values()]
    names = list(dict.fromkeys(name for one in chosen for name in one))
    names = [name for name in names if len({one.get(name) for one in chosen}) > 1]
    groups = []
    for key, found in members.items():
        picked = {name: found[0].chosen[name] for name in names if name in found[0].chosen}
        if not names:  # runs of programs of before, or not by command
            picked = dict(zip(options, key, strict=True))
        groups.append(Group(picked, found))
    return groups


def baseline_of(groups: Sequence[Group], wanted: Sequence[str]) -> Group:
    """The group with all these choices (name=value), the first when there are none.

    Raises:
        UserError: no group has them, or several.
    """
    if not wanted:
        return groups[0]
    found = [one for one in groups if set(wanted) <= {f"{n}={v}" for n, v in one.choices.items()}]
    if len(found) != 1:
        known = "; ".join(one.label for one in groups)
        raise UserError(
            f"--baseline {' '.join(wanted)} fits {len(found)} groups instead of one: {known}."
        )
    return found[0]


@dataclass(frozen=True)
class Delta:
    """How far a group's mean is from the baseline's."""

    value: float
    error: float | None  # standard error from the seeds' deviation; None without repeated seeds

    @property
    def clear(self) -> bool:
        """Whether it is more than twice its standard error."""
        return self.error is not None and abs(self.value) > 2 * self.error


def delta(one: Group, base: Group, metric: str, pooled: float | None) -> Delta | None:
    """Difference of a group to the baseline in a metric, or None where one has no figure."""
    mean, reference = one.mean(metric), base.mean(metric)
    if mean is None or reference is None:
        return None
    counts = len(one.values(metric)), len(base.values(metric))
    error = None if pooled is None else pooled * sum(1 / n for n in counts) ** 0.5
    return Delta(mean - reference, error)


def pooled_std(groups: Sequence[Group], metric: str) -> float | None:
    """Standard deviation over seeds, taken to be the same in all groups; None without any."""
    repeated = [values for one in groups if len(values := one.values(metric)) > 1]
    freedom = sum(len(values) - 1 for values in repeated)
    if not freedom:
        return None
    return (sum((len(v) - 1) * statistics.variance(v) for v in repeated) / freedom) ** 0.5
