"""One table of many runs: python -m radnerf.report DIR [DIR ...] [--out DIR]

Writes report.csv and report.html, which is one file with its pictures inside.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from radnerf.errors import UserError
from radnerf.files import whole_file
from radnerf.sweep import NOTE

METRICS = ("full.psnr", "full.ssim", "full.lpips", "full.lmd", "full.mouth_correlation")
LOWER_IS_BETTER = ("lpips", "lmd")
# They differ between runs without being a choice of the experiment's.
NOT_COMPARED = ("seed", "outputs")

STYLE = """
:root { color-scheme: light dark; --line: #8886; --bar: #3b7dd8; --good: #178a4c; --bad: #c43c3c }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 75rem }
.wide { overflow-x: auto } table { border-collapse: collapse }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap }
th:first-child, td:first-child { text-align: left } figure { margin: 1rem 0 }
img { max-width: 100%; height: auto } svg { width: 100%; max-width: 40rem; height: auto }
svg text { fill: currentColor; font-size: 12px } .bar { fill: var(--bar) }
.good { color: var(--good) } .bad { color: var(--bad) } code { overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) { :root { --good: #5fd08f; --bad: #ff8a8a } }
"""


@dataclass
class Run:
    """What a run's folder, or a failed job's note, says."""

    name: str
    options: dict[str, Any]
    metrics: dict[str, Any]
    problem: str = ""  # why there are no metrics
    strip: Path | None = None
    overrides: list[str] = field(default_factory=list)


def find_runs(folders: list[Path]) -> list[Run]:
    """The runs and the failed jobs of sweeps in folders, at any depth.

    Raises:
        UserError: a folder does not exist or holds no run.
    """
    runs: dict[Path, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}: give folders of runs, such as outputs.")
        for path in sorted(folder.rglob("run.json")):
            home = path.parent.resolve()
            if (home / "config.yaml").is_file():
                runs[home] = _run(home)
        for path in sorted(folder.rglob(NOTE)):
            note = _json(path)
            if note.get("status") == "failed":
                name = "/".join(path.parent.parts[-2:])
                overrides = list(note.get("overrides", []))
                runs[path.resolve()] = Run(name, {}, {}, str(note["error"]), None, overrides)
    if not runs:
        raise UserError(f"There is no run in {', '.join(map(str, folders))}: train first.")
    return list(runs.values())


def _run(home: Path) -> Run:
    config = OmegaConf.to_container(OmegaConf.load(home / "config.yaml"))
    metrics, state = _json(home / "metrics.json"), _json(home / "run.json")
    strip = home / "test.png"
    return Run(
        name="/".join(home.parts[-2:]),
        options=dict(_flat(config)),
        metrics=metrics,
        problem="" if metrics else "no test" if state.get("finished") else "not finished",
        strip=strip if strip.is_file() else None,
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


def differing(runs: list[Run]) -> list[str]:
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

    label: str
    values: dict[str, list[float]]

    def mean(self, metric: str) -> float | None:
        return statistics.fmean(self.values[metric]) if self.values[metric] else None

    def spread(self, metric: str) -> float | None:
        """Standard deviation over the seeds, of two or more."""
        values = self.values[metric]
        return statistics.stdev(values) if len(values) > 1 else None


def group(runs: list[Run]) -> list[Group]:
    """Runs with metrics, put together when only their seed differs."""
    options, groups = differing(runs), defaultdict(list)
    for run in runs:
        if run.metrics:
            groups[tuple(str(run.options.get(name)) for name in options)].append(run)
    found = []
    for key, members in groups.items():
        chosen = [part for part in members[0].overrides if not part.startswith("seed=")]
        pairs = [f"{name}={value}" for name, value in zip(options, key, strict=True)]
        label = ", ".join(chosen or pairs) or "all"
        values = {
            metric: [
                float(run.metrics[metric])
                for run in members
                if isinstance(run.metrics.get(metric), int | float)
            ]
            for metric in METRICS
        }
        found.append(Group(label, values))
    return found


def write_csv(runs: list[Run], path: Path) -> None:
    """A row a run: its folder, what is wrong, its seed, the options that differ, all metrics."""
    options = [*differing(runs), "seed"]
    metrics = sorted({name for run in runs for name in run.metrics if name not in options})
    with whole_file(path) as part, part.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["run", "problem", "overrides", *options, *metrics])
        for run in runs:
            chosen = [run.options.get(name) for name in options]
            figures = [run.metrics.get(name) for name in metrics]
            rows.writerow([run.name, run.problem, " ".join(run.overrides), *chosen, *figures])


def html(runs: list[Run]) -> str:
    """The page; its first group of runs is the baseline of the deltas."""
    groups = group(runs)
    parts = ["<h1>Runs</h1>"]
    if groups:
        parts += ["<h2>Groups (mean ± deviation over seeds; in brackets: against the first)</h2>"]
        parts += [_table(groups), *(_bars(groups, metric) for metric in METRICS)]
    if failed := [run for run in runs if run.problem]:
        parts.append("<h2>Without figures</h2><ul>")
        for run in failed:
            what = f"{run.name}: {run.problem} ({' '.join(run.overrides)})"
            parts.append(f"<li><code>{escape(what)}</code></li>")
        parts.append("</ul>")
    if any(run.strip for run in runs):
        parts.append("<h2>The same held-out frames</h2>")
    for run in runs:
        if run.strip:
            picture = base64.b64encode(run.strip.read_bytes()).decode()
            caption = escape(" ".join([run.name, *run.overrides]))
            parts.append(
                f'<figure><figcaption><code>{caption}</code></figcaption><img alt="{caption}" '
                f'src="data:image/png;base64,{picture}"></figure>'
            )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Runs</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _table(groups: list[Group]) -> str:
    head = "".join(f"<th>{escape(metric)}</th>" for metric in METRICS)
    rows = [f"<tr><th>runs</th>{head}</tr>"]
    for one in groups:
        cells = "".join(f"<td>{_cell(one, groups[0], metric)}</td>" for metric in METRICS)
        rows.append(f"<tr><td>{escape(one.label)}</td>{cells}</tr>")
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def _cell(one: Group, baseline: Group, metric: str) -> str:
    mean, spread, base = one.mean(metric), one.spread(metric), baseline.mean(metric)
    if mean is None:
        return "–"
    text = f"{mean:.3f}" + (f" ± {spread:.3f}" if spread is not None else "")
    if one is baseline or base is None:
        return text
    better = (mean < base) == metric.endswith(LOWER_IS_BETTER)
    return f'{text} <span class="{"good" if better else "bad"}">({mean - base:+.3f})</span>'


def _bars(groups: list[Group], metric: str) -> str:
    means = [(one.label, mean) for one in groups if (mean := one.mean(metric)) is not None]
    if not means:
        return ""
    largest = max(abs(mean) for _, mean in means) or 1.0
    rows = [
        f'<text x="0" y="{40 * i + 32}">{escape(label[:70])}: {mean:.3f}</text>'
        f'<rect class="bar" x="0" y="{40 * i + 38}" width="{500 * abs(mean) / largest:.1f}" '
        'height="10"/>'
        for i, (label, mean) in enumerate(means)
    ]
    title = f'<text x="0" y="13" font-weight="bold">{escape(metric)}</text>'
    return f'<svg viewBox="0 0 500 {40 * len(means) + 20}" role="img">{title}{"".join(rows)}</svg>'


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m radnerf.report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="of runs, at any depth")
    parser.add_argument("--out", type=Path, default=Path(), help="where the report goes")
    given = parser.parse_args(arguments)
    try:
        runs = find_runs(given.folders)
        write_csv(runs, given.out / "report.csv")
        with whole_file(given.out / "report.html") as part:
            part.write_text(html(runs))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    print(f"{given.out / 'report.html'}: {len(runs)} runs")


if __name__ == "__main__":
    main()
