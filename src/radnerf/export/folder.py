"""A clip in the layout of another tool.

Letters: T video frames, S feature steps, C feature width.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from radnerf.audio import precomputed_windows
from radnerf.conventions import HEAD, WINDOW
from radnerf.data.blinks import write_blinks
from radnerf.data.clip import (
    HELD_OUT,
    PUBLIC_HEAD_BOX,
    TRAIN,
    Clip,
    to_public_pose,
    write_image,
    write_parsing,
)
from radnerf.errors import UserError
from radnerf.files import whole_folder
from radnerf.geometry.eyes import eye_range
from radnerf.load import cores

Progress = Callable[[Iterable[Any], int], Iterable[Any]]  # of the frames, as many as told


@dataclass(frozen=True)
class Tool:
    """What sets a tool's folder apart from the others'.

    Attributes:
        features: file of audio features by their width.
        hubert: how states of HuBERT lie in its file: -1 for [S, C], 2 for [T, 2, C].
    """

    name: str
    features: dict[int, str]
    hubert: tuple[int, ...] = ()
    eye_ratio: bool = True  # in the transforms; ER-NeRF's would be the other way round
    blinks: bool = False
    face_rectangles: bool = False
    head_images: bool = False
    lacks: str = ""  # what only the tool itself can make


TOOLS = {
    "radnerf": Tool("RAD-NeRF", {29: "aud_ds.npy", 32: "aud.npy", 44: "aud_eo.npy"}),
    "ernerf": Tool(
        "ER-NeRF",
        {29: "aud_ds.npy", 32: "aud.npy", 44: "aud_eo.npy", 1024: "aud_hu.npy"},
        hubert=(-1, 2, 1024),
        eye_ratio=False,
        blinks=True,
    ),
    "geneface": Tool(
        "GeneFace",
        {29: "aud_deepspeech.npy", 44: "aud_esperanto.npy", 1024: "aud_hubert.npy"},
        hubert=(-1, 1024),
        face_rectangles=True,
        head_images=True,
        lacks="vid_coeff.npy and aud_mel_f0.npy, which its own tools make",
    ),
}


def export(
    clip: Clip, out: Path, tool: Tool, audio: Path | None = None, progress: Progress | None = None
) -> list[str]:
    """Write a clip as another tool's preprocessing would have: the whole folder or nothing.

    Images are copied bit for bit; poses are exact; landmarks have four decimals, and the eye
    control of ER-NeRF (AU45_r) two.

    Args:
        audio: audio features of the clip, of any shape that audio=features reads.

    Returns:
        What the user should know of the folder, sentences.

    Raises:
        UserError: the folder exists or cannot be written, or the clip or the features do not fit.
    """
    clip.require("gt_imgs", "torso_imgs", "parsing")
    sound, background = (clip.root / name for name in ("aud.wav", "bc.jpg"))
    for path in (sound, background):
        if not path.is_file():
            raise UserError(f"{clip.root} has no {path.name}, which {tool.name} needs.")
    features = _features(clip, tool, audio) if audio else None
    frames = range(len(clip))
    with whole_folder(out) as part:
        for name in ("gt_imgs", "torso_imgs", "parsing", "ori_imgs"):
            (part / name).mkdir()
        with ThreadPoolExecutor(cores()) as pool:
            done = pool.map(lambda i: _write_frame(clip, i, part, tool), frames)
            for _ in progress(done, len(clip)) if progress else done:
                pass
        for path in (sound, background):
            shutil.copyfile(path, part / path.name)
        if tool.blinks:
            # Of the landmarks, from which a reader has them back.
            area = np.array([clip.measured_eye_ratio(i) for i in range(clip.n_train)])
            write_blinks(part / "au.csv", clip.eye, clip.ids, eye_range(area))
        if features is not None:
            np.save(part / features[0], features[1])
        _write_transforms(clip, part, tool)
    return _remarks(clip, tool, features is not None)


def _write_frame(clip: Clip, i: int, part: Path, tool: Tool) -> None:
    number = clip.ids[i]
    picture = clip.path("gt_imgs", i, "jpg")
    original = clip.path("ori_imgs", i, "jpg")
    shutil.copyfile(picture, part / "gt_imgs" / picture.name)
    shutil.copyfile(original if original.is_file() else picture, part / "ori_imgs" / picture.name)
    np.savetxt(part / "ori_imgs" / f"{number}.lms", clip.landmarks(i), "%.4f")
    shutil.copyfile(clip.path("torso_imgs", i, "png"), part / "torso_imgs" / f"{number}.png")
    labels = clip.parsing(i)
    write_parsing(part / "parsing" / f"{number}.png", labels)
    if tool.head_images:
        head = np.where((labels == HEAD)[..., None], clip.image(i), clip.background())
        write_image(part / "head_imgs" / picture.name, head)


def _write_transforms(clip: Clip, part: Path, tool: Tool) -> None:
    poses = to_public_pose(clip.poses)
    parts = {TRAIN: range(clip.n_train), HELD_OUT: range(clip.n_train, len(clip))}
    for name, rows in parts.items():
        frames = []
        for i in rows:
            frame: dict[str, Any] = {
                "img_id": int(clip.ids[i]),
                "aud_id": int(clip.audio_ids[i]),
                "transform_matrix": poses[i].tolist(),
            }
            if tool.eye_ratio:
                frame["eye_ratio"] = round(float(clip.eye[i]), 6)
            if tool.face_rectangles:
                frame["face_rect"] = face_and_hair(clip.landmarks(i), clip.size)
            frames.append(frame)
        camera = {"focal_len": clip.focal, "cx": clip.centre[0], "cy": clip.centre[1]}
        text = json.dumps(camera | {"frames": frames}, indent=2)
        (part / name).write_text(text)


def face_and_hair(landmarks: Float[np.ndarray, "68 2"], size: tuple[int, int]) -> list[int]:
    """Left, top, width and height of the rectangle that AD-NeRF and GeneFace draw rays in.

    Half as wide again as the jaw, and from the root of the nose 1.15 times as far up
    as down to the chin.
    """
    height, width = size
    left, right = landmarks[:, 0].min(), landmarks[:, 0].max()
    x, y = int((left + right) / 2), int(landmarks[27, 1])
    half_width, half_height = int((right - x) * 1.5), int((landmarks[8, 1] - y) * 1.15)
    first = max(0, x - half_width), max(0, y - half_height)
    return [
        *first,
        min(width - 1 - first[0], 2 * half_width),
        min(height - 1 - first[1], 2 * half_height),
    ]


def _features(clip: Clip, tool: Tool, path: Path) -> tuple[str, np.ndarray]:
    """Name and content of the tool's feature file."""
    if not path.is_file() and (clip.root / path).is_file():
        path = clip.root / path
    windows = precomputed_windows(path, int(clip.audio_ids.max()) + 1, clip.fps)
    width = windows.shape[2]
    if width not in tool.features:
        known = ", ".join(str(known) for known in tool.features)
        raise UserError(f"{path} is {width} wide, and {tool.name} reads features of {known}.")
    if width == 1024 and tool.hubert:
        middle = WINDOW // 2
        return tool.features[width], windows[:, middle : middle + 2].reshape(tool.hubert)
    return tool.features[width], np.ascontiguousarray(windows)


def _remarks(clip: Clip, tool: Tool, has_features: bool) -> list[str]:
    remarks = []
    if not has_features:
        remarks.append(f"It has no audio features: make them with {tool.name}'s tools, or --audio.")
    if tool.lacks:
        remarks.append(f"{tool.name} also wants {tool.lacks}.")
    (low, high), (low_of, high_of) = clip.head_box, PUBLIC_HEAD_BOX
    if (np.array(low) < low_of).any() or (np.array(high) > high_of).any():
        remarks.append(f"The head reaches out of the box of {tool.name}: raise its --bound.")
    return remarks
