"""One table of many runs: python -m radnerf.report DIR [DIR ...] [--out DIR]

Writes report.csv and report.html, which is one file with its pictures inside.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from radnerf.files import whole_file
from radnerf.report.dashboard import push
from radnerf.report.page import METRICS, html
from radnerf.report.runs import baseline_of, find_runs, group
from radnerf.report.table import write_csv
from radnerf.runtime.programs import Options, ended, start


def main(arguments: list[str] | None = None) -> None:
    """Write a report; ends the program if that fails."""
    if code := ended(lambda: _report(_options().parse_args(arguments))):
        sys.exit(code)


def _options() -> Options:
    parser = Options("python -m radnerf.report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="of runs, at any depth")
    parser.add_argument("--out", type=Path, default=Path(), help="where the report goes")
    parser.add_argument(
        "--baseline",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="choices of the group that differences are to; without it, the first group",
    )
    parser.add_argument(
        "--metrics", nargs="+", default=list(METRICS), help="of metrics.json, in this order"
    )
    parser.add_argument("--title", default="Runs")
    parser.add_argument(
        "--push", metavar="[ENTITY/]PROJECT", help="make a report in W&B, too, of runs logged there"
    )
    return parser


def _report(given: argparse.Namespace) -> None:
    runs = find_runs(given.folders)
    groups = group(runs)
    baseline = baseline_of(groups, given.baseline) if groups else None
    write_csv(runs, given.out / "report.csv")
    with whole_file(given.out / "report.html") as part:
        part.write_text(html(runs, groups, baseline, given.metrics, given.title))
    print(f"{given.out / 'report.html'}: {len(runs)} runs")
    if given.push:
        print(f"W&B: {push(given.push, runs, groups, given.metrics, given.title)}")


if __name__ == "__main__":
    start(main)
