"""Frames and sound to an MP4 file, and pictures that compare frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from jaxtyping import Float, UInt8

from radnerf.errors import UserError
from radnerf.files import whole_file
from radnerf.provenance import Marks

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
AAC_FRAME = 1024  # samples
# Colors by the matrix every decoder assumes when it does not look (BT.601), and tagged as such.
BT709, SMPTE170M, LIMITED = 1, 6, 1

Frame = UInt8[np.ndarray, "h w 3"]


@dataclass
class Sound:
    """Sound for a video: blocks [channels, samples] of float32 in [-1, 1], drawn when needed."""

    rate: int
    channels: int
    blocks: Iterable[Float[np.ndarray, "c n"]]

    @classmethod
    def of_samples(cls, samples: Float[np.ndarray, " n"], rate: int) -> Sound:
        """Mono sound from an array."""
        pieces = range(0, len(samples), AAC_FRAME)
        blocks = (samples[None, i : i + AAC_FRAME].astype(np.float32) for i in pieces)
        return cls(rate, 1, blocks)

    @classmethod
    def of_file(cls, path: str | Path) -> Sound:
        """The first audio track of a file in its own quality: mono or stereo, up to 48 kHz.

        Raises:
            UserError: the file has no audio track that can be read.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"There is no audio file {path}: check the path.")
        try:
            with av.open(str(path)) as container:
                if not container.streams.audio:
                    raise UserError(f"{path} has no audio track: give a file with sound.")
                context = container.streams.audio[0].codec_context
                native, channels = context.sample_rate, min(2, context.layout.nb_channels)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{path} cannot be decoded as audio ({reason}): convert it.") from error
        rate = native if native in AAC_RATES else 48000
        return cls(rate, channels, _decode(path, rate, channels))


def _decode(path: Path, rate: int, channels: int) -> Iterator[Float[np.ndarray, "c n"]]:
    layout = "mono" if channels == 1 else "stereo"
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            for block in resampler.resample(frame):
                yield block.to_ndarray()
        for block in resampler.resample(None):
            yield block.to_ndarray()


class VideoWriter:
    """Writes an H.264 (4:2:0) and AAC file frame by frame; the file appears whole or not at all.

    Frames of odd size are padded by repeating the last row or column. When the block is left
    by an exception, no file appears.

    Args:
        path: the .mp4 file.
        fps: frames a second.
        sound: what to hear; its length does not depend on that of the picture.
        crf: H.264 quality, smaller is better; 15 is visually lossless.
        marks: what the video is to say of itself; None for unmarked frames.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float,
        sound: Sound | None = None,
        crf: int = 15,
        marks: Marks | None = None,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4" or self.path.is_dir():
            raise UserError(f"{self.path} is no name for a video: give one that ends in .mp4.")
        self.rate = Fraction(fps).limit_denominator(100_000)
        self.crf = crf
        self.sound = sound
        self.marks = marks
        self._marked = marks.begin() if marks else None
        self.n_frames = 0
        self._samples = iter(sound.blocks) if sound else iter(())
        self._n_samples = 0

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:
            part = stack.enter_context(whole_file(self.path))
            options = {"movflags": "+faststart+use_metadata_tags"}
            if self.marks:
                stack.enter_context(self.marks.sealed(part))
            self._container = stack.enter_context(av.open(str(part), "w", options=options))
            self._container.metadata.update(self.marks.fields() if self.marks else {})
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            if error is not None:
                raise error
            self._mux_sound(until=None)
            for stream in (self._video, self._audio) if self.sound else (self._video,):
                self._container.mux(stream.encode(None))

    def write(self, frame: Frame) -> None:
        """Add a frame; all have the size of the first."""
        if self._marked:
            frame = self._marked(frame)
        height, width = frame.shape[:2]
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        if not self.n_frames:
            self._open_streams(*even.shape[:2])
        if even.shape[:2] != (self._video.height, self._video.width):
            raise ValueError(
                f"a frame is {frame.shape}, the first was {self._video.height}"
                f" x {self._video.width}"
            )
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), "rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace=SMPTE170M)
        picture.pts, picture.time_base = self.n_frames, 1 / self.rate
        self._container.mux(self._video.encode(picture))
        self.n_frames += 1
        self._mux_sound(until=self.n_frames / self.rate)

    def _open_streams(self, height: int, width: int) -> None:
        """Both streams at once: the file's header is written before the first packet."""
        options = {"crf": str(self.crf), "preset": "medium"}
        self._video = self._container.add_stream("libx264", rate=self.rate, options=options)
        self._video.height, self._video.width, self._video.pix_fmt = height, width, "yuv420p"
        context = self._video.codec_context
        context.color_primaries = context.color_trc = BT709
        context.colorspace, context.color_range = SMPTE170M, LIMITED
        if self.sound:
            layout = "mono" if self.sound.channels == 1 else "stereo"
            self._audio = self._container.add_stream("aac", rate=self.sound.rate, layout=layout)
            self._audio.bit_rate = 96_000 * self.sound.channels
            self._audio.format = "fltp"

    def _mux_sound(self, until: Fraction | None) -> None:
        """Encode sound up to a time in seconds, or all that is left."""
        while self.sound and (until is None or self._n_samples < until * self.sound.rate):
            block = next(self._samples, None)
            if block is None:
                return
            layout = "mono" if self.sound.channels == 1 else "stereo"
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", layout)
            frame.sample_rate = self.sound.rate
            frame.pts, frame.time_base = self._n_samples, Fraction(1, self.sound.rate)
            self._n_samples += block.shape[1]
            self._container.mux(self._audio.encode(frame))


def caption(frame: Frame, text: str) -> UInt8[np.ndarray, "taller w 3"]:
    """The frame with a line of text on a dark bar above it."""
    width = frame.shape[1]
    bar = np.full((max(16, width // 14), width, 3), 24, np.uint8)
    scale = len(bar) / 40
    (text_width, text_height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    at = ((width - text_width) // 2, (len(bar) + text_height) // 2)
    cv2.putText(bar, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (230, 230, 230), 1, cv2.LINE_AA)
    return np.concatenate([bar, frame])


def side_by_side(
    frames: Sequence[Frame], captions: Sequence[str] = ("truth", "rendering")
) -> UInt8[np.ndarray, "taller wider 3"]:
    """Frames of one size next to each other, each under its caption."""
    return np.concatenate([caption(f, c) for f, c in zip(frames, captions, strict=True)], 1)


def comparison_strip(
    path: str | Path,
    rows: Sequence[Sequence[Frame]],
    captions: Sequence[str],
    marks: Marks,
    note: str | None = None,
) -> None:
    """Write a marked PNG of rows of frames of one size, a caption over the first of each row.

    Args:
        note: a line above all of them.

    Raises:
        UserError: the file cannot be written.
    """
    lines = []
    for row, text in zip(rows, captions, strict=True):
        images = [caption(frame, text if i == 0 else "") for i, frame in enumerate(row)]
        lines.append(np.concatenate(images, 1))
    picture = np.concatenate(lines)
    marks.write_picture(Path(path), picture if note is None else noted(picture, note))


def noted(picture: Frame, text: str) -> UInt8[np.ndarray, "taller w 3"]:
    """The picture with a line of text on a bright bar above it, as large as there is room for."""
    font, width = cv2.FONT_HERSHEY_SIMPLEX, picture.shape[1]
    scale = min(0.6, 0.95 * width / cv2.getTextSize(text, font, 1, 1)[0][0])
    (_, height), below = cv2.getTextSize(text, font, scale, 1)
    bar = np.full((2 * (height + below), width, 3), (255, 220, 120), np.uint8)
    at = (width // 40, height + below)
    cv2.putText(bar, text, at, font, scale, (24, 24, 24), 1, cv2.LINE_AA)
    return np.concatenate([bar, picture])
