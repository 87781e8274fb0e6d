"""The preprocessed clip on disk: the only owner of its file names, labels and axis flips.

Layout (the one public RAD-NeRF, AD-NeRF and ER-NeRF tools share):

    aud.wav                 16 kHz mono
    aud_<extractor>.npy     [T, 16, C] feature windows (public: aud.npy, aud_eo.npy, aud_hu.npy)
    ori_imgs/<i>.jpg        the frame;  ori_imgs/<i>.lms  68 x 2 landmarks, text, pixels (x y)
    parsing/<i>.png         color-coded labels, see PARSING_RGB
    gt_imgs/<i>.jpg         the person over the background
    torso_imgs/<i>.png      RGBA, the torso with the neck in-painted upward under the head
    bc.jpg                  the background
    transforms_train.json, transforms_val.json
    au.csv                  optional (ER-NeRF): blinks by OpenFace, see data/blinks.py
    clip.json               ours alone, optional: frame rate, head box, tracking report
    consent.txt             ours alone, optional: who agreed and when; empty if nobody was asked

Frames. On disk a pose is camera-to-world with OpenGL camera axes (x right, y up, z backward) in a
world where the head stands at the origin: x to the image's right, y up, z towards the camera.
In memory it has OpenCV camera axes (x right, y down, z forward) in a world permuted to
(y, z, x) = (up, towards the camera, right) and scaled by WORLD_SCALE, as the public code has it.
The distance between the outer eye corners of our own clips is OUTER_EYE_DISTANCE in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from radnerf.conventions import BACKGROUND, FPS, HEAD, NECK, TORSO
from radnerf.data.blinks import eye_ratios, read_blinks
from radnerf.data.landmark_files import LandmarkFiles
from radnerf.data.transforms import (
    SAME_FOCAL,
    Frame,
    Transforms,
    frames_with_images,
    numbered_files,
)
from radnerf.errors import UserError
from radnerf.files import whole_file
from radnerf.geometry.eyes import eye_range
from radnerf.geometry.face68 import LEFT_EYE, NOSTRILS, OUTER_LIPS, RIGHT_EYE

WORLD_SCALE = 4.0
CONSENT = "consent.txt"
TRAIN, HELD_OUT = "transforms_train.json", "transforms_val.json"
# Folders of images, one a frame, and what training has them for.
IMAGES = {
    "gt_imgs": (".jpg", "what the person looks like"),
    "torso_imgs": (".png", "what is behind the head"),
    "parsing": (".png", "head, neck and torso from each other"),
}
# Box of the public systems: up, towards the camera, right.
PUBLIC_HEAD_BOX = ((-1.0, -0.5, -1.0), (1.0, 0.5, 1.0))

PARSING_RGB = {
    BACKGROUND: (255, 255, 255),
    HEAD: (0, 0, 255),
    NECK: (0, 255, 0),
    TORSO: (255, 0, 0),
}


def _nearest_label(rgb: tuple[int, int, int]) -> int:
    return min(
        PARSING_RGB,
        key=lambda k: sum((a - b) ** 2 for a, b in zip(rgb, PARSING_RGB[k], strict=True)),
    )


# Of the color cube's corners (red + 2 green + 4 blue): other tools blur or compress their labels.
_CORNER_LABELS = np.array(
    [_nearest_label((255 * (k & 1), 255 * (k >> 1 & 1), 255 * (k >> 2))) for k in range(8)],
    np.uint8,
)

Pose = Float[np.ndarray, "t 4 4"]


def to_memory_pose(public: Float[np.ndarray, "*t 4 4"]) -> Float[np.ndarray, "*t 4 4"]:
    """Public (on-disk) camera-to-world matrices to ours; see the module's docstring."""
    pose = np.array(public, np.float64, copy=True)
    pose[..., :3, 1:3] *= -1
    pose[..., :3, 3] *= WORLD_SCALE
    pose[..., :3, :] = pose[..., [1, 2, 0], :]
    return pose.astype(np.float32)


def to_public_pose(memory: Float[np.ndarray, "*t 4 4"]) -> Float[np.ndarray, "*t 4 4"]:
    """Inverse of to_memory_pose."""
    pose = np.array(memory, np.float64, copy=True)
    pose[..., :3, :] = pose[..., [2, 0, 1], :]
    pose[..., :3, 3] /= WORLD_SCALE
    pose[..., :3, 1:3] *= -1
    return pose


def face_rectangle(landmarks: Float[np.ndarray, "68 2"]) -> tuple[int, int, int, int]:
    """Rows and columns (top, bottom, left, right; ends excluded) that may move with audio.

    From the top of the nostrils (31-35) to the chin, and from ear to ear, as the public code.
    """
    top = int(landmarks[NOSTRILS, 1].min())
    bottom = int(np.ceil(landmarks[:, 1].max())) + 1
    left = int(landmarks[:, 0].min())
    right = int(np.ceil(landmarks[:, 0].max())) + 1
    return top, bottom, left, right


def lips_rectangle(
    landmarks: Float[np.ndarray, "68 2"], height: int, width: int, margin: float = 0.1
) -> tuple[int, int, int, int]:
    """Square (top, bottom, left, right) around the outer lips, at least 8 px, inside the image."""
    lips = landmarks[OUTER_LIPS]
    centre = (lips.min(0) + lips.max(0)) / 2
    side = int(np.ceil(np.ptp(lips, axis=0).max() * (1 + 2 * margin)))
    side = int(np.clip(side, 8, min(height, width)))
    left = int(np.clip(round(centre[0] - side / 2), 0, width - side))
    top = int(np.clip(round(centre[1] - side / 2), 0, height - side))
    return top, top + side, left, left + side


def eye_ratio(landmarks: Float[np.ndarray, "68 2"], height: int, width: int) -> float:
    """Area of both eye polygons in percent of the image (the public eye control)."""
    area = sum(cv2.contourArea(landmarks[eye].astype(np.float32)) for eye in (LEFT_EYE, RIGHT_EYE))
    return 100.0 * float(area) / (height * width)


@dataclass
class Clip:
    """A clip folder opened for reading; images are read when asked for."""

    root: Path
    ids: Int[np.ndarray, " t"]  # frame numbers, as in the file names
    poses: Float[np.ndarray, "t 4 4"]  # in memory convention
    eye: Float[np.ndarray, " t"]
    focal: float  # pixels
    centre: tuple[float, float]  # cx, cy in pixels
    n_train: int  # the first n_train frames train, the rest are held out
    audio_ids: Int[np.ndarray, " t"]  # the frames' audio windows, nearly always the same numbers
    meta: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # for the user: what had to be put up with

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def open(cls, root: str | Path) -> Clip:
        """Read a clip's index.

        Frames without images are left out, with a note.

        Raises:
            UserError: the folder is not a preprocessed clip, or its parts do not fit together.
        """
        root = Path(root)
        for name in (TRAIN, HELD_OUT):
            if not (root / name).is_file():
                raise UserError(f"{root} is not a preprocessed clip: it has no {name}.")
        train, held_out = (Transforms.read(root / name) for name in (TRAIN, HELD_OUT))
        listed = train.frames + held_out.frames
        there, notes = frames_with_images(root, listed, IMAGES)
        frames = [frame for frame, has_images in zip(listed, there, strict=True) if has_images]
        n_train = sum(there[: len(train.frames)])
        if n_train == 0 or len(frames) <= n_train:
            raise UserError(f"{root} has too few frames: {n_train} to train, {len(frames)} in all.")
        clip = cls(
            root=root,
            ids=np.array([frame.image for frame in frames], np.int64),
            poses=to_memory_pose(np.array([frame.pose for frame in frames])),
            eye=np.zeros(len(frames), np.float32),
            focal=0.0,
            centre=(0.0, 0.0),
            n_train=n_train,
            audio_ids=np.array([frame.sound for frame in frames], np.int64),
            meta=read_meta(root),
            notes=notes,
        )
        clip.focal, clip.centre = train.focal(clip.size), train.centre(clip.size)
        if not np.isclose(held_out.focal(clip.size), clip.focal, rtol=SAME_FOCAL):
            raise UserError(f"{held_out.path} and {train.path} have different focal lengths.")
        clip.eye = clip._eye_track(frames)
        return clip

    def _eye_track(self, frames: Sequence[Frame]) -> Float[np.ndarray, " t"]:
        """Eye ratios as the transforms have them, else by au.csv, else of the landmarks."""
        given = [frame.eye for frame in frames if frame.eye is not None]
        if len(given) == len(frames):
            return np.array(given, np.float32)
        blinks = self.root / "au.csv"
        closed = read_blinks(blinks, self.ids) if blinks.is_file() else None
        area = np.array([self.measured_eye_ratio(i) for i in range(len(self))])
        if closed is None:
            return area.astype(np.float32)
        self.notes.append(f"{blinks}: eyes by OpenFace's blinks")
        return eye_ratios(closed, eye_range(area[: self.n_train])).astype(np.float32)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.image(0).shape[:2]
        return height, width

    @property
    def fps(self) -> float:
        return float(self.meta.get("fps", FPS))

    @property
    def head_box(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Axis-aligned box (min, max) that holds the head, in memory world units."""
        low, high = self.meta.get("head_box", PUBLIC_HEAD_BOX)
        return tuple(low), tuple(high)

    def image(self, i: int) -> UInt8[np.ndarray, "h w 3"]:
        """Frame i, RGB: the person over the background."""
        return read_image(self.path("gt_imgs", i, "jpg"))

    def require(self, *folders: str) -> None:
        """See that folders of images are there.

        Raises:
            UserError: one is missing, and what it is needed for.
        """
        for name in folders:
            suffix, purpose = IMAGES[name]
            if not numbered_files(self.root / name, suffix):
                raise UserError(
                    f"{self.root} has no {name} (they tell {purpose}): repeat the tool's "
                    "preprocessing, or preprocess the video with data=video."
                )

    def torso(self, i: int) -> UInt8[np.ndarray, "h w 4"]:
        """Torso of frame i, RGBA with straight alpha."""
        return read_image(self.path("torso_imgs", i, "png"), channels=4)

    def parsing(self, i: int) -> UInt8[np.ndarray, "h w"]:
        """Labels of frame i (BACKGROUND, HEAD, NECK, TORSO)."""
        return read_parsing(self.path("parsing", i, "png"))

    def background(self) -> UInt8[np.ndarray, "h w 3"]:
        """The background, RGB, at the frames' size."""
        picture, (height, width) = read_image(self.root / "bc.jpg"), self.size
        if picture.shape[:2] != self.size:
            picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
        return picture

    def landmarks(self, i: int) -> Float[np.ndarray, "68 2"]:
        """68 landmarks of frame i in pixels (x, y); short gaps in the files are bridged."""
        return self._landmark_files(int(self.ids[i]))

    @cached_property
    def _landmark_files(self) -> LandmarkFiles:
        return LandmarkFiles(self.root / "ori_imgs")

    def measured_eye_ratio(self, i: int) -> float:
        return eye_ratio(self.landmarks(i), *self.size)

    def path(self, folder: str, i: int, suffix: str) -> Path:
        return self.root / folder / f"{self.ids[i]}.{suffix}"


def read_meta(root: Path) -> dict[str, Any]:
    """Contents of clip.json, or nothing when the clip is another tool's."""
    path = root / "clip.json"
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}).") from error


def read_consent(root: Path, video: str | None = None) -> str | None:
    """Who agreed and when; empty if nobody did, None if it was never asked.

    Args:
        video: hash of the video that the clip is made of; what was said of another does not count.
    """
    path = root / CONSENT
    if not path.is_file():
        return None
    text, _, of = path.read_text().partition("\n")
    return None if video and of.strip() and of.strip() != video else text.strip()


def write_consent(root: Path, consent: str | None, video: str | None = None) -> None:
    """Keep who agreed and when, and to which video; None forgets what was said of another.

    Raises:
        UserError: the file cannot be written.
    """
    if consent is None:
        (root / CONSENT).unlink(missing_ok=True)
        return
    with whole_file(root / CONSENT) as part:
        part.write_text(f"{' '.join(consent.split())}\n{video or ''}\n")


def read_image(path: Path, channels: int = 3) -> UInt8[np.ndarray, "h w c"]:
    """An image as RGB or RGBA.

    Raises:
        UserError: missing or unreadable file.
    """
    flag = cv2.IMREAD_UNCHANGED if channels == 4 else cv2.IMREAD_COLOR
    image = cv2.imread(str(path), flag)
    if image is None or image.ndim != 3 or image.shape[2] != channels:
        raise UserError(f"{path} is missing or not a {channels}-channel image.")
    code = cv2.COLOR_BGRA2RGBA if channels == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(image, code))


def write_image(path: Path, rgb: UInt8[np.ndarray, "h w c"]) -> None:
    """Write gray, RGB or RGBA, whole or not at all.

    JPEG at quality 98 without chroma subsampling, so that it does not blur.

    Raises:
        UserError: the file cannot be written.
    """
    _save(path, Image.fromarray(rgb.squeeze(-1) if rgb.shape[2] == 1 else rgb))


def _save(path: Path, image: Image.Image) -> None:
    options: dict[str, Any] = {}
    if path.suffix == ".jpg":
        options = {"quality": 98, "subsampling": 0}
    elif path.suffix == ".png":
        options = {"compress_level": 1}
    with whole_file(path) as part:
        image.save(part, **options)


def read_parsing(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Labels from the public colors, each pixel's by the nearest."""
    bright = read_image(path) >> 7
    return _CORNER_LABELS[bright[..., 0] | bright[..., 1] << 1 | bright[..., 2] << 2]


def write_parsing(path: Path, labels: UInt8[np.ndarray, "h w"]) -> None:
    """Write labels in the public colors."""
    image = Image.fromarray(labels)
    image.putpalette([channel for label in sorted(PARSING_RGB) for channel in PARSING_RGB[label]])
    _save(path, image)


def n_train_frames(n_frames: int) -> int:
    """The public split: the first 10/11 train, the rest are held out (one frame at least)."""
    return max(1, min(n_frames - 1, n_frames * 10 // 11))


def identity(root: Path) -> str:
    """What tells a clip folder from what was in its place before: its poses and frame numbers."""
    return hashlib.sha256((root / TRAIN).read_bytes()).hexdigest()


def write_transforms(
    root: Path,
    poses: Float[np.ndarray, "t 4 4"],
    eye: Float[np.ndarray, " t"],
    focal: float,
    centre: tuple[float, float],
    skipped: Bool[np.ndarray, " t"] | None = None,
) -> None:
    """Write both transforms files for frames 0 .. t-1, from poses in memory convention.

    Args:
        skipped: frames that are left out of both.
    """
    public = to_public_pose(poses)
    n_train = n_train_frames(len(poses))
    for name, rows in ((TRAIN, range(n_train)), (HELD_OUT, range(n_train, len(poses)))):
        content = {
            "focal_len": focal,
            "cx": centre[0],
            "cy": centre[1],
            "frames": [
                {
                    "img_id": i,
                    "aud_id": i,
                    "eye_ratio": round(float(eye[i]), 6),
                    "transform_matrix": public[i].tolist(),
                }
                for i in rows
                if skipped is None or not skipped[i]
            ],
        }
        (root / name).write_text(json.dumps(content, indent=1))
