"""The contact sheet preprocess.png: landmarks, parsing, poses and sound of a clip at a glance."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial.transform import Rotation

from radnerf.conventions import FPS, HEAD, NECK, OUTER_EYE_DISTANCE, SAMPLE_RATE, TORSO
from radnerf.data.clip import Clip, face_rectangle, lips_rectangle, write_image
from radnerf.geometry.face68 import mouth_opening
from radnerf.preprocess.stages import Stage, Workspace

Color = tuple[int, int, int]
Picture = UInt8[np.ndarray, "_ _ 3"]

SHEET = "preprocess.png"

COLUMNS, WIDTH, MARGIN, GAP = 7, 1680, 32, 10
FINE = 2  # drawn this much larger, then scaled down: smooth lines and letters
PLOT_HEIGHT = 190

INK, FAINT, PAPER, PANEL = (38, 42, 51), (96, 104, 118), (255, 255, 255), (246, 247, 249)
BLUE, ORANGE, GREEN, RED = (45, 108, 223), (230, 126, 34), (39, 160, 105), (214, 69, 65)
# World to camera of a head that faces the camera straight on.
FRONTAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


@dataclass(frozen=True)
class Sheet(Stage):
    """The contact sheet."""

    name = "sheet"
    needs = ("index", "audio", "layers")
    outputs = (SHEET,)

    def run(self, work: Workspace) -> None:
        write_image(work.out / SHEET, contact_sheet(Clip.open(work.root)))


def contact_sheet(clip: Clip) -> Picture:
    """Thumbnails over time with what was found in them, the layers, and plots over time."""
    chosen = np.linspace(0, len(clip) - 1, min(COLUMNS, len(clip))).round().astype(int)
    tile = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) // COLUMNS
    points = np.stack([clip.landmarks(i) for i in range(len(clip))])
    rows = [
        _title(clip),
        _caption("Landmarks, head axes (up, right, towards the camera), face and lips rectangles"),
        _tiles([_marked(clip, int(i), points[i], tile) for i in chosen], _times(chosen)),
        _caption("Parsing: head blue, neck green, torso red"),
        _tiles([_parsed(clip, int(i), tile) for i in chosen], _times(chosen)),
        _caption("Layers: background; torso with the neck continued under the head; both"),
        _tiles(*_layers(clip, chosen, tile)),
        _plots(clip, points),
    ]
    sheet = np.concatenate([_fit_width(row) for row in rows])
    sheet = np.pad(
        sheet, ((FINE * MARGIN, FINE * MARGIN), (0, 0), (0, 0)), constant_values=PAPER[0]
    )
    return np.asarray(
        cv2.resize(sheet, None, fx=1 / FINE, fy=1 / FINE, interpolation=cv2.INTER_AREA)
    )


def _canvas(height: int, color: Color = PAPER, width: int = WIDTH) -> Picture:
    return np.full((FINE * height, FINE * width, 3), color, np.uint8)


def _fit_width(row: Picture) -> Picture:
    """Between the margins of the sheet."""
    page = np.full((row.shape[0], FINE * WIDTH, 3), PAPER, np.uint8)
    inner = row[:, : FINE * (WIDTH - 2 * MARGIN)]
    page[:, FINE * MARGIN : FINE * MARGIN + inner.shape[1]] = inner
    return page


def _text(
    image: Picture,
    text: str,
    at: tuple[float, float],
    size: float = 12,
    color: Color = INK,
    bold: bool = False,
    right: bool = False,
) -> None:
    """Text with its base line at `at` (sheet pixels); `right` ends it there."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, FINE * size / 22
    weight = max(1, round(FINE * (1.0 if bold else 0.6) * max(1.0, size / 14)))
    x = FINE * at[0]
    if right:
        x -= cv2.getTextSize(text, font, scale, weight)[0][0]
    origin = (round(x), round(FINE * at[1]))
    cv2.putText(image, text, origin, font, scale, color, weight, cv2.LINE_AA)


def _title(clip: Clip) -> Picture:
    image = _canvas(66)
    height, width = clip.size
    tracking = clip.meta.get("tracking", {})
    facts = [f"{len(clip)} frames", f"{len(clip) / FPS:.1f} s", f"{width} x {height} px"]
    facts += [f"focal {clip.focal:.0f} px"]
    if "rmse_px" in tracking:
        facts += [
            f"re-projection {tracking['rmse_px']:.2f} px",
            f"noise {tracking['noise_px']:.2f} px",
            f"jitter {tracking['jitter_deg']:.2f} deg",
            f"head box {100 * tracking['head_box_coverage']:.1f} %",
        ]
    # The drawn font has no letters beyond ASCII.
    name = str(clip.meta.get("id", clip.root.name)).encode("ascii", "replace").decode()
    _text(image, name, (0, 26), 28, bold=True)
    _text(image, "   |   ".join(facts), (0, 54), 13, FAINT)
    return image


def _caption(text: str) -> Picture:
    image = _canvas(36)
    _text(image, text, (0, 25), 13, bold=True)
    return image


def _times(frames: Sequence[int] | np.ndarray) -> list[str]:
    return [f"{i / FPS:.1f} s" for i in frames]


def _tiles(images: list[Picture], labels: list[str]) -> Picture:
    """A row of thumbnails with a line of text below each."""
    height, width = (side // FINE for side in images[0].shape[:2])
    row = _canvas(height + 22, width=COLUMNS * (width + GAP) - GAP)
    for k, (image, label) in enumerate(zip(images, labels, strict=True)):
        left = FINE * k * (width + GAP)
        row[: FINE * height, left : left + FINE * width] = image[: FINE * height, : FINE * width]
        _text(row, label, (k * (width + GAP), height + 15), 11, FAINT)
    return row


def _thumb(image: Picture, tile: int) -> tuple[np.ndarray, float]:
    """Enlarged to a tile's width, and by how much."""
    scale = FINE * tile / image.shape[1]
    smaller = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = (FINE * tile, FINE * round(image.shape[0] * scale / FINE))
    return np.asarray(cv2.resize(image, size, interpolation=smaller)), scale


def _marked(clip: Clip, i: int, landmarks: Float[np.ndarray, "68 2"], tile: int) -> Picture:
    image, scale = _thumb(clip.image(i), tile)

    def pixel(point: np.ndarray) -> tuple[int, int]:
        return round(float(point[0]) * scale), round(float(point[1]) * scale)

    height, width = clip.size
    for (top, bottom, left, right), color in (
        (face_rectangle(landmarks), (255, 255, 255)),
        (lips_rectangle(landmarks, height, width), (255, 214, 64)),
    ):
        corners = pixel(np.array([left, top])), pixel(np.array([right, bottom]))
        cv2.rectangle(image, *corners, color, FINE // 2, cv2.LINE_AA)
    for point in landmarks:
        cv2.circle(image, pixel(point), round(1.2 * FINE), (64, 255, 140), -1, cv2.LINE_AA)
    # From the point between the eyes, so that the axes stand on the face.
    start = np.array([0.0, 0.85 * OUTER_EYE_DISTANCE, 0.0])
    for axis, color in zip(np.eye(3), ((80, 220, 80), (80, 160, 255), (255, 80, 70)), strict=True):
        ends = np.stack([start, start + axis * OUTER_EYE_DISTANCE * 0.9])
        camera = (ends - clip.poses[i, :3, 3]) @ clip.poses[i, :3, :3]
        line = camera[:, :2] / camera[:, 2:] * clip.focal + np.array(clip.centre)
        cv2.line(image, pixel(line[0]), pixel(line[1]), color, round(1.5 * FINE), cv2.LINE_AA)
    return image


def _parsed(clip: Clip, i: int, tile: int) -> Picture:
    image = clip.image(i)
    labels = clip.parsing(i)
    tint = image.astype(np.float32)
    for label, color in ((HEAD, BLUE), (NECK, GREEN), (TORSO, RED)):
        tint[labels == label] = 0.5 * tint[labels == label] + 0.5 * np.array(color)
    tint[labels == 0] = 0.25 * tint[labels == 0] + 0.75 * 255
    return _thumb(tint.astype(np.uint8), tile)[0]


def _layers(clip: Clip, chosen: np.ndarray, tile: int) -> tuple[list[Picture], list[str]]:
    background = clip.background()
    height, width = background.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    square = max(4, width // 28)
    checker = np.where((rows // square + columns // square) % 2, 255, 224)
    checker = np.repeat(checker[..., None], 3, -1).astype(np.uint8)
    images, labels = [background], ["background"]
    picks = [int(i) for i in chosen[:: max(1, len(chosen) // 3)][:3]]
    for behind, name in ((checker, "torso"), (background, "torso on background")):
        for i in picks:
            torso = clip.torso(i)
            alpha = torso[..., 3:].astype(np.float32) / 255
            images.append((torso[..., :3] * alpha + behind * (1 - alpha)).astype(np.uint8))
            labels.append(f"{name}, {i / FPS:.1f} s")
    return [_thumb(image, tile)[0] for image in images[:COLUMNS]], labels[:COLUMNS]


@dataclass
class _Curve:
    name: str
    values: Float[np.ndarray, " t"]
    color: Color


def _plots(clip: Clip, points: Float[np.ndarray, "t 68 2"]) -> Picture:
    head = clip.poses[:, :3, :3].transpose(0, 2, 1) @ FRONTAL.T
    pitch, yaw, roll = np.rad2deg(Rotation.from_matrix(head).as_rotvec()).T
    place = -np.einsum("tji,tj->ti", clip.poses[:, :3, :3], clip.poses[:, :3, 3])
    place = 100 * (place - np.median(place, 0)) / OUTER_EYE_DISTANCE
    mouth, loud = mouth_opening(points), _loudness(clip.root / "aud.wav", len(clip))
    left = [
        _plot(
            "Head rotation, degrees",
            [_Curve("pitch", pitch, BLUE), _Curve("yaw", yaw, ORANGE), _Curve("roll", roll, GREEN)],
        ),
        _plot("Eye opening, % of the image", [_Curve("eye ratio", clip.eye, BLUE)], zero=True),
    ]
    right = [
        _plot(
            "Head position, % of the eye distance",
            [
                _Curve("right", place[:, 0], BLUE),
                _Curve("down", place[:, 1], ORANGE),
                _Curve("away", place[:, 2], GREEN),
            ],
        ),
        _plot(
            "Mouth opening and loudness, each in its own range",
            [_Curve("loudness", _unit(loud), (170, 178, 190)), _Curve("mouth", _unit(mouth), RED)],
            zero=True,
        ),
    ]
    gap = _canvas(PLOT_HEIGHT, width=2 * GAP)
    rows = [np.concatenate([a, gap, b], 1) for a, b in zip(left, right, strict=True)]
    space = np.full((FINE * GAP, rows[0].shape[1], 3), PAPER, np.uint8)
    return np.concatenate([space, space, rows[0], space, space, rows[1]])


def _plot(title: str, curves: list[_Curve], zero: bool = False) -> Picture:
    """Curves over the clip's seconds, with a grid and a legend."""
    width = (WIDTH - 2 * MARGIN - 2 * GAP) // 2
    image = _canvas(PLOT_HEIGHT, PANEL, width)
    left, top, right, bottom = 56, 34, width - 14, PLOT_HEIGHT - 26
    values = np.concatenate([c.values for c in curves])
    low, high = (0.0 if zero else float(values.min())), float(values.max())
    pad = 0.06 * (high - low) + 1e-6
    low, high = low - (0 if zero else pad), high + pad
    seconds = max(len(curves[0].values) - 1, 1) / FPS

    def across(t: Float[np.ndarray, "*t"] | float) -> Float[np.ndarray, "*t"]:
        return np.asarray(left + (right - left) * np.asarray(t) / seconds)

    def up(v: Float[np.ndarray, "*t"] | float) -> Float[np.ndarray, "*t"]:
        return np.asarray(bottom - (bottom - top) * (np.asarray(v) - low) / (high - low))

    _text(image, title, (12, 20), 12, bold=True)
    for value in _ticks(low, high, 4):
        y = float(up(value))
        _line(image, [(left, y), (right, y)], (226, 229, 234), 1)
        _text(image, f"{value:g}", (left - 6, y + 4), 10, FAINT, right=True)
    for value in _ticks(0, seconds, 10):
        x = float(across(value))
        _line(image, [(x, bottom), (x, bottom + 4)], FAINT, 1)
        _text(image, f"{value:g} s", (x - 6, PLOT_HEIGHT - 8), 10, FAINT)
    x = float(right)
    for curve in reversed(curves):
        _text(image, curve.name, (x, 20), 11, curve.color, bold=True, right=True)
        x -= 11 * len(curve.name) * 0.62 + 22
    for curve in curves:
        t = np.arange(len(curve.values)) / FPS
        _line(image, np.stack([across(t), up(curve.values)], -1), curve.color, 1.4)
    return image


def _line(
    image: Picture,
    points: Sequence[tuple[float, float]] | Float[np.ndarray, "n 2"],
    color: Color,
    weight: float,
) -> None:
    fine = np.round(np.asarray(points) * FINE * 16).astype(np.int32)
    thickness = max(1, round(weight * FINE))
    cv2.polylines(image, [fine], False, color, thickness, cv2.LINE_AA, shift=4)


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers inside a range."""
    rough = (high - low) / about
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * min((m for m in (1, 2, 5, 10) if m * power >= rough), default=10)
    first = np.ceil(low / step)
    return [round(float(first + k) * step, 10) + 0.0 for k in range(int(high / step - first) + 1)]


def _unit(values: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Between the 1st and 99th percentile as 0 to 1."""
    low, high = np.percentile(values, [1, 99])
    return np.clip((values - low) / max(high - low, 1e-9), 0, 1.1)


def _loudness(path: Path, n_frames: int) -> Float[np.ndarray, " t"]:
    """Level of each frame's sound in decibels, not below -60."""
    with wave.open(str(path)) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    hop = round(SAMPLE_RATE / FPS)
    sound = np.pad(sound[: n_frames * hop], (0, max(0, n_frames * hop - len(sound))))
    power = (sound.reshape(n_frames, hop) ** 2).mean(-1)
    return np.maximum(10 * np.log10(power + 1e-12), -60.0)
