"""Every choice of every config group composes and constructs what it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from radnerf.audio import MelExtractor
from radnerf.errors import UserError
from radnerf.experiment import run
from radnerf.modules.budget import Budget
from radnerf.modules.stage import StageModule
from radnerf.rendering.portrait import Portrait

CONF = Path(__file__).parents[1] / "conf"
CHOICES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if path.parent.name not in ("data", "render")
)
# What has no default.
GIVEN = {
    "audio=deepspeech": ["audio.extractor.checkpoint=a.ckpt"],
    "audio=features": ["audio.extractor.file=aud_eo.npy"],
}
DATA = sorted(f"data={path.stem}" for path in CONF.glob("data/*.yaml"))


def composed(*overrides: str, folder: Path = CONF, name: str = "train") -> Any:
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose(name, list(overrides))


def portrait(config: Any) -> Portrait:
    parts: Any = OmegaConf.to_container(config.model.portrait, resolve=True)
    box = [[-1, -1, -1], [1, 1, 1]]
    extractor = instantiate(config.audio.extractor)
    # The others tell their width from files: see tests/audio.
    parts["audio_net"]["dim"] = extractor.dim if isinstance(extractor, MelExtractor) else 8
    parts["head"] |= {"n_frames": 3, "box": box}
    parts["torso"]["n_frames"] = 3
    parts["head_grid"]["box"] = box
    return Portrait.from_config(parts)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_constructs(choice: str, tmp_path: Path) -> None:
    config = composed(choice, *GIVEN.get(choice, []))
    built = portrait(config)
    for name, settings in config.model.stages.items():
        module = instantiate(settings, portrait=built, budget=Budget(steps=1), _convert_="object")
        assert isinstance(module, StageModule) and module.name == name
        assert list(module.trained_parameters())
        module.configure_optimizers()


@pytest.mark.parametrize("choice", DATA)
def test_every_data_config_is_a_source(choice: str, tmp_path: Path) -> None:
    from radnerf.preprocess.source import ClipSource

    config = composed(choice, "data.video=some/where/anna.mp4")
    source = ClipSource(**OmegaConf.to_container(config.data, resolve=True))  # type: ignore[arg-type]
    expected = {"data=demo": "demo", "data=obama": "obama"}.get(choice, "anna")
    assert source.id == expected
    assert config.minutes > 0


def test_the_default_is_radnerf_on_the_demo() -> None:
    config = composed()
    assert config.data.id == "demo"
    assert config.stages == ["preprocess", "head", "lips", "torso", "joint", "test"]
    assert config == composed("model=radnerf", "data=demo")


def test_loggers_and_trainers_construct(tmp_path: Path) -> None:
    for path in sorted((CONF / "trainer").glob("*.yaml")):
        settings = composed(f"trainer={path.stem}").trainer
        if settings.accelerator != "gpu":
            assert instantiate(settings, logger=False, max_epochs=1).num_devices == 1
    csv = instantiate(composed("logger=csv").logger, save_dir=str(tmp_path))
    csv.log_metrics({"a": 1.0}, step=0)
    csv.save()
    assert "a" in (tmp_path / "metrics.csv").read_text()


def test_render_config_has_the_documented_options() -> None:
    options = ("portrait=a.safetensors", "audio=b.wav", "out=c.mp4")
    config = composed(*options, folder=CONF / "render", name="config")
    assert (config.pose, config.eyes, config.background) == ("own", "own", "own")


def test_a_speech_model_that_is_missing_is_found_before_the_work(tmp_path: Path) -> None:
    given = ("audio.extractor.checkpoint=no.ckpt", f"data.folder={tmp_path}/data", "logger=none")
    config = composed("audio=deepspeech", *given, f"outputs={tmp_path}/outputs")
    with pytest.raises(UserError, match=r"no DeepSpeech checkpoint no\.ckpt"):
        run(config)
    assert not list(tmp_path.iterdir())
