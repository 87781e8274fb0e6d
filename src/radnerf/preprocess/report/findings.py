"""What the measurements mean: sentences that say what is wrong and what to do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from radnerf.audio.sync import NATURAL_OFFSETS
from radnerf.conventions import FPS
from radnerf.preprocess.report.facts import Facts, brightness_change

LEAST_SPEECH = 30.0  # seconds; lips of the shared 18 s are soft, papers use 3 to 5 minutes
LEAST_FACE = 56.0  # pixels; below, an eye is 5 pixels wide
LEAST_BLINKS = 2  # one may be held out, and a single one is no example
MOST_TURNED = 35.0  # degrees from the usual pose: half of the landmarks are hidden
MOST_CAMERA = 0.012  # of the width; the background is sharp to about a hundredth
MOST_LIGHT = 0.12  # of the background's brightness: a portrait has one light
MOST_BELOW_JAW = 0.10  # of the head; a jaw alone leaves 2 % there
LEAST_SHARPNESS, MOST_BLURRED = 0.5, 0.15  # of the median detail; fraction of the frames
MOST_REPROJECTION = 0.02  # of the face's width; the mesh's own noise is 1 %
MOST_ON_ITS_HEAD = 0.15  # of the width
MOST_UNSEEN = 0.02  # of the frames
LEAST_COVERAGE = 0.97  # of the head's pixels inside its box


@dataclass(frozen=True)
class Finding:
    """A fault: its name, and a sentence with what to do about it."""

    name: str
    text: str


def find_faults(facts: Facts) -> list[Finding]:
    """What a user should know before training, the gravest first."""
    found: list[tuple[str, bool, str]] = []
    f, turned = facts, np.abs(facts.head_angles - np.median(facts.head_angles, 0)).max(0)
    found.append(
        (
            "upside_down",
            f.on_its_head > MOST_ON_ITS_HEAD,
            "the person comes in from the upper border: if the video is upside down, turn it.",
        )
    )
    found.append(("cuts", f.cut is not None, f.cut or ""))
    if f.camera is not None:
        pixels = float(f.camera.max())
        found.append(
            (
                "camera",
                pixels > MOST_CAMERA * f.frame_px,
                f"the camera moves: the background drifts by {pixels:.0f} px, and will be blurred; "
                "stabilise the video, or render on background=white.",
            )
        )
    found.append(
        (
            "speech",
            f.speech_s < LEAST_SPEECH,
            f"only {f.speech_s:.0f} s of speech: expect soft lips; minutes make a good portrait.",
        )
    )
    if f.audio_offset_s is not None:
        frames = round(abs(f.audio_offset_s - np.clip(f.audio_offset_s, *NATURAL_OFFSETS)) * FPS)
        late = "lags" if f.audio_offset_s > NATURAL_OFFSETS[1] else "leads"
        found.append(
            (
                "offset",
                frames >= 2,
                f"the sound {late} by {frames} frames: training and rendering put it right, but "
                "check the video.",
            )
        )
    found.append(
        (
            "face",
            f.face_px < LEAST_FACE,
            f"the face is only {f.face_px:.0f} px wide: crop the video closer, or raise "
            "data.resolution.",
        )
    )
    found.append(
        (
            "blinks",
            f.blinks < LEAST_BLINKS,
            f"{f.blinks or 'no'} blink{'' if f.blinks == 1 else 's'} in {f.seconds:.0f} s: the "
            "eyes may not learn to shut.",
        )
    )
    found.append(
        (
            "turned",
            float(turned[:2].max()) > MOST_TURNED,
            f"the head turns by up to {turned[:2].max():.0f} degrees: poses are guessed there; "
            "cut these seconds out.",
        )
    )
    change = brightness_change(f.brightness)
    found.append(
        (
            "light",
            change > MOST_LIGHT,
            f"the light changes by {100 * change:.0f} %: switch automatic exposure off.",
        )
    )
    found.append(
        (
            "hair",
            f.below_jaw > MOST_BELOW_JAW,
            f"hair covers the jaw or the neck ({100 * f.below_jaw:.0f} % of the head are below "
            "the chin): it moves with the head, and the torso under it is made up.",
        )
    )
    blurred = float((f.sharpness < LEAST_SHARPNESS).mean())
    found.append(
        (
            "blurred",
            blurred > MOST_BLURRED,
            f"{100 * blurred:.0f} % of the frames are blurred against the others: more light, or "
            "a shorter exposure.",
        )
    )
    error = float(f.tracking.get("rmse_px", 0.0))
    found.append(
        (
            "tracking",
            error > MOST_REPROJECTION * f.face_px,
            f"the landmarks miss the tracked head by {error:.1f} px: look at the poses in the "
            "contact sheet before training.",
        )
    )
    fraction = f.unseen / max(1.0, f.seconds * FPS)
    found.append(
        (
            "unseen",
            fraction > MOST_UNSEEN,
            f"in {f.unseen} frames no face was seen; they are not trained on.",
        )
    )
    coverage = float(f.tracking.get("head_box_coverage", 1.0))
    found.append(
        (
            "coverage",
            coverage < LEAST_COVERAGE,
            f"{100 * (1 - coverage):.0f} % of the head lie outside the box that is learned: look "
            "at the parsing in the contact sheet.",
        )
    )
    return [Finding(name, text) for name, wrong, text in found if wrong]
