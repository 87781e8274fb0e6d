"""A portrait that says what comes in, live: samples in, frames with their sound out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from radnerf.audio import (
    ActivityStream,
    LoudnessFollower,
    Resampler,
    WindowStream,
    constant_gain,
    driving_offset,
    make_extractor,
)
from radnerf.conventions import SAMPLE_RATE
from radnerf.errors import UserError
from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.motion import Motion
from radnerf.inference.performer import Performer, load_portrait
from radnerf.inference.speech import MouthMotion, SpeechStream, check_width
from radnerf.runtime.devices import choose_device

RATES = (8_000, 192_000)  # samples a second that can be pushed
SOUND_RATE = 48_000  # of the sound that comes out, which every browser plays
INT16 = 32_768  # full scale

Samples = Float[np.ndarray, "*channels n"] | Int[np.ndarray, "*channels n"]


@dataclass(frozen=True)
class Frame:
    """A picture and what is heard while it is seen."""

    image: UInt8[np.ndarray, "h w 3"] | None  # None: it was to be left out
    sound: Float[np.ndarray, " n"]  # mono, at the driver's rate
    position: int  # of its first sample, since the driver began
    speaking: bool  # or idle


@dataclass
class Utterance:
    """What was pushed between two ends and is still to be shown."""

    codes: deque[Tensor] = field(default_factory=deque)
    sound: deque[Float[np.ndarray, " n"]] = field(default_factory=deque)
    ended: bool = False

    def take_sound(self, n_samples: int) -> Float[np.ndarray, " n"]:
        """The next so many samples; after the end, silence."""
        parts, missing = [], n_samples
        while missing and self.sound:
            part = self.sound.popleft()
            parts.append(part[:missing])
            if len(part) > missing:
                self.sound.appendleft(part[missing:])
            missing -= len(parts[-1])
        return np.concatenate([*parts, np.zeros(missing, np.float32)])


class StreamDriver:
    """Frames of a portrait that says sound while it comes in, in pieces of any length.

    Nobody tells how long it will be, and it may come faster than it is spoken. `take()` gives the
    frames of speech in order, each when its sound and `lookahead` seconds more were pushed, and
    `idle()` a frame of silence with a resting mouth for whenever there is none. Frames are drawn
    when they are taken, so that an interrupt leaves none behind. However the samples were cut into
    pieces, frames are the same to the last bit.

    Frames and sound lie on one time line: frame k has the samples from k / fps to (k + 1) / fps
    seconds. No sound is dropped but by an interrupt: an utterance that does not fill its last frame
    is followed by silence. Head and eyes go on by the frame, whether the portrait speaks or not.

    Args:
        bundle: the portrait file's contents.
        pose, eyes, background, resolution, seed, device, extractor: see FileDriver.
        rate: samples a second of the sound that comes out.
        gain: what brings the sound to SPEECH_LEVEL_DB, see speech_gain, where that is known; None
            to follow its loudness.

    Raises:
        UserError: an option cannot be used, or the portrait cannot follow live sound.
    """

    def __init__(
        self,
        bundle: PortraitBundle,
        pose: str = "own",
        eyes: str | float = "own",
        background: str = "own",
        resolution: int | float | str | None = None,
        seed: int = 0,
        device: str = "auto",
        extractor: Mapping[str, Any] | None = None,
        rate: int = SOUND_RATE,
        gain: float | None = None,
    ) -> None:
        self.fps = bundle.fps
        self.rate = rate
        portrait = load_portrait(bundle).to(choose_device(device)).eval()
        self.performer = Performer.of(bundle, portrait, background, resolution)
        self.motion = Motion.of(bundle, pose, eyes, seed)
        audio_offset = driving_offset(bundle.audio_offset)
        features = make_extractor(bundle.extractor, device, extractor).stream()
        check_width(bundle, features.dim)
        self._speech = SpeechStream(
            portrait,
            WindowStream(features, self.fps, audio_offset),
            ActivityStream(self.fps, audio_offset),
            LoudnessFollower() if gain is None else constant_gain(gain),
        )
        self._mouth = MouthMotion(portrait.rest_code)
        self._frame = 0  # the next one
        self._utterances: deque[Utterance] = deque()
        self._rate: int | None = None  # of the utterance that is pushed

    @property
    def lookahead(self) -> float:
        """Seconds of sound after the start of a frame that it waits for, at most.

        Sound of another rate than SAMPLE_RATE waits for Resampler.DELAY more.
        """
        return self._speech.lookahead

    @property
    def position(self) -> int:
        """Samples of the time line that were given so far."""
        return self._position(self._frame)

    @property
    def ready(self) -> int:
        """Frames of speech that can be taken."""
        return sum(self._n_frames(utterance) for utterance in self._utterances)

    def push(self, samples: Samples, rate: int) -> None:
        """The next samples to say.

        Args:
            samples: [n] or [channels, n] in [-1, 1], or 16-bit whole numbers.
            rate: samples a second, the same until the utterance ends.

        Raises:
            UserError: they are no such samples.
        """
        mono = _mono(samples)
        if self._rate is None:
            self._begin(rate)
        elif rate != self._rate:
            raise UserError(
                f"The sound changed from {self._rate} to {rate} samples a second: end the "
                "utterance first."
            )
        self._said(self._to_speech.push(mono), self._to_sound.push(mono))

    def end(self) -> None:
        """The utterance ends here: what is left of it becomes frames, and another may begin."""
        if self._rate is None:
            return
        self._said(self._to_speech.end(), self._to_sound.end())
        self._utterances[-1].codes += self._speech.end()
        self._utterances[-1].ended = True
        self._rate = None

    def interrupt(self) -> None:
        """Say nothing of what was pushed any more; the mouth shuts within three idle frames."""
        self._speech.interrupt()
        self._utterances.clear()
        self._rate = None

    def take(self, draw: bool = True) -> Frame | None:
        """The next frame of speech, None while there is none.

        Args:
            draw: False to leave the picture out, where it would come too late.
        """
        while self._utterances:
            utterance = self._utterances[0]
            if utterance.codes:
                return self._next(self._mouth.speak(utterance.codes.popleft()), utterance, draw)
            if not utterance.ended:
                return None
            if utterance.sound:  # less than half a frame
                return self._next(self._mouth.rest(), utterance, draw)
            self._utterances.popleft()
        return None

    def idle(self, draw: bool = True) -> Frame:
        """A frame without speech; if there is an utterance, it goes on after it."""
        return self._next(self._mouth.rest(), None, draw)

    def frames(self) -> Iterator[Frame]:
        """The frames of speech that can be taken now."""
        while (frame := self.take()) is not None:
            yield frame

    def _begin(self, rate: int) -> None:
        if not isinstance(rate, int) or not RATES[0] <= rate <= RATES[1]:
            raise UserError(f"Sound of {rate} samples a second: give {RATES[0]} to {RATES[1]}.")
        self._rate = rate
        self._to_speech = Resampler(rate, SAMPLE_RATE)
        self._to_sound = Resampler(rate, self.rate)
        self._utterances.append(Utterance())

    def _said(self, speech: Float[np.ndarray, " n"], sound: Float[np.ndarray, " m"]) -> None:
        if len(sound):
            self._utterances[-1].sound.append(sound)
        self._utterances[-1].codes += self._speech.push(speech)

    def _position(self, frame: int) -> int:
        return round(frame * self.rate / self.fps)

    def _n_frames(self, utterance: Utterance) -> int:
        if not utterance.ended:
            return len(utterance.codes)
        n_samples = sum(map(len, utterance.sound))
        return max(len(utterance.codes), -(-n_samples // round(self.rate / self.fps)))

    def _next(self, code: Tensor, utterance: Utterance | None, draw: bool) -> Frame:
        (control,) = self.motion.controls(self._frame, [code])
        image = self.performer.draw(control) if draw else None
        position = self.position
        self._frame += 1
        n_samples = self.position - position
        silence = np.zeros(n_samples, np.float32)
        sound = silence if utterance is None else utterance.take_sound(n_samples)
        return Frame(image, sound, position, speaking=utterance is not None)


def _mono(samples: Samples) -> Float[np.ndarray, " n"]:
    """One channel in [-1, 1] of numbers from anywhere."""
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or not (samples.dtype == np.int16 or samples.dtype.kind == "f"):
        raise UserError(
            f"Sound is [n] or [channels, n] of floats or 16-bit numbers, not {samples.dtype} "
            f"{samples.shape}."
        )
    full_scale = INT16 if samples.dtype == np.int16 else 1
    mono = samples.astype(np.float32) / np.float32(full_scale)
    mono = mono.mean(0) if mono.ndim == 2 else mono
    return np.clip(np.nan_to_num(mono, posinf=0.0, neginf=0.0), -1.0, 1.0)
