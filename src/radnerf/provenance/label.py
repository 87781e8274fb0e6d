"""A line in the picture that says to people what the other marks say to machines."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from radnerf.errors import UserError

TEXT = "AI-generated"
HEIGHT = 0.05  # of a capital over the frame's shorter side, at least (GB 45438-2025)
LEAST = 10  # pixels: smaller letters cannot be read
DARKNESS = 0.6  # opacity of the box behind the text

Box = tuple[Float[np.ndarray, "a b 3"], Float[np.ndarray, "a b 1"]]  # color, alpha


class Label:
    """A text in the top left corner of every frame, from the first to the last.

    Args:
        text: what it says.
        font: a TrueType or OpenType file; None for Pillow's own, which has Latin letters only.

    Raises:
        UserError: the font cannot be read, or lacks letters of the text.
    """

    def __init__(self, text: str = TEXT, font: str | Path | None = None) -> None:
        self.text, self.font = text, font
        self._box: Box | None = None
        probe = self._sized(40)
        missing = bytes(probe.getmask("\uffff"))
        lacking = [c for c in text if not c.isspace() and bytes(probe.getmask(c)) == missing]
        if not text.strip() or lacking:
            what = f"has no {' '.join(lacking)}" if lacking else "has nothing to show"
            raise UserError(f"label={text} {what}: give another text, or label_font=FILE.ttf.")

    @classmethod
    def of(cls, label: str | bool, font: str | Path | None = None) -> Label | None:
        """What the option asks for: true is the usual text, false is none."""
        if str(label).lower() in ("true", "false"):  # a command line's are quoted
            label = str(label).lower() == "true"
        if isinstance(label, bool):
            return cls(font=font) if label else None
        return cls(label, font)

    def draw(self, frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The frame with the text; all frames have the size of the first.

        Raises:
            UserError: the text does not fit.
        """
        if self._box is None:
            self._box = self._make_box(*frame.shape[:2])
        color, alpha = self._box
        rows, columns = alpha.shape[:2]
        labelled = frame.copy()
        corner = labelled[:rows, :columns]
        corner[:] = (corner * (1 - alpha) + color * alpha + 0.5).astype(np.uint8)
        return labelled

    def _make_box(self, height: int, width: int) -> Box:
        capital = max(LEAST, math.ceil(HEIGHT * min(height, width)))
        font = self._sized(capital)
        # Until a capital is as high as asked for.
        size = capital
        while (box := font.getbbox("E"))[3] - box[1] < capital:
            size += 1
            font = self._sized(size)
        left, top, right, bottom = font.getbbox(self.text)
        pad = capital // 2
        shape = (math.ceil(right - left) + 2 * pad, math.ceil(bottom - top) + 2 * pad)
        if shape[0] > width or shape[1] > height:
            raise UserError(
                f"label={self.text} is {shape[0]} pixels wide and the frame {width}: "
                "give a shorter text."
            )
        mask = Image.new("L", shape)
        ImageDraw.Draw(mask).text((pad - left, pad - top), self.text, fill=255, font=font)
        letters = np.asarray(mask, np.float32)[..., None] / 255
        alpha = np.maximum(letters, np.float32(DARKNESS))
        return 255 * letters.repeat(3, 2) / alpha, alpha

    def _sized(self, size: int) -> ImageFont.FreeTypeFont:
        try:
            if self.font is not None:
                return ImageFont.truetype(str(self.font), size)
            default = ImageFont.load_default(size)
        except OSError as error:
            raise UserError(f"label_font={self.font} is no font ({error}).") from error
        if not isinstance(default, ImageFont.FreeTypeFont):
            raise UserError("This Pillow has no fonts of its own: give label_font=FILE.ttf.")
        return default
