"""preprocess.html: what is wrong with a clip, its contact sheet and its tracks, in one file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Float

from radnerf.conventions import FPS
from radnerf.preprocess.report.facts import Facts
from radnerf.preprocess.report.findings import Finding

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 150, 40, 18  # of a plot, in its own units
MOST_POINTS = 600

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --warn: #9a5b00; --good: #12783f }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 80rem }
h1 { margin-bottom: 0 } .note { opacity: .75 }
.findings li { margin: .3rem 0 } .findings b { color: var(--warn) } .fine { color: var(--good) }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(30rem, 100%), 1fr));
  gap: 1rem }
figure { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; margin: 0 }
figcaption { font-weight: 600 } figcaption small { font-weight: 400; opacity: .75 }
svg { width: 100%; height: auto; display: block; overflow: visible }
svg text { font-size: 12px; fill: currentColor; opacity: .75 }
.grid { stroke: var(--line); stroke-width: 1 }
polyline { fill: none; stroke-width: 1.5; vector-effect: non-scaling-stroke }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin: 0 .3em 0 .8em }
.wide { overflow-x: auto } img { width: 100%; display: block }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .25rem .9rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere }
@media (max-width: 40rem) { .wide img { min-width: 60rem } }
@media (prefers-color-scheme: dark) { :root { --warn: #ffb454; --good: #5fd08f } }
"""
COLORS = ("#3b7dd8", "#e67e22", "#27a069")


@dataclass(frozen=True)
class Plot:
    """Lines over time; `times` in seconds, one for each value; drawn up to `least` at least."""

    title: str
    unit: str
    times: Float[np.ndarray, " t"]
    lines: dict[str, Float[np.ndarray, " t"]]
    least: float = 1e-6


def page(name: str, facts: Facts, findings: Sequence[Finding], sheet: Path) -> str:
    """The page.

    Args:
        name: of the clip.
        sheet: its contact sheet, a PNG that is put into the page.
    """
    picture = base64.b64encode(sheet.read_bytes()).decode()
    rows = "".join(
        f"<tr><th>{escape(label)}</th><td>{escape(value)}</td></tr>"
        for label, value in figures(facts)
    )
    body = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="note">{facts.seconds:.1f} s at {FPS:g} frames a second</p>',
        _findings(findings),
        f"<h2>Over time</h2><div class='plots'>{''.join(_figure(p) for p in plots(facts))}</div>",
        f'<h2>Contact sheet</h2><div class="wide"><img alt="landmarks, parsing and layers" '
        f'src="data:image/png;base64,{picture}"></div>',
        f'<h2>Figures</h2><div class="wide"><table>{rows}</table></div>',
    ]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<title>{escape(name)}: before training</title><link rel="icon" href="data:,">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>"
    )


def _findings(findings: Sequence[Finding]) -> str:
    if not findings:
        return '<p class="fine">Nothing speaks against training on this clip.</p>'
    rows = "".join(
        f"<li><b>{escape(one.name.replace('_', ' '))}</b>: {escape(one.text)}</li>"
        for one in findings
    )
    return f'<ul class="findings">{rows}</ul>'


def figures(facts: Facts) -> list[tuple[str, str]]:
    """Names and values of the page's table."""
    tracking = facts.tracking
    offset = (
        "cannot be told"
        if facts.audio_offset_s is None
        else f"{1000 * facts.audio_offset_s:.0f} ms"
    )
    camera = "plain background" if facts.camera is None else f"{facts.camera.max():.1f} px"
    found = [
        ("Speech", f"{facts.speech_s:.1f} s of {facts.seconds:.1f} s"),
        ("Mouth ahead of the sound", offset),
        ("Blinks", f"{facts.blinks}, {60 * facts.blinks / max(facts.seconds, 1):.0f} a minute"),
        ("Width of the face", f"{facts.face_px:.0f} of {facts.frame_px} px"),
        ("Motion of the background", camera),
        ("Head below the chin", f"{100 * facts.below_jaw:.1f} %"),
        ("Frames without a face", str(facts.unseen)),
    ]
    for key, label, unit in (
        ("rmse_px", "Re-projection error", "px"),
        ("jitter_deg", "Jitter of the poses", "degrees"),
        ("pnp_jitter_deg", "Jitter frame by frame (PnP)", "degrees"),
        ("head_box_coverage", "Head inside the learned box", ""),
    ):
        if key in tracking:
            found.append((label, f"{float(tracking[key]):.3g} {unit}".strip()))
    return found


def plots(facts: Facts) -> list[Plot]:
    """What changes over time."""
    times = np.arange(len(facts.eye)) / FPS
    at = np.array(facts.sampled) / FPS
    pitch, yaw, roll = facts.head_angles.T
    found = [
        Plot("Head", "degrees", times, {"pitch": pitch, "yaw": yaw, "roll": roll}),
        Plot("Eyes", "0 shut, 1 open", times, {"opening": facts.eye}),
        Plot(
            "Mouth and sound",
            "1 is the widest opening, and speech",
            times,
            {"mouth": facts.mouth / max(float(facts.mouth.max()), 1e-6), "speech": facts.loudness},
        ),
        Plot("Sharpness of the face", "1 is usual", at, {"sharpness": facts.sharpness}),
        Plot("Brightness beside the person", "of 255", at, {"brightness": facts.brightness}),
    ]
    if facts.camera is not None:
        found.append(Plot("Motion of the background", "pixels", at, {"drift": facts.camera}, 5.0))
    return found


def _figure(plot: Plot) -> str:
    keys = ""
    if len(plot.lines) > 1:
        keys = "".join(
            f'<span class="key" style="background:{color}"></span>{escape(name)}'
            for name, color in zip(plot.lines, COLORS, strict=False)
        )
    caption = f"{escape(plot.title)} <small>{escape(plot.unit)}{keys}</small>"
    return f"<figure><figcaption>{caption}</figcaption>{_svg(plot)}</figure>"


def _svg(plot: Plot) -> str:
    values = np.concatenate(list(plot.lines.values()))
    low, high = min(0.0, float(values.min())), max(float(values.max()), plot.least)
    end = max(float(plot.times[-1]), 1 / FPS)

    def across(time: Float[np.ndarray, " n"]) -> np.ndarray:
        return LEFT + time / end * (WIDTH - LEFT)

    def up(value: Float[np.ndarray, " n"]) -> np.ndarray:
        return (HEIGHT - BOTTOM) * (1 - (value - low) / (high - low)) + 4

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 8}" role="img">']
    for value in (low, (low + high) / 2, high):
        y = float(up(np.array([value]))[0])
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for time, anchor in ((0.0, "start"), (end / 2, "middle"), (end, "end")):
        x = float(across(np.array([time]))[0])
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT + 6}" text-anchor="{anchor}">{time:.0f} s</text>'
        )
    for (_, line), color in zip(plot.lines.items(), COLORS, strict=False):
        picked = np.unique(np.linspace(0, len(line) - 1, MOST_POINTS).astype(int))
        points = " ".join(
            f"{x:.1f},{y:.1f}"
            for x, y in zip(across(plot.times[picked]), up(line[picked]), strict=True)
        )
        parts.append(f'<polyline stroke="{color}" points="{points}"/>')
    return "".join(parts) + "</svg>"
