"""report.html: one file with its style and pictures inside, for any screen."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from radnerf.data.clip import read_image
from radnerf.report.runs import Delta, Group, Run, delta, pooled_std

METRICS = (
    "head.psnr",
    "full.psnr",
    "full.ssim",
    "full.lpips",
    "full.lmd",
    "full.mouth_correlation",
    "control.shuffled_audio.lmd",
    "control.frozen_mouth.lmd",
    "eye.response",
    "eye.closing",
    "speed.render_fps",
    "time.train_s",
)
LOWER_IS_BETTER = ("lpips", "lmd", "_s", "mouth_change", "peak_mb", "sync_distance")
# Neither is better: they are what other figures are compared with.
NEITHER = ("control.", "truth.")

ERROR = (
    "Figures are means over seeds ± standard deviation. Differences come with their standard "
    "error, from the deviation over seeds of all groups together; those of more than twice it are "
    "colored."
)
NO_ERROR = "One seed each: nobody knows which of the differences would come again with another."

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --dot: #3b7dd8; --good: #12783f;
  --bad: #b3261e }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 80rem }
h1 { margin-bottom: 0 } p { max-width: 60rem } small, .note { opacity: .75 }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top }
th.choice, td.choice { text-align: left } tr.base { background: var(--soft) }
td small { display: block }
.good { color: var(--good); opacity: 1 } .bad { color: var(--bad); opacity: 1 }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr));
  gap: 1rem }
.plot { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; margin: 0 }
.plot figcaption { font-weight: 600; display: flex; justify-content: space-between; gap: 1rem }
.row { margin-top: .35rem; font-size: .85rem; overflow-wrap: anywhere }
.axis { position: relative; height: 14px; border-bottom: 1px solid var(--line); margin: 0 7px }
.axis i, .axis b, .axis u { position: absolute; display: block }
.axis i { width: 8px; height: 8px; border-radius: 50%; background: var(--dot); opacity: .65;
  top: 3px; margin-left: -4px }
.axis b { width: 3px; height: 14px; background: currentColor; margin-left: -1.5px; top: 0 }
.axis u { width: 1px; height: 14px; margin-left: -.5px; top: 0; background: var(--dot) }
.ends { display: flex; justify-content: space-between; font-size: .75rem; opacity: .75 }
.strip { margin: .8rem 0 } .strip img { width: 100%; height: auto; display: block }
code { overflow-wrap: anywhere }
@media (prefers-color-scheme: dark) { :root { --good: #5fd08f; --bad: #ff8a8a } }
@media (max-width: 40rem) { .strip div { overflow-x: auto } .strip img { min-width: 44rem } }
"""


def html(
    runs: Sequence[Run],
    groups: Sequence[Group],
    baseline: Group | None,
    metrics: Sequence[str] = METRICS,
    title: str = "Runs",
) -> str:
    """The page.

    Args:
        runs: all of them, also those without figures.
        groups: of the runs with figures.
        baseline: the group that deltas are against.
    """
    present = [metric for metric in metrics if any(one.values(metric) for one in groups)]
    failed = [run for run in runs if run.problem]
    count = f"{len(runs) - len(failed)} runs in {len(groups)} groups"
    note = f"{count}, {len(failed)} without figures."
    if groups and baseline:
        note += f" Differences are to <code>{escape(baseline.label)}</code>. "
        note += ERROR if any(len(one.runs) > 1 for one in groups) else NO_ERROR
    parts = [f'<h1>{escape(title)}</h1><p class="note">{note}</p>']
    if groups and baseline:
        parts += [_table(groups, baseline, present), '<h2>Figures</h2><div class="plots">']
        parts += [*(_plot(groups, baseline, metric) for metric in present), "</div>"]
    if failed:
        parts.append("<h2>Without figures</h2><ul>")
        parts += [f"<li>{_failure(run)}</li>" for run in failed]
        parts.append("</ul>")
    parts += _strips(groups)
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _failure(run: Run) -> str:
    what = f"<b>{escape(run.name)}</b>: {escape(run.problem)}"
    again = run.command or " ".join(run.overrides)
    return f"{what}<br><code>{escape(again)}</code>" if again else what


def better(metric: str) -> int:
    """1 where more is better, -1 where less is, 0 where neither is."""
    if metric.startswith(NEITHER):
        return 0
    return -1 if metric.endswith(LOWER_IS_BETTER) else 1


def _table(groups: Sequence[Group], baseline: Group, metrics: Sequence[str]) -> str:
    names = list(dict.fromkeys(name for one in groups for name in one.choices))
    pooled = {metric: pooled_std(groups, metric) for metric in metrics}
    head = "".join(f'<th class="choice">{escape(name)}</th>' for name in names)
    head += "<th>runs</th>" + "".join(f"<th>{escape(metric)}</th>" for metric in metrics)
    rows = [f"<tr>{head}</tr>"]
    for one in groups:
        cells = [f'<td class="choice">{escape(one.choices.get(name, "–"))}</td>' for name in names]
        cells.append(f"<td>{len(one.runs)}</td>")
        for metric in metrics:
            change = None if one is baseline else delta(one, baseline, metric, pooled[metric])
            cells.append(f"<td>{_cell(one, metric, change)}</td>")
        kind = ' class="base"' if one is baseline else ""
        rows.append(f"<tr{kind}>{''.join(cells)}</tr>")
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def _cell(one: Group, metric: str, change: Delta | None) -> str:
    mean, std = one.mean(metric), one.std(metric)
    if mean is None:
        return "–"
    text = number(mean) + (f" ± {number(std)}" if std is not None else "")
    if change is None:
        return text
    error = "" if change.error is None else f" ± {number(change.error)}"
    good = change.value * better(metric)
    kind = f' class="{"good" if good > 0 else "bad"}"' if change.clear and good else ""
    sign = "+" if change.value >= 0 else "−"
    return f"{text}<small{kind}>{sign}{number(abs(change.value))}{error}</small>"


def number(value: float) -> str:
    """A figure with as many decimals as tell something."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.{1 if abs(value) >= 100 else 3}f}"


def _plot(groups: Sequence[Group], baseline: Group, metric: str) -> str:
    """A dot a run, a bar at each group's mean, a thin line at the baseline's."""
    values = [value for one in groups for value in one.values(metric)]
    low, high = min(values), max(values)
    width = (high - low) or 1.0

    def place(value: float) -> str:
        return f'style="left:{100 * (value - low) / width if high > low else 50:.2f}%"'

    note = {1: "more is better", -1: "less is better", 0: "a control"}[better(metric)]
    rows = [f"<figcaption>{escape(metric)} <small>{note}</small></figcaption>"]
    reference = baseline.mean(metric)
    line = "" if reference is None else f"<u {place(reference)}></u>"
    for one in groups:
        mean = one.mean(metric)
        if mean is None:
            continue
        dots = "".join(f"<i {place(value)}></i>" for value in one.values(metric))
        rows.append(
            f'<div class="row">{escape(one.label)} · {number(mean)}'
            f'<div class="axis">{line}{dots}<b {place(mean)}></b></div></div>'
        )
    rows.append(f'<div class="ends"><span>{number(low)}</span><span>{number(high)}</span></div>')
    return f'<figure class="plot">{"".join(rows)}</figure>'


def _strips(groups: Sequence[Group]) -> list[str]:
    """The same held-out frames of every run: the truth once a clip, then each run's rendering."""
    parts: list[str] = []
    truths: set[bytes] = set()
    for one in groups:
        for run in one.runs:
            if run.strip is None:
                continue
            truth, rendering = _rows(run.strip)
            if truth.tobytes() not in truths:
                truths.add(truth.tobytes())
                clip = f"{run.options.get('data.id') or ''} {truth.shape[0]} px".strip()
                parts.append(_figure(f"truth ({clip})", truth))
            seed = run.options.get("seed")
            parts.append(_figure(f"{one.label}, seed {seed} · {run.name}", rendering))
    return ["<h2>The same held-out frames of every run</h2>", *parts] if parts else []


def _rows(strip: Path) -> tuple[np.ndarray, np.ndarray]:
    """Truth and rendering of a test's picture, whose rows are truth, rendering, and head."""
    image = read_image(strip)
    truth, rendering, _ = np.split(image[: len(image) // 3 * 3], 3)
    return truth, rendering


def _figure(caption: str, image: np.ndarray) -> str:
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    picture, text = base64.b64encode(data.tobytes()).decode(), escape(caption)
    return (
        f'<figure class="strip"><figcaption><code>{text}</code></figcaption>'
        f'<div><img alt="{text}" src="data:image/jpeg;base64,{picture}"></div></figure>'
    )
