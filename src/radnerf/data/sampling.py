"""Which pixels of which frames a training step looks at.

Letters: F frames in a step, N rays in all, T frames of the clip, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Int
from torch import Tensor

from radnerf.conventions import BACKGROUND, HEAD
from radnerf.data.frames import FrameStore


@dataclass(frozen=True)
class RegionFractions:
    """Fractions of the rays drawn from each region; they need not add up to one.

    head and person are the pixels that were head (person) in any frame, a little dilated; eyes and
    lips are the rectangles of the very frame; image is everything.
    """

    head: float = 0.0
    person: float = 0.0
    eyes: float = 0.0
    lips: float = 0.0
    image: float = 0.0


class PixelSampler:
    """Draws pixels of given frames on the device that holds the frames."""

    def __init__(self, frames: FrameStore, n_train: int, dilation: float = 0.03) -> None:
        self.frames = frames
        self.height, self.width = frames.labels.shape[1:]
        pad = max(1, round(dilation * self.width))
        self._head = region_pixels(frames.labels[:n_train], HEAD, pad)
        self._person = region_pixels(frames.labels[:n_train], None, pad)

    def draw(
        self,
        frame: Int[Tensor, " f"],
        n_rays: int,
        fractions: RegionFractions,
        generator: torch.Generator,
    ) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " n"]]:
        """Slot in 0..F-1, row and column of about n_rays pixels, frame by frame."""
        per_frame = max(1, n_rays // len(frame))
        total = sum(vars(fractions).values())
        parts = []
        for name, fraction in vars(fractions).items():
            count = round(per_frame * fraction / total)
            if count == 0:
                continue
            draw = getattr(self, f"_draw_{name}")
            parts.append(torch.stack(draw(frame, count, generator), -1))
        row, column = torch.cat(parts, 1).unbind(-1)
        slot = torch.arange(len(frame), device=row.device)[:, None].expand_as(row)
        return slot.reshape(-1), row.reshape(-1), column.reshape(-1)

    def patch(
        self, frame: Int[Tensor, " f"], rectangles: Int[Tensor, "t 4"], side: int
    ) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " n"]]:
        """All pixels of a side x side square around each frame's rectangle, row by row."""
        top, bottom, left, right = rectangles[frame.cpu()].to(frame.device).unbind(-1)
        row0 = ((top + bottom - side) // 2).clamp(0, self.height - side)
        column0 = ((left + right - side) // 2).clamp(0, self.width - side)
        step = torch.arange(side, device=frame.device)
        row = (row0[:, None, None] + step[:, None]).expand(-1, side, side)
        column = (column0[:, None, None] + step[None]).expand(-1, side, side)
        slot = torch.arange(len(frame), device=frame.device)[:, None, None].expand_as(row)
        return slot.reshape(-1), row.reshape(-1), column.reshape(-1)

    def _draw_head(
        self, frame: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return self._from_list(self._head, frame, count, generator)

    def _draw_person(
        self, frame: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return self._from_list(self._person, frame, count, generator)

    def _draw_eyes(
        self, frame: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return self._from_rectangles(self.frames.eyes, frame, count, generator)

    def _draw_lips(
        self, frame: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        return self._from_rectangles(self.frames.lips, frame, count, generator)

    def _draw_image(
        self, frame: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        pixel = _randint(self.height * self.width, (len(frame), count), generator)
        return pixel // self.width, pixel % self.width

    def _from_list(
        self, pixels: Tensor, frame: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        pixel = pixels[_randint(len(pixels), (len(frame), count), generator)]
        return pixel // self.width, pixel % self.width

    def _from_rectangles(
        self, rectangles: Tensor, frame: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        top, bottom, left, right = rectangles[frame].unbind(-1)
        u = torch.rand((2, len(frame), count), generator=generator, device=generator.device)
        row = top[:, None] + (u[0] * (bottom - top)[:, None]).long()
        column = left[:, None] + (u[1] * (right - left)[:, None]).long()
        return row, column


def region_pixels(
    labels: Tensor, label: int | None, pad: int, chunk: int = 64
) -> Int[Tensor, " p"]:
    """Flat indices of the pixels that had a label (None: any but background) in some frame."""
    region = any_frame(labels, label, chunk)
    grown = nnf.max_pool2d(region.float()[None, None], 2 * pad + 1, 1, pad)[0, 0] > 0
    return grown.flatten().nonzero()[:, 0]


def any_frame(labels: Tensor, label: int | None, chunk: int = 64) -> Bool[Tensor, "h w"]:
    """Pixels that had a label (None: any but background) in some frame."""
    region = torch.zeros(labels.shape[1:], dtype=torch.bool, device=labels.device)
    for part in labels.split(chunk):
        matches = part != BACKGROUND if label is None else part == label
        region |= matches.any(0)
    return region


def _randint(high: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(high, shape, generator=generator, device=generator.device)
