"""Feature windows of video frames, of whole recordings and of those to come.

Letters: S feature steps (50 a second), C feature width, T video frames, F frames of a batch.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from radnerf.audio.chunks import Features, FeatureStream, Sound
from radnerf.conventions import ATTENTION_FRAMES, FEATURE_RATE, FPS, SAMPLE_RATE, WINDOW

FrameWindows = Float[np.ndarray, "frames 16 c"]


def windows(
    features: Float[np.ndarray, "steps c"],
    n_frames: int,
    fps: float = FPS,
    audio_offset: float = 0.0,
) -> FrameWindows:
    """The 16 steps around the start of each frame, as public clips have them at 25 fps.

    Frame t sees the steps [2t - 8, 2t + 8), `audio_offset` seconds later when the mouth moves that
    much before its sound (see measure_audio_offset); beyond the ends of the recording is silence
    (0). Windows overlap: where frames lie a whole number of steps apart they share their memory, an
    eighth of what they hold at 25 fps, and are not to be written to.
    """
    first = first_steps(np.arange(n_frames), fps, audio_offset)
    before = max(0, -int(first[0])) if n_frames else 0
    after = max(0, int(first[-1]) + WINDOW - len(features)) if n_frames else WINDOW
    padded = np.pad(features, ((before, after), (0, 0)))
    shared = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=0, writeable=True)
    apart = np.unique(np.diff(first))
    if len(apart) == 1 and apart[0] > 0:
        rows: slice | np.ndarray = slice(first[0] + before, first[-1] + before + 1, apart[0])
    else:
        rows = first + before
    return shared[rows].transpose(0, 2, 1)


def first_steps(
    frames: Int[np.ndarray, " n"], fps: float, audio_offset: float
) -> Int[np.ndarray, " n"]:
    """Where the windows of frames begin, in feature steps."""
    middle = np.round(frames * (FEATURE_RATE / fps) + audio_offset * FEATURE_RATE)
    return np.asarray(middle.astype(np.int64) - WINDOW // 2)


def attention_windows(
    frame_windows: Float[Tensor, "t 16 c"], index: Int[Tensor, " f"]
) -> Float[Tensor, "f 8 16 c"]:
    """Windows of the frames index - 4 .. index + 3; frames that do not exist are zero."""
    offsets = torch.arange(ATTENTION_FRAMES, device=index.device) - ATTENTION_FRAMES // 2
    frames = index[:, None] + offsets
    exists = (frames >= 0) & (frames < len(frame_windows))
    chosen = frame_windows[frames.clamp(0, len(frame_windows) - 1)]
    return chosen * exists[:, :, None, None]


class WindowStream:
    """The windows() of frames whose sound comes in pieces.

    Args:
        features: where they come from; a fresh one.
    """

    def __init__(
        self, features: FeatureStream, fps: float = FPS, audio_offset: float = 0.0
    ) -> None:
        self.features = features
        self.fps = fps
        self.audio_offset = audio_offset
        self._steps: Features = np.zeros((0, features.dim), np.float32)  # from self._first on
        self._first = 0
        self._frame = 0

    def fresh(self) -> WindowStream:
        """The same for another recording, which begins now."""
        return WindowStream(self.features.fresh(), self.fps, self.audio_offset)

    def needed(self, frame: int) -> int:
        """How many samples the recording must have until a frame's window comes out."""
        return self.features.needed(max(0, self._last_step(frame)))

    def push(self, samples: Sound) -> FrameWindows:
        """Windows of the frames that are complete with the next samples."""
        self._steps = np.concatenate([self._steps, self.features.push(samples)])
        n_frames = self._frame
        while self._last_step(n_frames) < self._first + len(self._steps):
            n_frames += 1
        return self._windows(n_frames)

    def end(self, n_frames: int) -> FrameWindows:
        """Windows of the frames that are left of n_frames."""
        self._steps = np.concatenate([self._steps, self.features.end()])
        return self._windows(n_frames)

    def _last_step(self, frame: int) -> int:
        return int(first_steps(np.array([frame]), self.fps, self.audio_offset)[0]) + WINDOW - 1

    def _windows(self, n_frames: int) -> FrameWindows:
        """Windows of the frames up to n_frames; earlier steps are forgotten."""
        first = first_steps(np.arange(self._frame, n_frames + 1), self.fps, self.audio_offset)
        rows = first[:-1, None] + np.arange(WINDOW) - self._first
        exists = (rows >= 0) & (rows < len(self._steps))
        # One row more, so that there is one even when there are none.
        steps = np.concatenate([self._steps, np.zeros((1, self._steps.shape[1]), np.float32)])
        found = steps[np.where(exists, rows, len(self._steps))]
        self._frame = n_frames
        keep = min(max(0, int(first[-1]) - self._first), len(self._steps))
        self._steps, self._first = self._steps[keep:], self._first + keep
        return found


class ReadyWindows:
    """Stands where a WindowStream would: windows of a whole recording that were made before."""

    def __init__(self, frame_windows: FrameWindows, fps: float = FPS) -> None:
        self.windows = frame_windows
        self.fps = fps
        self._n_samples = 0
        self._frame = 0

    def fresh(self) -> ReadyWindows:
        """The same for the recording from its beginning."""
        return ReadyWindows(self.windows, self.fps)

    def needed(self, frame: int) -> int:
        """How many samples the recording must have until a frame's window comes out."""
        return int(np.ceil((frame + 1) * SAMPLE_RATE / self.fps))

    def push(self, samples: Sound) -> FrameWindows:
        """Windows of the frames that are complete with the next samples."""
        self._n_samples += len(samples)
        return self.end(int(self._n_samples / SAMPLE_RATE * self.fps))

    def end(self, n_frames: int) -> FrameWindows:
        """Windows of the frames that are left of n_frames."""
        first, self._frame = self._frame, n_frames
        return self.windows[first:n_frames]
