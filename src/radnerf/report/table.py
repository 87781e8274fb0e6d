"""report.csv: a row a run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from radnerf.files import whole_file
from radnerf.report.runs import Run, differing


def write_csv(runs: Sequence[Run], path: Path) -> None:
    """A row a run: its folder, what is wrong, its seed, the options that differ, all metrics.

    Raises:
        UserError: the file cannot be written.
    """
    options = [*differing(runs), "seed"]
    metrics = sorted({name for run in runs for name in run.metrics if name not in options})
    with whole_file(path) as part, part.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["run", "problem", "overrides", *options, *metrics])
        for run in runs:
            chosen = [run.options.get(name) for name in options]
            figures = [run.metrics.get(name) for name in metrics]
            rows.writerow([run.name, run.problem, " ".join(run.overrides), *chosen, *figures])
