"""Feature windows of video frames, whole and streaming.

Letters: S feature steps (50 a second), C feature width, T video frames, F frames of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from radnerf.audio.extractors import Extractor
from radnerf.conventions import ATTENTION_FRAMES, FEATURE_RATE, FPS, HOP, WINDOW


def windows(
    features: Float[np.ndarray, "steps c"], n_frames: int, fps: float = FPS, lead: float = 0.0
) -> Float[np.ndarray, "frames 16 c"]:
    """The 16 steps around the start of each frame, as public clips have them at 25 fps.

    Frame t sees the steps [2t - 8, 2t + 8), `lead` seconds later when the mouth moves that much
    before it is heard (see mouth_lead); beyond the ends of the recording is silence (0).
    Windows overlap: where frames lie a whole number of steps apart they share their memory, an
    eighth of what they hold at 25 fps, and are not to be written to.
    """
    first = np.round(np.arange(n_frames) * (FEATURE_RATE / fps) + lead * FEATURE_RATE)
    first = first.astype(np.int64) - WINDOW // 2
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


def attention_windows(
    frame_windows: Float[Tensor, "t 16 c"], index: Int[Tensor, " f"]
) -> Float[Tensor, "f 8 16 c"]:
    """Windows of the frames index - 4 .. index + 3; frames that do not exist are zero."""
    offsets = torch.arange(ATTENTION_FRAMES, device=index.device) - ATTENTION_FRAMES // 2
    frames = index[:, None] + offsets
    exists = (frames >= 0) & (frames < len(frame_windows))
    chosen = frame_windows[frames.clamp(0, len(frame_windows) - 1)]
    return chosen * exists[:, :, None, None]


@dataclass(frozen=True)
class StreamState:
    """What a stream has heard and still needs."""

    wave: Float[np.ndarray, " samples"]
    steps_done: int  # steps of the waveform above whose features exist already
    features: Float[np.ndarray, "steps c"]  # from the next frame's window on
    n_before: int  # silent steps put before the recording

    @classmethod
    def start(cls, extractor: Extractor, lead: float = 0.0) -> StreamState:
        """Nothing heard yet: silence. The lead (see windows) is at most half a window, 160 ms."""
        n_before = WINDOW // 2 - round(lead * FEATURE_RATE)
        if n_before < 0:
            raise ValueError(f"a stream cannot look {lead} s ahead")
        silence = np.zeros((n_before, extractor.dim), np.float32)
        return cls(np.zeros(0, np.float32), 0, silence, n_before)


def stream(
    extractor: Extractor,
    state: StreamState,
    wave: Float[np.ndarray, " samples"],
    last: bool = False,
) -> tuple[Float[np.ndarray, "frames 16 c"], StreamState]:
    """Windows (25 fps) that become complete with the next samples of a recording.

    The samples must have their loudness set beforehand (see speech_gain). last=True ends the
    recording: silence follows, and every frame begun is given. Together the windows are those of
    the whole recording; each comes 160 ms, the lead and the extractor's context after its frame.
    """
    heard = np.concatenate([state.wave, wave.astype(np.float32, copy=False)])
    ready = -(-len(heard) // HOP) if last else max(0, len(heard) - extractor.context) // HOP
    features = state.features
    if ready > state.steps_done:
        features = np.concatenate([features, extractor(heard)[state.steps_done : ready]])
    ready = max(ready, state.steps_done)

    step = int(FEATURE_RATE / FPS)
    if last:
        n_frames = max(0, -(-(len(features) - state.n_before) // step))
        missing = max(0, (n_frames - 1) * step + WINDOW - len(features))
        features = np.pad(features, ((0, missing), (0, 0)))
    else:
        n_frames = max(0, (len(features) - WINDOW) // step + 1)
    rows = np.arange(n_frames)[:, None] * step + np.arange(WINDOW)
    dropped = max(0, ready - -(-extractor.context // HOP))
    rest = StreamState(
        heard[dropped * HOP :], ready - dropped, features[n_frames * step :], state.n_before
    )
    return features[rows], rest
