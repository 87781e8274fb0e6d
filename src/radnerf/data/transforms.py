"""Camera poses on disk: the transforms JSON of the field's tools, in all their spellings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from radnerf.errors import UserError

# How much the focal lengths of two axes or of two files may differ and still count as one.
SAME_FOCAL = 0.01
# Share of the frames that may lack an image: more is a copy that was cut short.
MAX_LEFT_OUT = 0.25


@dataclass(frozen=True)
class Frame:
    """One frame as a transforms file lists it."""

    image: int  # number in the file names
    sound: int  # number of its audio window
    pose: Float[np.ndarray, "4 4"]  # as on disk
    eye: float | None  # eye ratio, where the file has it


@dataclass(frozen=True)
class Transforms:
    """What one transforms file says."""

    path: Path
    frames: list[Frame]
    camera: dict[str, Any]  # every field but the frames

    @classmethod
    def read(cls, path: Path) -> Transforms:
        """Read a file.

        Raises:
            UserError: it is no list of camera poses.
        """
        try:
            camera = dict(json.loads(path.read_text()))
            frames = [_frame(entry) for entry in camera.pop("frames")]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} cannot be read as camera poses ({error!r}).") from error
        return cls(path, frames, camera)

    def focal(self, size: tuple[int, int]) -> float:
        """Focal length in pixels: focal_len, fl_x and fl_y, or camera_angle_x and camera_angle_y.

        Args:
            size: height and width of the frames.

        Raises:
            UserError: none of them, or different ones for the two axes.
        """
        if "focal_len" in self.camera:
            found = [self._number("focal_len")]
        elif {"fl_x", "fl_y"} & self.camera.keys():
            found = [self._number(name) for name in ("fl_x", "fl_y") if name in self.camera]
        else:
            sides = {"camera_angle_x": size[1], "camera_angle_y": size[0]}
            found = [
                side / (2 * math.tan(self._number(name) / 2))
                for name, side in sides.items()
                if name in self.camera
            ]
        if not found or not all(0 < value < math.inf for value in found):
            raise UserError(
                f"{self.path} has no usable focal length: give it focal_len, in pixels."
            )
        if max(found) > (1 + SAME_FOCAL) * min(found):
            raise UserError(
                f"{self.path} has two focal lengths, {found[0]:.1f} and {found[1]:.1f} pixels: "
                "scale its frames so that their pixels are square."
            )
        return sum(found) / len(found)

    def centre(self, size: tuple[int, int]) -> tuple[float, float]:
        """Principal point (x, y) in pixels; the middle of the frames where the file has none.

        Raises:
            UserError: it lies outside frames of this size (height, width).
        """
        height, width = size
        x = self._number("cx") if "cx" in self.camera else width / 2
        y = self._number("cy") if "cy" in self.camera else height / 2
        stated = size
        if {"h", "w"} <= self.camera.keys():
            stated = int(self._number("h")), int(self._number("w"))
        if stated != size or not (0 < x < width and 0 < y < height):
            raise UserError(
                f"{self.path} is not for frames of {width} x {height} pixels (its centre is "
                f"{x:g}, {y:g}): keep the frames at the size they were tracked at."
            )
        return x, y

    def _number(self, name: str) -> float:
        try:
            return float(self.camera[name])
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.path} cannot be read as camera poses ({name}).") from error


def _frame(entry: dict[str, Any]) -> Frame:
    pose = np.array(entry["transform_matrix"], np.float64)
    image = int(entry["img_id"])
    sound = int(entry.get("aud_id", image))
    if pose.shape != (4, 4) or not np.isfinite(pose).all() or min(image, sound) < 0:
        raise ValueError(f"frame {image}")
    return Frame(image, sound, pose, float(entry["eye_ratio"]) if "eye_ratio" in entry else None)


def numbered_files(folder: Path, suffix: str) -> set[int]:
    """Numbers n of the files `n<suffix>` of a folder that hold something; none without it."""
    if not folder.is_dir():
        return set()
    return {
        int(path.stem)
        for path in folder.iterdir()
        if path.suffix == suffix and path.stem.isdecimal() and path.stat().st_size > 0
    }


def frames_with_images(
    root: Path, frames: Sequence[Frame], images: Mapping[str, tuple[str, str]]
) -> tuple[list[bool], list[str]]:
    """Which frames have all their images, and a note on those that have not.

    A folder that is missing as a whole is told by Clip.require to those who need it.

    Args:
        images: suffixes (and purposes) of the folders of a clip.

    Raises:
        UserError: so many images are missing that something went wrong.
    """
    have = {name: numbered_files(root / name, suffix) for name, (suffix, _) in images.items()}
    needed = {name: found for name, found in have.items() if found or name == "gt_imgs"}
    there = [all(frame.image in found for found in needed.values()) for frame in frames]
    n_lacking = len(frames) - sum(there)
    if not n_lacking:
        return there, []
    missing = ", ".join(
        f"{count} in {name}"
        for name, found in needed.items()
        if (count := sum(frame.image not in found for frame in frames))
    )
    told = f"{root}: {n_lacking} of {len(frames)} frames lack an image ({missing})"
    if n_lacking > MAX_LEFT_OUT * len(frames):
        raise UserError(f"{told}: copy the folder again or repeat its preprocessing.")
    return there, [f"{told} and are left out."]
