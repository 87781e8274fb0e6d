"""Who tells head, neck and torso apart: the choices of `parser=`.

A new one derives from FrameParser and says in `parse` what one frame shows; name it in a file
conf/parser/<name>.yaml. Its fields and files are the stamp of what it makes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

from radnerf.conventions import BACKGROUND, HEAD, NECK, TORSO
from radnerf.errors import UserError
from radnerf.faces.person import PersonSegmenter
from radnerf.geometry.face68 import JAW, to_68
from radnerf.models import PERSON
from radnerf.preprocess.landmarks.detect import load_mediapipe
from radnerf.preprocess.options import Option, existing, network
from radnerf.preprocess.parsing import bisenet
from radnerf.preprocess.parsing.selfie import (
    Gray,
    Look,
    PersonMask,
    Points,
    Rgb,
    Scores,
    averaged,
    edges,
    face_axes,
    labelled,
    matte,
    parse_clip,
    steady,
    to_byte,
)
from radnerf.runtime.devices import choose_device

# Probabilities that a pixel shows BACKGROUND, HEAD, NECK, TORSO, in the order of these labels.
Parts = Float[np.ndarray, "4 h w"]
Plane = Float[np.ndarray, "h w"]
Labels = Iterator[tuple[int, Gray, Gray]]

# Classes of selfie_multiclass: background, hair, skin of the body, skin of the face, clothes;
# the sixth, "others" (glasses, head phones, ...), goes by its place.
SELFIE_LABELS = (BACKGROUND, HEAD, NECK, HEAD, TORSO)
SELFIE = (
    "give parser.path=selfie_multiclass_256x256.tflite, to download from MediaPipe's page on the "
    "image segmenter"
)
BISENET = (
    "give parser.path=79999_iter.pth, the weights linked from "
    "github.com/zllrunning/face-parsing.PyTorch"
)


@dataclass(frozen=True)
class Parser(Option):
    """Labels a clip."""

    @abstractmethod
    def labels(
        self,
        read_frame: Callable[[int], Rgb],
        landmarks: Float[np.ndarray, "t k c"],
        report: Callable[[int], None] | None = None,
        workers: int = 2,
        first: int = 0,
    ) -> Labels:
        """Number, labels (of radnerf.data.clip) and person matte (0 to 255) of the frames in order.

        Args:
            read_frame: frame i, RGB.
            landmarks: 478 or 68 points a frame, pixels.
            report: called with the number of frames done.
            workers: threads.
            first: frame to begin with; its results are those of a run from the beginning.
        """


@dataclass(frozen=True)
class SelfieParser(Parser):
    """MediaPipe's person mask, cut by the jaw line and by colors learned from the clip.

    Attributes:
        path: folder with the network; None is where `python -m radnerf.models` keeps it, which is
            done at first use.
        person_mask: another mask instead.
    """

    path: str | None = None
    person_mask: PersonMask | None = field(default=None, compare=False, repr=False)

    def files(self) -> tuple[Path, ...]:
        return (self.network(),) if self.path else ()

    def check(self) -> None:
        if self.person_mask is None:
            self.network()

    def network(self) -> Path:
        return network(PERSON, self.path, "parser.path")

    def labels(
        self,
        read_frame: Callable[[int], Rgb],
        landmarks: Float[np.ndarray, "t k c"],
        report: Callable[[int], None] | None = None,
        workers: int = 2,
        first: int = 0,
    ) -> Labels:
        mask = self.person_mask or PersonSegmenter(self.network())
        return parse_clip(read_frame, landmarks, mask, report, workers, first)


@dataclass(frozen=True)
class FrameParser(Parser):
    """A parser that sees one frame at a time.

    Its edges are bent to those of the frame, its labels are steadied over time, and of the head
    only what hangs together with the face is kept, of the neck what touches the chin.
    """

    @abstractmethod
    def parse(self, frame: Rgb, points: Points) -> Parts:
        """What a frame shows; called from one thread.

        Args:
            frame: [h, w, 3], RGB, 0 to 255.
            points: [478 or 68, 2], landmarks in pixels (x, y).

        Returns:
            [4, h, w], probabilities that add up to 1, in the order of radnerf.data.clip:
            BACKGROUND, HEAD (with hair, ears, glasses, hat), NECK, TORSO.
        """

    def labels(
        self,
        read_frame: Callable[[int], Rgb],
        landmarks: Float[np.ndarray, "t k c"],
        report: Callable[[int], None] | None = None,
        workers: int = 2,
        first: int = 0,
    ) -> Labels:
        points = steady(landmarks)

        def look(i: int) -> Look:
            frame = read_frame(i)
            return i, frame, self.parse(frame, points[i])

        def score(near: list[Look]) -> tuple[int, Scores]:
            i, frame, parts = averaged(near)
            return i, scores_of(frame, parts)

        yield from labelled(look, score, points, report, workers, first)


def scores_of(frame: Rgb, parts: Parts) -> Scores:
    """A parser's answer with its edges at those of the frame."""
    guide = edges(frame)
    alpha = matte(guide, 1 - parts[BACKGROUND])
    neck, torso = parts[NECK], parts[TORSO]
    head = parts[HEAD] / np.maximum(1 - parts[BACKGROUND], 1e-3)
    head, neck = (
        np.clip(guide.filter(np.clip(part, 0, 1).astype(np.float32)), 0, 1)
        for part in (head, neck / np.maximum(neck + torso, 1e-3))
    )
    return Scores(*(to_byte(plane) for plane in (alpha, head, neck)))


def grouped(classes: Sequence[Plane] | Float[np.ndarray, "c h w"], labels: Sequence[int]) -> Parts:
    """Probabilities of a network's classes, added up by the label of each."""
    parts = np.zeros((4, *classes[0].shape), np.float32)
    for plane, label in zip(classes, labels, strict=True):
        parts[label] += plane
    return parts


@dataclass(frozen=True)
class SelfieMulticlassParser(FrameParser):
    """MediaPipe's selfie_multiclass_256x256: hair, skin and clothes apart.

    Attributes:
        path: of the .tflite.
    """

    path: str | None = None

    def files(self) -> tuple[Path, ...]:
        return (existing(self.path, "parser.path", SELFIE),)

    def check(self) -> None:
        super().check()
        _tasks()

    def parse(self, frame: Rgb, points: Points) -> Parts:
        mediapipe = _tasks()
        image = mediapipe.Image(
            image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame)
        )
        masks = self.segmenter.segment(image).confidence_masks
        if len(masks) != len(SELFIE_LABELS) + 1:
            raise UserError(f"{self.path} tells {len(masks)} classes instead of 6: {SELFIE}.")
        size = frame.shape[1::-1]
        planes = [np.squeeze(mask.numpy_view()).astype(np.float32) for mask in masks]
        *classes, others = (cv2.resize(p, size, interpolation=cv2.INTER_LINEAR) for p in planes)
        parts = grouped(classes, SELFIE_LABELS)
        above = above_chin(points, (frame.shape[0], frame.shape[1]))
        parts[HEAD] += np.where(above, others, 0)
        parts[TORSO] += np.where(above, 0, others)
        return parts

    @cached_property
    def segmenter(self) -> Any:
        mediapipe, (path,) = _tasks(), self.files()
        vision = mediapipe.tasks.vision
        try:
            return vision.ImageSegmenter.create_from_options(
                vision.ImageSegmenterOptions(
                    base_options=mediapipe.tasks.BaseOptions(model_asset_path=str(path)),
                    output_confidence_masks=True,
                )
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"parser.path={path} cannot be loaded as a segmentation model ({error}): {SELFIE}."
            ) from error


def above_chin(points: Points, size: tuple[int, int]) -> np.ndarray:
    """Pixels above the chin, along the head's own axis: bool [h, w]."""
    origin, axes = face_axes(points)
    down = axes[1]
    chin = ((to_68(points)[JAW] - origin) @ down).max()
    y, x = np.mgrid[: size[0], : size[1]]
    return np.asarray((x - origin[0]) * down[0] + (y - origin[1]) * down[1] < chin)


def _tasks() -> Any:
    """MediaPipe with its tasks.

    Raises:
        UserError: it is not installed, or is too old.
    """
    try:
        mediapipe = load_mediapipe()
        _ = mediapipe.tasks.vision.ImageSegmenter
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"parser=selfie_multiclass needs the package mediapipe ({error}): "
            "pip install mediapipe."
        ) from error
    return mediapipe


@dataclass(frozen=True)
class BisenetParser(FrameParser):
    """The 19-class face-parsing network of the public systems, see bisenet.py.

    Attributes:
        path: of its weights, 79999_iter.pth.
        side: longer side at which it sees the frames; 512 is what it was trained on.
        device: auto is a GPU if there is one.
    """

    path: str | None = None
    side: int = 512
    device: str = field(default="auto", compare=False)

    def files(self) -> tuple[Path, ...]:
        return (existing(self.path, "parser.path", BISENET),)

    def check(self) -> None:
        if self.side < bisenet.STRIDE:
            raise UserError(f"parser.side={self.side} is too small: give a multiple of 32.")
        _ = self.network

    @cached_property
    def network(self) -> bisenet.BiSeNet:
        return bisenet.load_bisenet(self.files()[0], choose_device(self.device))

    @torch.no_grad()
    def parse(self, frame: Rgb, points: Points) -> Parts:
        size = (frame.shape[0], frame.shape[1])
        device = next(self.network.parameters()).device
        picture = torch.from_numpy(np.ascontiguousarray(frame)).to(device)
        picture = picture.permute(2, 0, 1)[None].float() / 255
        mean, std = (
            torch.tensor(values, device=device)[:, None, None]
            for values in (bisenet.MEAN, bisenet.STD)
        )
        picture = F.interpolate(picture, self.input_size(size), mode="bilinear", antialias=True)
        classes = self.network((picture - mean) / std).softmax(1)
        classes = F.interpolate(classes, size, mode="bilinear")
        return grouped(classes[0].cpu().numpy(), tuple(bisenet.LABELS.values()))

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that the network gets, nearly in the frame's proportions."""
        scale = self.side / max(size) / bisenet.STRIDE
        height, width = (max(1, round(side * scale)) * bisenet.STRIDE for side in size)
        return height, width
