"""The report: one flat object with fixed names, and its tables on the terminal."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

Values = float | int | str | None
Report = dict[str, Values]

FAILED = "parity failed"
# What every report holds; null when it could not be measured, with NAME.reason beside it.
KEYS = (
    "device",
    "commit",
    "ceiling.matmul_float32_gflops",
    "ceiling.matmul_16bit_gflops",
    "ceiling.table_reads_millions_per_s",
    "ceiling.copy_gb_per_s",
    "parity.frame.psnr_db",
    "parity.train.loss",
    "train.steps_per_s",
    "train.rays_per_s",
    "ratio_to_reference.render",
    "ratio_to_reference.train",
    "startup.import_s",
    "startup.first_frame_s",
    "startup.compile_s",
    "memory.peak_mb",
)
SIZE_KEYS = ("fps", "latency_ms.median", "latency_ms.p95")
OPERATOR_KEYS = ("ms", "ratio_to_reference", "ratio_to_ceiling")


def refuse(reason: str, *names: str) -> Report:
    """Figures that are not given, and why."""
    return {
        key: value for name in names for key, value in ((name, None), (f"{name}.reason", reason))
    }


def failures(report: Mapping[str, Values]) -> list[str]:
    """Names of the parity checks that failed."""
    return [
        key
        for key in report
        if key.startswith("parity.") and str(report.get(f"{key}.reason", "")).startswith(FAILED)
    ]


def complete(report: Mapping[str, Values], sizes: Sequence[int]) -> Report:
    """The report with every promised name, and null instead of numbers that are not finite."""
    promised = (*KEYS, *(f"render.{size}.{key}" for size in sizes for key in SIZE_KEYS))
    full = dict(report)
    for name in promised:
        full.setdefault(name, None)
    for name, value in list(full.items()):
        if isinstance(value, float) and not math.isfinite(value):
            full[name] = value = None
        if value is None:
            full.setdefault(f"{name}.reason", "not measured")
    return full


def write(path: Path, report: Mapping[str, Values]) -> None:
    """The report as JSON."""
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def show(report: Mapping[str, Values], console: Console | None = None) -> None:
    """Tables for a person to read."""
    console = console or Console(highlight=False)
    listed: set[str] = set()

    def cell(key: str) -> str:
        listed.add(key)
        value = report.get(key)
        return str(report.get(f"{key}.reason", "")) if value is None else _text(value)

    def table(title: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
        made = Table(*columns, title=title, title_justify="left")
        for row in rows:
            made.add_row(*row)
        console.print(made)

    table(
        "Operators: times as fast as the reference, fraction of the machine's ceiling",
        ("operator", "back end", "error", "ms", "times", "fraction"),
        [
            (
                f"{name} {what}",
                backend,
                cell(f"parity.{name}.{backend}"),
                *(cell(f"operator.{name}.{backend}.{what}_{key}") for key in OPERATOR_KEYS),
            )
            for name, backend, what in _matches(r"operator\.(\w+)\.(\w+)\.([a-z]+)_ms", report)
        ],
    )
    table(
        "Whole frames, to 8-bit pixels in the machine's memory",
        ("pixels", "PSNR, dB", "frames/s", "ms", "ms, 95 %"),
        [
            (
                f"{size} x {size}",
                cell(f"parity.frame.{size}.psnr_db"),
                *(cell(f"render.{size}.{key}") for key in SIZE_KEYS),
            )
            for (size,) in _matches(r"render\.(\d+)\.fps", report)
        ],
    )
    table(
        "How the cost grows",
        ("with", "number", "ms of a frame"),
        [
            (what, n, cell(f"scaling.{what}.{n}.ms"))
            for what, n in _matches(r"scaling\.(\w+)\.(\d+)\.ms", report)
        ],
    )
    rest = [key for key in report if key not in listed and not key.endswith(".reason")]
    given = [key for key in rest if report[key] is not None]
    table("All else", ("figure", "value"), [(key, cell(key)) for key in given])
    missing: dict[str, list[str]] = {}
    for key in rest:
        if report[key] is None:
            missing.setdefault(cell(key), []).append(key)
    for reason, keys in missing.items():
        console.print(f"Not given, {reason}: {', '.join(keys)}", markup=False)


def _matches(pattern: str, report: Mapping[str, Values]) -> list[tuple[str, ...]]:
    found = (re.fullmatch(pattern, key) for key in report)
    return [match.groups() for match in found if match]


def _text(value: Values) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
