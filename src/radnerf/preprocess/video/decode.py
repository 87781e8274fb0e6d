"""Reading any video: what is in it, its frames at 25 a second, its sound at 16 kHz mono."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from jaxtyping import Float, UInt8

from radnerf.conventions import FPS, SAMPLE_RATE
from radnerf.errors import UserError
from radnerf.preprocess.stages import file_hash

MIN_SECONDS = 1.0
# How much shorter than its header says a file may be before it counts as cut off.
CUT_OFF_SECONDS = 1.0
# Audio that ends this much before the picture is padded, else the picture is cut to it.
AUDIO_PAD_SECONDS = 0.5


@dataclass(frozen=True)
class Video:
    """A video file as the stages see it: upright, 25 frames a second, as long as its sound."""

    path: Path
    width: int  # upright, in the file's own pixels
    height: int
    rotation: int  # degrees counter-clockwise that turn a decoded frame upright
    start: float  # time of the first frame, seconds
    n_frames: int  # at FPS
    source_fps: float
    codec: str
    first: int = 0  # of a part: the frame of the whole video it begins with,
    n_whole: int = 0  # and how many that one has

    def fit(self, resolution: int | None) -> tuple[int, int]:
        """Height and width, even, with the longer side scaled down to `resolution` at most."""
        scale = min(1.0, (resolution or max(self.width, self.height)) / max(self.size))
        height, width = (max(2, round(side * scale / 2) * 2) for side in self.size)
        if resolution and resolution % 2 and max(height, width) > resolution:
            height, width = (min(side, resolution - 1) for side in (height, width))
        return height, width

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What it is, for the stamps of stages that read it."""
        return {"video": file_hash(self.path), "first": self.first, "n": self.n_frames}

    def part(self, first: int, count: int) -> Video:
        """`count` frames from frame `first` on, as a video of its own."""
        start = self.start + first / FPS
        return replace(self, start=start, n_frames=count, first=first, n_whole=self.n_frames)


def probe(path: Path) -> Video:
    """Look a video over without decoding more than its first frame.

    Raises:
        UserError: no such file, not a video, cut off, no picture, no sound, or too short.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {what}: give the path of a video file.")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path} has no picture: give a video of one talking person.")
            if not container.streams.audio:
                raise UserError(f"{path} has no audio track: give a video with the speech in it.")
            stream = container.streams.video[0]
            rate = float(stream.average_rate or stream.guessed_rate or FPS)
            spans: dict[int, list[float]] = {}
            shown: list[float] = []
            for packet in container.demux(stream, container.streams.audio[0]):
                if packet.pts is None or packet.time_base is None:
                    continue
                begin = float(packet.pts * packet.time_base)
                end = begin + float((packet.duration or 0) * packet.time_base)
                span = spans.setdefault(packet.stream.index, [begin, end])
                span[:] = min(span[0], begin), max(span[1], end)
                if packet.stream.index == stream.index:
                    shown.append(begin)
            declared = (container.duration or 0) / av.time_base
            index, audio_index = stream.index, container.streams.audio[0].index
            codec = stream.codec_context.name
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0), None)
    except (av.FFmpegError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as a video ({_reason(error)}): "
            "convert or copy it again, for example to mp4."
        ) from error
    if frame is None or index not in spans:
        raise UserError(f"{path} holds no frame that can be decoded: copy or convert it again.")
    if audio_index not in spans or spans[audio_index][1] <= spans[audio_index][0]:
        raise UserError(f"{path} has an empty audio track: give a video with the speech in it.")
    (start, end), (audio_start, audio_end) = spans[index], spans[audio_index]
    # Some writers leave the last frame without a duration.
    gap = (max(shown) - start) / (len(shown) - 1) if len(shown) > 1 else 1 / rate
    end = max(end, max(shown) + gap)
    held = max(end, audio_end) - min(start, audio_start)
    if held < declared - CUT_OFF_SECONDS and held < 0.95 * declared:
        raise UserError(
            f"{path} is cut off: it should last {declared:.1f} s but holds only {held:.1f} s; "
            "copy or download it again."
        )
    seconds = end - start
    if audio_end - start < seconds - AUDIO_PAD_SECONDS:
        seconds = max(0.0, audio_end - start)
    if seconds < MIN_SECONDS:
        raise UserError(
            f"{path} has only {seconds:.2f} s of picture with sound: "
            f"at least {MIN_SECONDS:.0f} s are needed, minutes make a good portrait."
        )
    rotation = round(getattr(frame, "rotation", 0) or 0) % 360
    height, width = frame.height, frame.width
    if rotation in (90, 270):
        height, width = width, height
    return Video(
        path=path,
        width=width,
        height=height,
        rotation=rotation,
        start=start,
        n_frames=round(seconds * FPS),
        source_fps=rate,
        codec=codec,
    )


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def read_frames(
    video: Video, size: tuple[int, int] | None = None
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Upright RGB frames at 25 a second, each the decoded frame nearest to its time.

    Frames are scaled to `size` (height, width) with an area filter.

    Raises:
        UserError: the decoder gives up before the end of the video.
    """
    shown = 0
    last: av.VideoFrame | None = None
    last_time = 0.0

    def emit(frame: av.VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
        upright = np.rot90(frame.to_ndarray(format="rgb24"), video.rotation // 90)
        image: UInt8[np.ndarray, "h w 3"] = np.ascontiguousarray(upright, np.uint8)
        if size is not None and image.shape[:2] != size:
            smaller = image.shape[0] >= size[0]
            filter_ = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
            image = np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=filter_))
        return image

    try:
        with av.open(str(video.path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.time is None:
                    continue
                time = frame.time - video.start
                # `last` serves every output time that is nearer to it than to this frame.
                while last is not None and shown / FPS <= (last_time + time) / 2:
                    if shown == video.n_frames:
                        return
                    yield emit(last)
                    shown += 1
                last, last_time = frame, time
    except av.FFmpegError as error:
        if shown < video.n_frames - FPS:
            raise UserError(
                f"{video.path} is damaged at {shown / FPS:.1f} s ({_reason(error)}): "
                "copy or convert it again."
            ) from error
    if last is None or shown < video.n_frames - max(FPS, FPS / video.source_fps + 1):
        raise UserError(
            f"{video.path} is cut off: its picture ends at {shown / FPS:.1f} s "
            f"of {video.n_frames / FPS:.1f} s; copy or download it again."
        )
    while shown < video.n_frames:
        yield emit(last)
        shown += 1


def read_audio(path: Path, start: float = 0.0) -> Float[np.ndarray, " s"]:
    """Sound of any file at 16 kHz mono in [-1, 1], from time `start` of the file's clock on.

    Raises:
        UserError: no audio, nothing in it, or unreadable.
    """
    pieces: list[np.ndarray] = []
    first: float | None = None
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path} has no audio track: give a file with speech in it.")
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            for frame in container.decode(stream):
                if first is None:
                    first = frame.time or 0.0
                pieces += [out.to_ndarray()[0] for out in resampler.resample(frame)]
            pieces += [out.to_ndarray()[0] for out in resampler.resample(None)]
    except (av.FFmpegError, ValueError) as error:
        if not pieces:
            raise UserError(
                f"{path} cannot be read as audio ({_reason(error)}): convert it, say to wav."
            ) from error
    sound = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    if not len(sound):
        raise UserError(f"{path} has an empty audio track: give a file with speech in it.")
    skip = round((start - first) * SAMPLE_RATE) if first is not None else 0
    return sound[skip:] if skip >= 0 else np.pad(sound, (-skip, 0))
