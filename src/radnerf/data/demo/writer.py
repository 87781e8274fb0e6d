"""Writes the demo as a preprocessed clip with its truth, or as a plain video with sound."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float, UInt8
from rich.progress import Progress
from scipy.io import wavfile

from radnerf.conventions import BACKGROUND, FPS, HEAD, NECK, SAMPLE_RATE, TORSO
from radnerf.data.clip import eye_ratio, read_meta, write_image, write_parsing, write_transforms
from radnerf.data.demo.body import move_body, render_body, render_room
from radnerf.data.demo.character import BOX_LOW, CELL, MAX_GAP, bake, face
from radnerf.data.demo.landmarks import RIGID, landmarks, landmarks_at_rest
from radnerf.data.demo.motion import CM, FOCAL, Motion, frame_times, move, project
from radnerf.data.demo.render import render_head
from radnerf.data.demo.speech import NAMES, RATE, Speech, synthesize
from radnerf.errors import UserError

Report = Callable[[int, int], None]  # frames done, frames in all
VERSION = 1  # of the performance: raise it whenever the same seed draws something else


@dataclass
class Layers:
    """One frame's parts; colors display-encoded in 0..1."""

    head: Float[np.ndarray, "h w 4"]  # premultiplied
    body: Float[np.ndarray, "h w 5"]  # premultiplied, alpha, neck's part of it
    landmarks: Float[np.ndarray, "68 3"]  # cm, head's frame

    def over(self, room: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
        behind = self.body[..., :3] + (1 - self.body[..., 3:4]) * room
        return self.head[..., :3] + (1 - self.head[..., 3:]) * behind

    def parsing(self) -> UInt8[np.ndarray, "h w"]:
        """Labels of what covers most of each pixel."""
        alpha, neck = self.body[..., 3], self.body[..., 4]
        labels = np.full(alpha.shape, BACKGROUND, np.uint8)
        labels[alpha > 0.5] = TORSO
        labels[(alpha > 0.5) & (neck > 0.5 * alpha)] = NECK
        labels[self.head[..., 3] > 0.5] = HEAD
        return labels

    def torso(self) -> UInt8[np.ndarray, "h w 4"]:
        """Neck and torso, RGBA with straight alpha."""
        color = self.body[..., :3] / np.maximum(self.body[..., 3:4], 1e-6)
        return to_bytes(np.concatenate([color, self.body[..., 3:4]], -1))


def to_bytes(image: Float[np.ndarray, "*s"]) -> UInt8[np.ndarray, "*s"]:
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


class Scene:
    """The whole performance, drawn frame by frame."""

    def __init__(self, seconds: float, size: int, seed: int) -> None:
        self.size = size
        self.speech: Speech = synthesize(seconds, seed)
        self.motion: Motion = move(self.speech, seconds, seed)
        times = frame_times(seconds)
        self.opening = self.speech.at(self.speech.opening, times)
        self.width = self.speech.at(self.speech.width, times)
        self.table = bake()
        self.rest = landmarks_at_rest(self.table)
        self.room = to_bytes(render_room(size, seed)).astype(np.float32) / 255
        self._body = render_body(self.table, size)

    def __len__(self) -> int:
        return len(self.motion)

    def draw(self, i: int) -> Layers:
        m = self.motion
        f = face(float(self.opening[i]), float(self.width[i]), float(m.lid[i]))
        focal = FOCAL * self.size
        return Layers(
            render_head(self.table, f, m.rotation[i], m.origin[i], focal, self.size),
            move_body(self._body, self.size, m.body_shift[i], m.neck_shift[i]),
            landmarks(self.rest, self.table, f),
        )

    def frames(self, progress: Report | None) -> Iterator[tuple[int, Layers]]:
        for i in range(len(self)):
            yield i, self.draw(i)
            if progress:
                progress(i + 1, len(self))


def _head_box(head_points: Float[np.ndarray, "n 3"]) -> list[list[float]]:
    """Memory-convention box of points of the head (cm), 4 % larger."""
    low, high = head_points.min(0), head_points.max(0)
    pad = 0.04 * (high - low)
    box = np.stack([low - pad, high + pad]) / CM
    return [[round(float(v), 4) for v in row] for row in box[:, [1, 2, 0]]]


def _head_extent(scene: Scene) -> Float[np.ndarray, "n 3"]:
    """Points inside the head at rest, and the chin at its lowest."""
    inside = np.argwhere(scene.table.min(-1) < 0.1)
    points = np.stack([inside.min(0), inside.max(0)]) * CELL + np.array(BOX_LOW)
    points[0, 1] -= 0.7 * MAX_GAP * float(scene.opening.max())
    return points


def write_demo_clip(
    root: Path,
    seconds: float = 12.0,
    size: int = 160,
    seed: int = 0,
    progress: Report | None = None,
) -> None:
    """Write a preprocessed clip (layout of data/clip.py) and its exact truth, truth.npz.

    truth.npz: mouth_opening, eye_opening [T] in 0..1; mouth_opening_px [T]; mouth_width [T] in
    -1..1; poses [T, 4, 4] and landmarks_3d [T, 68, 3] in memory units; landmarks68 [T, 68, 2] in
    pixels; rigid [68], the landmarks that no expression moves; focal in pixels; phonemes [n],
    phoneme_names and phoneme_rate in Hz.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / "ori_imgs").mkdir(exist_ok=True)
    scene = Scene(seconds, size, seed)
    motion, n = scene.motion, len(scene)
    wavfile.write(root / "aud.wav", SAMPLE_RATE, (scene.speech.wave * 32767).astype(np.int16))
    write_image(root / "bc.jpg", to_bytes(scene.room))
    points3d = np.zeros((n, 68, 3))
    points = np.zeros((n, 68, 2), np.float32)
    for i, layers in scene.frames(progress):
        points3d[i] = layers.landmarks
        points[i] = project(layers.landmarks, motion.rotation[i], motion.origin[i], size)
        image = to_bytes(layers.over(scene.room))
        write_image(root / "gt_imgs" / f"{i}.jpg", image)
        write_image(root / "ori_imgs" / f"{i}.jpg", image)
        write_image(root / "torso_imgs" / f"{i}.png", layers.torso())
        write_parsing(root / "parsing" / f"{i}.png", layers.parsing())
        np.savetxt(root / "ori_imgs" / f"{i}.lms", points[i], "%.4f")
    eye = np.array([eye_ratio(p, size, size) for p in points], np.float32)
    focal = FOCAL * size
    np.savez_compressed(
        root / "truth.npz",
        mouth_opening=scene.opening.astype(np.float32),
        mouth_opening_px=np.linalg.norm(points[:, 62] - points[:, 66], axis=-1),
        mouth_width=scene.width.astype(np.float32),
        eye_opening=motion.lid.astype(np.float32),
        poses=motion.poses,
        focal=np.float64(focal),
        landmarks68=points,
        landmarks_3d=(points3d[..., [1, 2, 0]] / CM).astype(np.float32),
        rigid=RIGID,
        phonemes=scene.speech.phoneme,
        phoneme_names=np.array(NAMES),
        phoneme_rate=np.float64(RATE),
    )
    meta = {
        "format": 1,
        "id": root.name.removesuffix(".part"),
        "fps": FPS,
        "size": [size, size],
        "head_box": _head_box(_head_extent(scene)),
        "focal_px": focal,
        "source": {"demo": {"seconds": seconds, "size": size, "seed": seed, "version": VERSION}},
    }
    (root / "clip.json").write_text(json.dumps(meta, indent=1))
    # Last: a folder that was cut short does not open as a clip.
    write_transforms(root, motion.poses, eye, focal, (size / 2, size / 2))


def make_demo_clip(root: Path, seconds: float = 12.0, size: int = 160, seed: int = 0) -> None:
    """Have a demo clip in root: written whole or not at all, and only when it is not there yet.

    Raises:
        UserError: there is something else than a demo clip.
    """
    root = Path(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    # The jobs of a sweep may all want it at once: the first makes it, the others wait.
    with root.with_name(f".{root.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = {"seconds": seconds, "size": size, "seed": seed, "version": VERSION}
        source = read_meta(root).get("source", {})
        if source == {"demo": wanted}:
            return
        other = root.exists() and "demo" not in source
        if other and (not root.is_dir() or any(root.iterdir())):
            raise UserError(f"{root} holds something else than a demo clip: give another folder.")
        unfinished = root.with_name(root.name + ".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        with Progress() as bar:
            task = bar.add_task("drawing the demo clip")
            write_demo_clip(
                unfinished, seconds, size, seed, lambda i, n: bar.update(task, completed=i, total=n)
            )
        shutil.rmtree(root, ignore_errors=True)
        unfinished.rename(root)


def write_demo_video(
    path: Path,
    seconds: float = 12.0,
    size: int = 256,
    seed: int = 0,
    progress: Report | None = None,
) -> None:
    """Write the demo as an ordinary video (H.264 and AAC), as a camera would have taken it."""
    scene = Scene(seconds, size, seed)
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=int(FPS), options={"crf": "12"})
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        sound = file.add_stream("aac", rate=SAMPLE_RATE)
        sound.layout = "mono"
        for i, layers in scene.frames(progress):
            frame = av.VideoFrame.from_ndarray(to_bytes(layers.over(scene.room)), format="rgb24")
            frame.pts = i
            file.mux(video.encode(frame))
        file.mux(video.encode())
        for start in range(0, len(scene.speech.wave), 1024):
            block = scene.speech.wave[None, start : start + 1024]
            samples = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            samples.sample_rate = SAMPLE_RATE
            samples.pts, samples.time_base = start, Fraction(1, SAMPLE_RATE)
            file.mux(sound.encode(samples))
        file.mux(sound.encode())
