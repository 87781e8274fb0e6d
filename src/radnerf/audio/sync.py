"""When the mouth moves and when there is speech: the two clocks of a talking portrait."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d, uniform_filter1d

from radnerf.audio.extractors import MelExtractor
from radnerf.audio.loudness import SPEECH_LEVEL_DB, Wave, normalise_loudness
from radnerf.conventions import FEATURE_RATE, FPS, HOP, SAMPLE_RATE

# The audio-visual offset: seconds by which the mouth moves before its sound. In well-synchronised
# speech it is this.
SPEECH_OFFSET = 0.10
OFFSETS = (-0.2, 0.4)  # searched
NATURAL_OFFSETS = (0.0, 0.2)  # of clips whose sound and picture belong together
LEAST_CORRELATION = 0.25  # chance reaches 0.2 in ten seconds
SHORTEST = 4.0  # seconds of speech that tell the offset

PAUSE_DB = 25.0  # below the level of speech
SHORTEST_PAUSE = round(0.25 * FEATURE_RATE)  # steps; shorter ones are stops inside words
RAMP = round(0.1 * FEATURE_RATE)  # steps from speech to pause
# Steps before and after its own that a step's speech activity depends on.
REACH = 2 * (SHORTEST_PAUSE // 2) + RAMP // 2, 2 * ((SHORTEST_PAUSE - 1) // 2) + RAMP // 2


def measure_audio_offset(
    opening: Float[np.ndarray, " frames"], wave: Wave, fps: float = FPS
) -> float:
    """Seconds by which a clip's mouth moves before its sound, to one feature step.

    Found where mouth opening and loudness correlate best, both without their slow parts. Videos
    differ by 100 ms and more (encoders shift the sound), and an audio net that must learn the
    offset from attention generalises far worse than one whose windows are centred by it.
    SPEECH_OFFSET for clips that are too short or do not speak.
    """
    if min(len(opening) / fps, len(wave) / SAMPLE_RATE) < SHORTEST:
        return SPEECH_OFFSET
    offsets, correlation = offset_correlations(opening, wave, fps)
    best = int(np.argmax(correlation))
    if correlation[best] < LEAST_CORRELATION:
        return SPEECH_OFFSET
    return float(offsets[best])


def offset_correlations(
    opening: Float[np.ndarray, " frames"], wave: Wave, fps: float = FPS
) -> tuple[Float[np.ndarray, " offsets"], Float[np.ndarray, " offsets"]]:
    """How well mouth opening and loudness agree when the mouth is so many seconds ahead.

    Both go without their slow parts. Offsets in seconds, a feature step apart, and correlations:
    all 0 when mouth or sound never change, the clip is shorter than a second, or a frame has no
    face.
    """
    offsets = np.arange(round(OFFSETS[0] * FEATURE_RATE), round(OFFSETS[1] * FEATURE_RATE) + 1)
    nothing = offsets / FEATURE_RATE, np.zeros(len(offsets))
    features = MelExtractor(floor_db=-80.0)(normalise_loudness(wave))
    n_steps = min(int(len(opening) * FEATURE_RATE / fps), len(features))
    if n_steps < FEATURE_RATE or not np.isfinite(opening).all():
        return nothing
    middle_of_frame = (np.arange(len(opening)) + 0.5) * FEATURE_RATE / fps
    mouth = _quick(np.interp(np.arange(n_steps) + 0.5, middle_of_frame, opening))
    sound = _quick(features[:n_steps].mean(1))
    if mouth.std() == 0 or sound.std() == 0:
        return nothing
    correlation = [
        np.corrcoef(
            mouth[max(0, -offset) : n_steps - max(0, offset)],
            sound[max(0, offset) : n_steps - max(0, -offset)],
        )[0, 1]
        for offset in offsets.tolist()
    ]
    return offsets / FEATURE_RATE, np.array(correlation)


def driving_offset(audio_offset: float) -> float:
    """Audio offset of a portrait that speaks new audio, from that of its training clip.

    A speaker's own offset is kept; one that no mouth has is the clip's fault and is put right.
    """
    low, high = NATURAL_OFFSETS
    return audio_offset if low <= audio_offset <= high else SPEECH_OFFSET


def speech_activity(
    wave: Wave, n_frames: int, fps: float = FPS, audio_offset: float = 0.0
) -> Float[np.ndarray, " frames"]:
    """How much each frame is part of speech: 1 in speech, 0 in pauses, with 0.1 s ramps.

    A frame is judged by the sound `audio_offset` seconds later, as in windows(). Pauses shorter
    than SHORTEST_PAUSE do not count. Any loudness will do.
    """
    stream = ActivityStream(fps, audio_offset)
    begun = stream.push(normalise_loudness(wave))
    return np.concatenate([begun, stream.end(max(n_frames, len(begun)))])[:n_frames]


class ActivityStream:
    """The speech_activity() of frames whose sound comes in pieces, at SPEECH_LEVEL_DB."""

    def __init__(self, fps: float = FPS, audio_offset: float = 0.0) -> None:
        self.fps = fps
        self.audio_offset = audio_offset
        self._samples = np.zeros(0, np.float64)  # of the unfinished step
        self._loud = np.zeros(0, np.float64)  # 0 or 1 for the steps from self._first on
        self._first = 0
        self._frame = 0

    def fresh(self) -> ActivityStream:
        """The same for another recording, which begins now."""
        return ActivityStream(self.fps, self.audio_offset)

    def needed(self, frame: int) -> int:
        """How many samples the recording must have until a frame's activity comes out."""
        last_step = max(0, math.ceil(self._place(np.array(frame)) - 0.5))
        return (last_step + REACH[1] + 1) * HOP

    def push(self, samples: Wave) -> Float[np.ndarray, " frames"]:
        """Activity of the frames that are complete with the next samples."""
        self._add(samples)
        soft = self._soft()[: max(0, len(self._loud) - REACH[1])]
        n_frames = self._frame
        while self._place(np.array(n_frames)) <= self._first + len(soft) - 0.5:
            n_frames += 1
        return self._frames(n_frames, soft)

    def end(self, n_frames: int) -> Float[np.ndarray, " frames"]:
        """Activity of the frames that are left of n_frames."""
        self._add(np.zeros(-len(self._samples) % HOP, np.float32))
        return self._frames(n_frames, self._soft())

    def _place(self, frame: Int[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Where the middles of frames are, in steps."""
        return np.asarray(((frame + 0.5) / self.fps + self.audio_offset) * FEATURE_RATE)

    def _add(self, samples: Wave) -> None:
        samples = np.concatenate([self._samples, samples.astype(np.float64)])
        whole = len(samples) - len(samples) % HOP
        power = np.square(samples[:whole]).reshape(-1, HOP).mean(1)
        loud = power > 10 ** ((SPEECH_LEVEL_DB - PAUSE_DB) / 10)
        self._loud = np.concatenate([self._loud, loud])
        self._samples = samples[whole:]

    def _soft(self) -> Float[np.ndarray, " steps"]:
        """Activity of the known steps; the last ones, see REACH, as if the recording ended."""
        if not len(self._loud):
            return self._loud
        closed = minimum_filter1d(maximum_filter1d(self._loud, SHORTEST_PAUSE), SHORTEST_PAUSE)
        return np.asarray(uniform_filter1d(closed, RAMP))

    def _frames(self, n_frames: int, soft: Float[np.ndarray, " steps"]) -> np.ndarray:
        """Activity of the frames up to n_frames; earlier steps are forgotten."""
        place = self._place(np.arange(self._frame, n_frames))
        middle = self._first + np.arange(len(soft)) + 0.5
        activity = np.interp(place, middle, soft, right=0.0) if len(soft) else np.zeros(len(place))
        self._frame = n_frames
        # Filters treat the first step that is kept as the recording's first: what it reaches is
        # not used.
        keep = math.floor(self._place(np.array(n_frames)) - 0.5) - REACH[0]
        if keep > self._first:
            self._loud = self._loud[keep - self._first :]
            self._first = keep
        return activity.astype(np.float32)


def _quick(signal: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """What changes within 0.02 to 0.3 s: syllables, not sentences."""
    return np.asarray(gaussian_filter1d(signal, 1) - gaussian_filter1d(signal, 15))
