"""Speech to audio codes, the one way of files and of live sound: sound in, codes of frames out.

`loudness -> features -> windows -> audio net -> closed mouth in pauses`, each a stream that keeps
little and waits for no more than it needs. Lips are smoothed where frames are put in order, by
MouthMotion: a live stream shows other frames in between and leaves some out.

Letters: D code width.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from radnerf.audio import (
    ActivityStream,
    Loudness,
    ReadyWindows,
    WindowStream,
    attention_windows,
)
from radnerf.audio.loudness import Wave
from radnerf.conventions import ATTENTION_FRAMES, SAMPLE_RATE
from radnerf.errors import UserError
from radnerf.fields.audio_net import close_in_pauses, smooth
from radnerf.inference.bundle import PortraitBundle
from radnerf.rendering.portrait import Portrait

BEFORE = ATTENTION_FRAMES // 2  # frames that a code depends on before its own
AFTER = ATTENTION_FRAMES - BEFORE - 1  # and after it
FRAMES_AT_ONCE = 64  # of a recording whose end nobody waits for
LOOKED_AT = 4096  # frames, for the largest of periodic lookaheads

Code = Float[Tensor, " d"]


class SpeechStream:
    """Audio codes of the frames of an utterance whose samples come in pieces.

    A code comes out when `lookahead` seconds of sound after the start of its frame are known, or
    when the utterance ends. How the utterance is cut into pieces changes nothing, to the last bit.

    Args:
        portrait: its audio net, on its device.
        windows: fresh, of an extractor or of features made before.
        activity: fresh, of the same frame rate and offset.
        loudness: what brings samples to the level that extractors expect; it goes on from one
            utterance to the next.
        at_once: frames that go through the audio net together.
    """

    def __init__(
        self,
        portrait: Portrait,
        windows: WindowStream | ReadyWindows,
        activity: ActivityStream,
        loudness: Loudness,
        at_once: int = 1,
    ) -> None:
        self.portrait = portrait
        self.loudness = loudness
        self.at_once = at_once
        self._windows = windows
        self._activity = activity
        self.interrupt()

    @cached_property
    def lookahead(self) -> float:
        """Seconds of sound after the start of a frame that its code waits for, at most."""
        samples_per_frame = SAMPLE_RATE / self.fps
        late = (self.needed(frame) - frame * samples_per_frame for frame in range(LOOKED_AT))
        return max(late) / SAMPLE_RATE

    @property
    def fps(self) -> float:
        return self._activity.fps

    def needed(self, frame: int) -> int:
        """How many samples the utterance must have until a frame's code comes out."""
        last = (frame // self.at_once + 1) * self.at_once - 1
        return max(self._windows.needed(last + AFTER), self._activity.needed(last))

    def push(self, samples: Wave) -> list[Code]:
        """Codes of the frames that are complete with the next samples, mono at SAMPLE_RATE."""
        self._n_samples += len(samples)
        level = self.loudness(samples)
        self._add(self._windows.push(level), self._activity.push(level))
        ready = min(self._first_window + len(self._frame_windows) - AFTER, self._n_active)
        return self._codes(ready - (ready - self._frame) % self.at_once)

    def end(self) -> list[Code]:
        """Codes of the frames that are left of the utterance; then another one may begin."""
        n_frames = frame_count(self._n_samples, self.fps) if self._n_samples else 0
        self._add(self._windows.end(n_frames), self._activity.end(n_frames))
        codes = self._codes(n_frames)
        self.interrupt()
        return codes

    def interrupt(self) -> None:
        """Forget the utterance; another one may begin."""
        self._windows = self._windows.fresh()
        self._activity = self._activity.fresh()
        self._n_samples = 0
        self._frame = 0  # the next one
        self._first_window = 0
        self._frame_windows = torch.zeros(0)
        self._active = torch.zeros(0)
        self._n_active = 0

    def _add(self, windows: Float[np.ndarray, "n 16 c"], activity: Float[np.ndarray, " m"]) -> None:
        more = torch.from_numpy(windows)
        known = self._frame_windows
        self._frame_windows = torch.cat([known, more]) if len(known) else more
        self._active = torch.cat([self._active, torch.from_numpy(activity)])
        self._n_active += len(activity)

    @torch.inference_mode()
    def _codes(self, n_frames: int) -> list[Code]:
        """Codes of the frames up to n_frames; windows that no later one needs are forgotten."""
        codes: list[Code] = []
        device = self.portrait.rest_code.device
        while self._frame < n_frames:
            count = min(self.at_once, n_frames - self._frame)
            index = torch.arange(self._frame, self._frame + count) - self._first_window
            # A single row goes another way through matrix products, with other last bits.
            rows = index if count > 1 else index.repeat(2)
            inputs = attention_windows(self._frame_windows, rows).to(device)
            activity, self._active = self._active.tensor_split([count])
            codes += close_in_pauses(
                self.portrait.encode_audio(inputs)[:count],
                self.portrait.rest_code,
                activity.to(device),
            )
            self._frame += count
            first = max(0, self._frame - BEFORE)
            self._frame_windows = self._frame_windows[first - self._first_window :]
            self._first_window = first
        return codes


class MouthMotion:
    """Codes as they are shown: each frame's goes on from the frame before, see smooth()."""

    def __init__(self, rest_code: Code) -> None:
        self.rest_code = rest_code
        self._state: Code | None = None

    @torch.inference_mode()
    def speak(self, code: Code) -> Code:
        """The next frame's code in speech."""
        shown, self._state = smooth(code, self._state)
        return shown

    def rest(self) -> Code:
        """The next frame's code without speech: in three frames the mouth is shut."""
        return self.speak(self.rest_code)


def frame_count(n_samples: int, fps: float) -> int:
    """Frames of a recording, which has one at least."""
    return max(1, round(n_samples / SAMPLE_RATE * fps))


def check_width(bundle: PortraitBundle, width: int) -> None:
    """Find features of another kind before they reach the audio net.

    Raises:
        UserError: the portrait learned from features of another width.
    """
    expected = bundle.portrait.get("audio_net", {}).get("dim")
    if expected not in (None, width):
        raise UserError(
            f"The audio features are {width} wide and the portrait learned from {expected}: "
            "give the speech model or the features that it was trained with."
        )
