"""Puts a portrait file together from a checkpoint and the clip it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radnerf.convert.checkpoint import read_checkpoint
from radnerf.convert.source import FEATURE_FILES, Source, resting_mouth
from radnerf.convert.weights import audio_width, has_torso, to_portrait
from radnerf.errors import UserError
from radnerf.geometry.eyes import eye_opening, eye_range
from radnerf.inference.bundle import PortraitBundle

# Feature widths, and the speech models that the public tools took them from.
PUBLIC_MODELS: dict[int, dict[str, Any]] = {
    44: {"name": "wav2vec2", "model": "cpierse/wav2vec2-large-xlsr-53-esperanto"},
    32: {"name": "wav2vec2", "model": "facebook/wav2vec2-large-960h-lv60-self"},
    1024: {"name": "hubert", "model": "facebook/hubert-large-ls960-ft"},
    29: {"name": "deepspeech"},
}


@dataclass
class Done:
    """What to tell the user."""

    summary: str
    warnings: list[str]


def convert(checkpoint: Path, clip: Path | None, out: Path, extractor: str | None = None) -> Done:
    """Write the portrait file of a public checkpoint.

    Args:
        clip: the clip folder, or its transforms JSON.
        extractor: name of the audio feature extractor; None for the public one of that width.

    Raises:
        UserError: the checkpoint, clip or extractor cannot be used, or the file not be written.
    """
    if clip is None:
        raise UserError(
            "A checkpoint knows no camera: add --clip DIR, the preprocessed clip it was trained "
            "on, or --clip FILE.json with its poses."
        )
    if out.resolve() in (checkpoint.resolve(), clip.resolve()):
        raise UserError(f"--out {out} would replace a file that is being read: choose another.")
    public = read_checkpoint(checkpoint)
    width = audio_width(public)
    settings = extractor_settings(extractor, width)
    source = Source.open(clip)
    limits = eye_range(source.eye[: source.n_train].numpy())
    portrait = to_portrait(public, source.size, source.n_train, limits)
    rest, found = resting_mouth(portrait, source)
    portrait.rest_code.copy_(rest)
    features = source.features(width)
    if settings["name"] == "features":
        settings["file"] = features[0] if features else FEATURE_FILES[-1]
    bundle = PortraitBundle(
        id=source.id,
        portrait=portrait.config,
        weights=portrait.state_dict(),
        extractor=settings,
        poses=source.poses,
        eye=eye_opening(source.eye, limits),
        torso_motion=source.poses.new_zeros(len(source.poses), 3),  # learned with the deformation
        focal=source.focal,
        centre=source.centre,
        size=source.size,
        fps=source.fps,
        background=source.background,
        n_train=source.n_train,
        audio_offset=0.0,  # public windows are centred at their frames
    )
    bundle.save(out)
    warnings = []
    if not has_torso(public):
        warnings.append(
            f"{checkpoint} is of the head alone: the portrait has no torso, only the head over "
            "the background."
        )
    if not found:
        warnings.append(
            f"{clip} has no landmarks or no {width} wide audio features: in pauses the mouth takes "
            "the shape that the network gives to silence."
        )
    parts = "head, torso and audio net" if has_torso(public) else "head and audio net"
    step = "" if public.step is None else f" (step {public.step})"
    height, wide = source.size
    summary = (
        f"{out}: {parts} of {checkpoint.name}{step}, {wide} x {height} pixels, "
        f"{len(source.poses)} poses, audio features {width} wide ({settings['name']})"
    )
    return Done(summary, warnings)


def extractor_settings(name: str | None, width: int) -> dict[str, Any]:
    """Settings of the extractor of a name, which the audio net's width must fit.

    Raises:
        UserError: unknown, or of other widths.
    """
    public = PUBLIC_MODELS.get(width, {"name": "features"})
    # DeepSpeech of the public tools is another version than can be run today.
    default = "features" if width == 29 else public["name"]
    if name is None or name == default:
        return {"name": default} if default == "features" else dict(public)
    if name == "features":
        return {"name": "features"}
    widths = {k: v["name"] for k, v in PUBLIC_MODELS.items()}
    if name not in widths.values():
        known = ", ".join(dict.fromkeys(["features", *widths.values()]))
        raise UserError(f"There is no extractor {name}: choose one of {known}.")
    if name != public["name"]:
        fitting = " or ".join(str(k) for k, v in widths.items() if v == name)
        raise UserError(
            f"The checkpoint was trained on audio features {width} wide, and those of {name} are "
            f"{fitting}: choose --extractor {default}."
        )
    return dict(public)
