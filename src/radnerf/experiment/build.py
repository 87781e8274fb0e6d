"""The portrait of a config and a clip; that it can be made again from its file is found first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from radnerf.audio import Extractor, FeatureFile, make_extractor
from radnerf.data.datamodule import ClipDataModule
from radnerf.errors import UserError
from radnerf.modules.budget import Budget
from radnerf.modules.stage import StageModule
from radnerf.rendering.portrait import Portrait

REFINEMENT = "radnerf.fields.cameras.CameraRefinement"


@dataclass(frozen=True)
class ClipFacts:
    """What only the clip knows of its portrait: the config's node `clip`.

    Attributes:
        audio_dim: width of the audio features.
        n_frames: to train on.
        head_box: (min, max) corners in world units.
        eye_range: eye ratios (data/clip.py) of its shut and its open eyes.
    """

    audio_dim: int
    n_frames: int
    head_box: Sequence[Sequence[float]]
    eye_range: Sequence[float]

    @classmethod
    def of(cls, data: ClipDataModule) -> ClipFacts:
        clip = data.clip
        return cls(data.audio.shape[-1], clip.n_train, clip.head_box, data.eye_range)


def build_portrait(config: DictConfig, data: ClipDataModule) -> Portrait:
    """The untrained portrait of a config, fitted to its clip.

    Raises:
        UserError: it cannot be built.
    """
    portrait = Portrait.from_config(portrait_config(config, ClipFacts.of(data)))
    train = slice(data.clip.n_train)
    portrait.torso.fit(data.pose_vectors[train], data.frames.torso_motion[train])
    return portrait


def build_stage(
    config: DictConfig, name: str, portrait: Portrait, budget: Budget, **changes: Any
) -> StageModule:
    """A training stage of a config.

    Args:
        changes: to its settings, such as another `_target_`.
    """
    stage: StageModule = instantiate(
        OmegaConf.merge(config.model.stages[name], changes),
        portrait=portrait,
        budget=budget,
        seed=config.seed,
        _convert_="object",
    )
    return stage


def portrait_config(config: DictConfig, facts: ClipFacts) -> dict[str, Any]:
    """The config's nested parts of a portrait, with what only the clip knows filled in."""
    whole: Any = OmegaConf.to_container(config)
    filled = OmegaConf.create(whole | {"clip": json.loads(json.dumps(vars(facts)))})  # plain lists
    parts: Any = OmegaConf.to_container(filled.model.portrait, resolve=True)
    if config.model.refine_cameras:
        parts["cameras"] = {"_target_": REFINEMENT, "n_frames": facts.n_frames}
    return parts


def check_restorable(config: DictConfig, extractor: Extractor) -> None:
    """Find out, before any work, whether what will be trained can be loaded again.

    Raises:
        UserError: the portrait or the extractor cannot be built, or not again from what its file
            will hold.
    """
    check_extractor(extractor)
    facts = ClipFacts(max(1, extractor.dim), 2, ((-1.0,) * 3, (1.0,) * 3), (0.0, 0.25))
    portrait = Portrait.from_config(portrait_config(config, facts))
    try:
        again = Portrait.from_config(json.loads(json.dumps(portrait.config)))
        again.load_state_dict(portrait.state_dict())
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UserError(
            f"This portrait could not be loaded after training ({reason}): a component must be "
            "made by its settings alone."
        ) from error


def check_extractor(extractor: Extractor) -> None:
    """Find out whether an extractor can be made again from its settings.

    Raises:
        UserError: it cannot.
    """
    try:
        again = make_extractor(json.loads(json.dumps(extractor.settings)))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The audio extractor {extractor.name} has settings that no portrait file can hold "
            f"({error})."
        ) from error
    if isinstance(extractor, FeatureFile):  # hears nothing, whatever its file's name
        return
    if again.fingerprint != extractor.fingerprint:
        raise UserError(
            f"The audio extractor {extractor.name} does not come back from its settings as it "
            f"was: {again.fingerprint} instead of {extractor.fingerprint}."
        )
