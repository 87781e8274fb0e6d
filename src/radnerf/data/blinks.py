"""Blinks in OpenFace's au.csv, which ER-NeRF style folders have beside their images.

Its action unit 45 (AU45_r) is 0 for open eyes and rises to 5; the public code takes 2 for shut.
OpenFace pads its column names with spaces, counts frames from 1 and may list several faces.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from radnerf.errors import UserError
from radnerf.geometry.eyes import EyeRange, closedness

COLUMN = "AU45_r"
SHUT = 2.0
MAX_DISTANCE = 25  # frames to the nearest one with a value, a second


def read_blinks(path: Path, ids: Int[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """How shut the eyes are in the frames of these numbers: 0 open, 1 shut.

    Frames that OpenFace lost are interpolated.

    Raises:
        UserError: not OpenFace's file, without AU45_r, or not for these frames.
    """
    values = _intensities(path)
    frames = np.array(sorted(values))
    after = np.searchsorted(frames, ids)
    nearest = np.minimum(
        np.abs(ids - frames[np.maximum(after - 1, 0)]),
        np.abs(ids - frames[np.minimum(after, len(frames) - 1)]),
    )
    if nearest.max() > MAX_DISTANCE:
        raise UserError(
            f"{path} has no {COLUMN} near frame {ids[nearest.argmax()]}: run OpenFace on the whole "
            "video, or take the file away to have the eyes measured by the landmarks."
        )
    intensity = np.interp(ids, frames, [values[i] for i in frames.tolist()])
    return np.clip(intensity / SHUT, 0, 1)


def eye_ratios(closed: Float[np.ndarray, " t"], limits: EyeRange) -> Float[np.ndarray, " t"]:
    """Eye ratios of eyes that are so shut, between the clip's shut and open ones."""
    shut, opened = limits
    return opened + (shut - opened) * closed


def write_blinks(
    path: Path, eye: Float[np.ndarray, " t"], ids: Int[np.ndarray, " t"], limits: EyeRange
) -> None:
    """Write eye ratios as AU45_r, one row for every frame number up to the last, two decimals.

    Eyes that are wider than usual become open ones; frames between those given are interpolated.
    """
    order = np.argsort(ids)
    frames = np.arange(ids.max() + 1)
    intensity = np.interp(frames, ids[order], SHUT * closedness(eye, limits)[order])
    columns = ("frame", "face_id", "timestamp", "confidence", "success", COLUMN, "AU45_c")
    lines = [", ".join(columns)]
    lines += [
        f"{i + 1}, 0, {i / 25:.3f}, 1.00, 1, {value:.2f}, {value > SHUT / 2:.2f}"
        for i, value in zip(frames.tolist(), intensity.tolist(), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")


def _intensities(path: Path) -> dict[int, float]:
    """AU45_r by frame number from 0, of the first face in frames where OpenFace found one."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, skipinitialspace=True)
            rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
            if COLUMN not in rows.fieldnames:
                raise UserError(
                    f"{path} has no column {COLUMN}: write it with OpenFace's FeatureExtraction, "
                    "or take the file away to have the eyes measured by the landmarks."
                )
            found: dict[int, float] = {}
            for i, row in enumerate(rows):
                frame, value = int(float(row.get("frame") or i + 1)) - 1, float(row[COLUMN])
                if float(row.get("success") or 1) and np.isfinite(value):
                    found.setdefault(frame, value)
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a table of OpenFace ({error}).") from error
    if not found:
        raise UserError(f"{path} has no frame in which OpenFace found a face.")
    return found
