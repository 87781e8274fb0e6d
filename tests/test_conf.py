"""Every choice of every config group composes and constructs what it names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fields.tinycuda import stand_in
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from radnerf.audio import MelExtractor
from radnerf.errors import UserError
from radnerf.experiment import run
from radnerf.experiment.build import ClipFacts, build_stage, portrait_config
from radnerf.fields.occupancy import OccupancyGrid
from radnerf.losses import PerceptualLips, StructuralLips
from radnerf.metrics.lpips import Lpips
from radnerf.modules.budget import Budget
from radnerf.modules.stage import StageModule
from radnerf.rendering.portrait import Portrait

CONF = Path(__file__).parents[1] / "conf"
CHOICES = sorted(
    f"{path.parent.name}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if path.parent.name not in ("data", "render")
) + sorted(f"experiment=ablation/{path.stem}" for path in CONF.glob("experiment/ablation/*.yaml"))
# What has no default.
GIVEN = {
    "audio=deepspeech": ["audio.extractor.checkpoint=a.ckpt"],
    "audio=features": ["audio.extractor.file=aud_eo.npy"],
}
LIPS = sorted(f"loss/lips={path.stem}" for path in CONF.glob("loss/lips/*.yaml"))
DATA = sorted(f"data={path.stem}" for path in CONF.glob("data/*.yaml"))


def composed(*overrides: str, folder: Path = CONF, name: str = "train") -> Any:
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose(name, list(overrides))


def portrait(config: Any) -> Portrait:
    extractor = instantiate(config.audio.extractor)
    # The others tell their width from files: see tests/audio.
    width = extractor.dim if isinstance(extractor, MelExtractor) else 8
    facts = ClipFacts(width, 3, ((-1.0,) * 3, (1.0,) * 3), (0.0, 0.25))
    return Portrait.from_config(portrait_config(config, facts))


@pytest.mark.parametrize("choice", CHOICES + LIPS)
def test_every_choice_constructs(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radnerf.losses.lips.load_lpips", lambda backbone: Lpips())
    monkeypatch.setitem(sys.modules, "tinycudann", stand_in())
    config = composed(choice, *GIVEN.get(choice, []))
    built = portrait(config)
    for name in config.model.stages:
        module = build_stage(config, name, built, Budget(steps=1))
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
    assert (
        set(config.recipe) == set(config.model.stage_fractions) and min(config.recipe.values()) > 0
    )


def weights(*overrides: str) -> dict[str, dict[str, float]]:
    """Weights of the terms of every stage."""
    config = composed(*overrides)
    return {
        name: {term: float(settings.weight) for term, settings in stage.losses.items()}
        for name, stage in config.model.stages.items()
    }


def test_losses_differ_by_what_their_name_says() -> None:
    default, paper = weights(), weights("loss=paper")
    assert list(default["head"]) == ["color", "entropy", "region", "eye", "distortion", "mask"]
    assert list(default["lips"]) == [*default["head"], "lips"]
    assert list(default["joint"]) == ["color", "head", "entropy", "eye", "lips"]
    assert list(default["torso"]) == ["color", "alpha", "entropy"]
    assert (default["head"]["region"], paper["head"]["region"]) == (0.003, 0.1)
    assert paper["head"]["distortion"] == paper["lips"]["mask"] == 0
    assert paper["head"]["eye"] == default["head"]["eye"] > 0
    for name, changed in (("no_region", "region"), ("no_lips", "lips"), ("no_eye", "eye")):
        variant = weights(f"loss={name}")
        for stage, terms in variant.items():
            expected = {
                term: 0.0 if term == changed else weight for term, weight in paper[stage].items()
            }
            assert terms == expected, (name, stage)
    own = weights("loss=paper", "loss.lips.weight=0.5", "loss.region.weight=1", "loss.eye.weight=7")
    assert own["lips"]["lips"] == own["joint"]["lips"] == 0.5
    assert own["head"]["region"] == own["lips"]["region"] == 1
    assert {own[stage]["eye"] for stage in ("head", "lips", "joint")} == {7}


def test_the_region_weight_rises_over_the_head_stage_alone() -> None:
    stages = composed().model.stages
    head, lips = (instantiate(stages[name].losses.region) for name in ("head", "lips"))
    assert head.weight_at(0.5) == 0.0015 and lips.weight_at(0.5) == lips.weight_at(0) == 0.003


def test_no_eye_reaches_field_and_sampling() -> None:
    model = composed("loss=no_eye").model
    assert model.portrait.head.field.eye_control is False
    for stage in ("head", "lips", "joint"):
        sampling = model.stages[stage].sampling
        assert (sampling.blink_fraction, sampling.fractions.eyes) == (0, 0)
        assert model.stages[stage].eyes_elsewhere is False


def test_lpips_is_used_when_its_weights_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = f"loss.lips.backbone={tmp_path}/none.pth"
    assert isinstance(instantiate(composed("loss=paper", missing).loss.lips), StructuralLips)
    monkeypatch.setattr("radnerf.losses.lips.load_lpips", lambda backbone: Lpips())
    there = f"loss.lips.backbone={tmp_path}/there.pth"
    assert isinstance(instantiate(composed("loss=paper", there).loss.lips), PerceptualLips)


def test_the_default_is_radnerf_on_the_demo() -> None:
    config = composed()
    assert config.data.id == "demo"
    assert config.stages == ["preprocess", "head", "lips", "torso", "joint", "test"]
    assert config == composed("model=radnerf", "data=demo")


def test_loggers_and_trainers_construct(tmp_path: Path) -> None:
    for path in sorted((CONF / "trainer").glob("*.yaml")):
        settings = composed(f"trainer={path.stem}").trainer
        if settings.accelerator != "gpu":
            several = torch.cuda.device_count() if "strategy" in settings else 1
            trainer = instantiate(settings, logger=False, max_epochs=1)
            assert trainer.num_devices == max(1, several)
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


def test_the_triplane_brings_attention_unless_told_otherwise() -> None:
    def conditioning(*choices: str) -> str:
        return composed(*choices).conditioning._target_.rpartition(".")[2]

    assert conditioning() == "AudioCoordinate"
    assert conditioning("encoder=triplane") == "RegionAttention"
    assert conditioning("encoder=triplane", "conditioning=coordinate") == "AudioCoordinate"
    assert conditioning("conditioning=concatenation", "encoder=triplane") == "Concatenation"


def test_the_papers_numbers() -> None:
    from radnerf.experiment.plan import TRAINING, budgets

    config = composed("experiment=paper")
    found = budgets(config, TRAINING)
    assert {name: budget.steps for name, budget in found.items()} == {
        "head": 200_000,
        "lips": 50_000,
        "torso": 200_000,
    }
    assert all(budget.minutes is None for budget in found.values())
    built = portrait(config)
    head, torso = built.head, built.torso
    assert head.field.conditioning.ambient.levels.finest_resolution == 2048
    assert head.field.eye_input == (0.0, 0.25)  # the clip's eye ratios
    assert head.grid.shape == (128, 128, 128) and type(head.grid) is OccupancyGrid
    assert torso.field.pose_octaves == 4 and not torso.field.tracked
    assert not torso.field.normalise_pose
    assert head.marching.max_samples == 16
    assert head.marching.step == pytest.approx(2 * 3**0.5 / 128, rel=1e-12)
    modules = {name: build_stage(config, name, built, budget) for name, budget in found.items()}
    head, lips = modules["head"], modules["lips"]
    assert head.landmark_driven == lips.landmark_driven == (0.0, 0.0) and not head.warm_start_steps
    assert (head.rates.grid, head.rates.net) == (5e-3, 5e-4)
    for module in modules.values():
        assert (module.sampling.n_frames, module.sampling.n_rays) == (1, 65_536)
        assert {k for k, v in vars(module.sampling.fractions).items() if v} == {"image"}
    # The lips go on where one decay to 0.05 over both stages has got to, and end where it ends.
    for rate, first in ((lips.rates.grid, 5e-3), (lips.rates.net, 5e-4)):
        assert rate == pytest.approx(first * 0.05**0.8, rel=1e-3)
        assert rate * lips.rates.final_factor == pytest.approx(first * 0.05, rel=1e-2)


def test_a_command_line_still_has_the_last_word_over_an_experiment() -> None:
    config = composed("experiment=paper", "steps=90", "model.hidden=32")
    assert config.steps == 90 and config.model.portrait.head.field.hidden == 32
