"""The extractors that a portrait file may name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from radnerf.audio.deepspeech import DeepSpeechExtractor
from radnerf.audio.extractors import Extractor, MelExtractor
from radnerf.audio.precomputed import FeatureFile
from radnerf.audio.speech_models import HubertExtractor, Wav2Vec2Extractor, WhisperExtractor
from radnerf.errors import UserError

# A file names one of these and never a class or a function.
EXTRACTORS: dict[str, type] = {
    "mel": MelExtractor,
    "features": FeatureFile,
    **{
        extractor.kind: extractor
        for extractor in (
            Wav2Vec2Extractor,
            HubertExtractor,
            WhisperExtractor,
            DeepSpeechExtractor,
        )
    },
}


def make_extractor(
    settings: Mapping[str, Any],
    device: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Extractor:
    """The extractor that a portrait learned from, from its settings.

    Args:
        settings: of Extractor.settings; untrusted.
        device: where a network runs; None for the extractor's own choice.
        overrides: settings of the user's, such as where the model is; None is no override. With a
            place of the user's, the model's content hash is the user's to check.

    Raises:
        UserError: this version knows no such extractor, or not with these settings.
    """
    name = settings.get("name")
    if not isinstance(name, str) or name not in EXTRACTORS:
        raise UserError(f"This program has no audio extractor {name!r}: update it.")
    kind = EXTRACTORS[name]
    hints = get_type_hints(kind)
    known = {field.name: hints[field.name] for field in fields(kind)}
    chosen = {k: v for k, v in settings.items() if k != "name" or name == "mel"}
    storable = known.keys() - getattr(kind, "local", frozenset())
    wrong = [k for k, v in chosen.items() if k not in storable or not _is(v, known[k])]
    if wrong:
        raise UserError(f"The portrait's audio extractor {name} has unusable settings: {wrong}.")
    given = {k: v for k, v in (overrides or {}).items() if v is not None}
    strange = [f"extractor.{k}" for k in given if k not in known]
    if strange:
        raise UserError(f"{strange[0]} is no setting of the portrait's audio extractor, {name}.")
    if given:
        chosen = {k: v for k, v in chosen.items() if k != "weights"} | given
    if device is not None and "device" in known:
        chosen["device"] = device
    try:
        extractor: Extractor = kind(**chosen)
    except TypeError as error:
        raise UserError(
            f"The portrait's audio extractor {name} lacks settings ({error})."
        ) from error
    return extractor


def _is(value: Any, hint: Any) -> bool:
    """Whether a value from a file has the type of a setting."""
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and not isinstance(value, bool)
