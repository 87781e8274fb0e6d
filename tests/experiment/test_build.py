"""What could not be loaded after training is refused before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from radnerf import registry
from radnerf.audio import Extractor, MelExtractor
from radnerf.errors import UserError
from radnerf.experiment import run
from radnerf.experiment.build import ClipFacts, check_extractor, portrait_config
from radnerf.fields.encodings import GridEncoding
from radnerf.registry import component, path_of

CONF = Path(__file__).parents[2] / "conf"
sizes = [8]


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    registry.registered("encoder")  # so that ours are there
    before = {kind: dict(known) for kind, known in registry._components.items()}
    yield
    for kind, known in registry._components.items():
        known.clear()
        known.update(before[kind])


def composed(folder: Path, *overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        where = (f"data.folder={folder}", f"outputs={folder}", "logger=none", "steps=2")
        return compose("train", [*where, *overrides])


class Growing(GridEncoding):
    """Larger every time that it is made: its settings do not say how large."""

    def __init__(self, dim: int, **settings: Any) -> None:
        sizes[0] += 1
        super().__init__(dim, **settings | {"log2_table_size": sizes[0]})


def test_a_component_that_does_not_come_back_is_refused_before_the_work(tmp_path: Path) -> None:
    component("encoder")(Growing)
    config = composed(tmp_path, f"encoder.spatial._target_={path_of(Growing)}")
    with pytest.raises(UserError, match="could not be loaded after training"):
        run(config)
    assert list(tmp_path.iterdir()) == []


def test_a_component_that_is_not_registered_is_refused_before_the_work(tmp_path: Path) -> None:
    config = composed(tmp_path, "encoder.spatial._target_=clay.Lump")
    with pytest.raises(UserError, match=r"'clay\.Lump' .* plugins=\[clay\]"):
        run(config)
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Ears(Extractor):
    """Hears nothing."""

    folder: str = "here"
    seed: int = 3

    name: ClassVar[str] = "ears"
    dim: ClassVar[int] = 1
    context: ClassVar[int] = 0

    def __call__(self, wave: np.ndarray) -> np.ndarray:
        return np.zeros((len(wave) // 320, 1), np.float32)


class Forgetful(Ears):
    """Keeps one of its settings to itself."""

    @property
    def settings(self) -> dict[str, Any]:
        return {"name": self.name, "folder": self.folder}


def test_extractors_come_back_from_their_settings() -> None:
    component("extractor", "ears")(Ears)
    check_extractor(MelExtractor(dim=12))
    with pytest.raises(UserError, match="unusable settings"):
        check_extractor(Ears("a", seed=True))
    assert "seed" in Ears("a").settings


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (Ears(Path("a")), "no portrait file can hold"),
        (Forgetful("here", seed=4), "does not come back from its settings"),
    ],
)
def test_extractors_that_do_not_are_refused(made: Ears, sentence: str) -> None:
    component("extractor", "ears")(type(made))
    with pytest.raises(UserError, match=sentence):
        check_extractor(made)


def test_what_only_the_clip_knows_is_filled_in(tmp_path: Path) -> None:
    facts = ClipFacts(7, 30, ((-1.0, -2.0, -3.0), (1.0, 2.0, 3.0)), (0.1, 0.3))
    parts = portrait_config(composed(tmp_path), facts)
    assert parts["audio_net"]["dim"] == 7
    assert parts["head"]["field"]["n_frames"] == parts["torso"]["field"]["n_frames"] == 30
    assert parts["head"]["grid"]["box"] == parts["head"]["field"]["box"]
    assert torch.tensor(parts["head"]["grid"]["box"]).tolist() == [list(c) for c in facts.head_box]
    paper = portrait_config(composed(tmp_path, "experiment=paper"), facts)
    assert paper["head"]["field"]["eye_input"] == [0.1, 0.3]
    assert paper["head"]["field"]["box"] == [[-1, -0.5, -1], [1, 0.5, 1]]
    assert "cameras" not in parts
    refined = portrait_config(composed(tmp_path, "model.refine_cameras=true"), facts)
    assert refined["cameras"]["n_frames"] == 30
