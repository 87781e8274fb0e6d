"""The stage that lays the person and the torso out over the background."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from radnerf.data.clip import read_image, write_image
from radnerf.preprocess.layers.torso import TorsoPainter
from radnerf.preprocess.pictures import frame_reader, matte_reader, read_parsing
from radnerf.preprocess.stages import Stage, Workspace
from radnerf.preprocess.streams import counted, on_threads


@dataclass(frozen=True)
class Layers(Stage):
    """Of every frame the torso with the neck continued, and the person over the background."""

    name = "layers"
    needs = ("parsing", "background")
    outputs = ("gt_imgs", "torso_imgs")
    resumable = True
    seconds_a_frame = 0.018

    n_frames: int
    workers: int

    def run(self, work: Workspace) -> None:
        read, matte = frame_reader(work.root), matte_reader(work.root)
        points = np.load(work.root / "landmarks.npy")
        background = read_image(work.root / "bc.jpg")
        painter = TorsoPainter.fit(read, lambda i: read_parsing(work.root, i), matte, self.n_frames)

        def write(i: int) -> None:
            rgb, alpha = read(i), matte(i)
            labels = read_parsing(work.root, i)
            torso = painter.paint(rgb, labels, alpha, points[i], background)
            write_image(work.out / "torso_imgs" / f"{i}.png", torso)
            write_image(work.out / "gt_imgs" / f"{i}.jpg", over(rgb, alpha, background))

        done = work.done("gt_imgs/{}.jpg", "torso_imgs/{}.png")
        frames = on_threads(write, range(done, self.n_frames), self.workers)
        for _ in counted(frames, work.report, done):
            pass


def over(
    rgb: UInt8[np.ndarray, "h w 3"],
    alpha: UInt8[np.ndarray, "h w"],
    background: UInt8[np.ndarray, "h w 3"],
) -> UInt8[np.ndarray, "h w 3"]:
    """The person over the background."""
    coverage = alpha.astype(np.float32) / 255
    return np.asarray(cv2.blendLinear(rgb, background, coverage, 1 - coverage))
