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
from radnerf.losses import PerceptualLips, PortraitLoss, StructuralLips
from radnerf.metrics.lpips import Lpips
from radnerf.modules.budget import Budget
from radnerf.modules.stage import StageModule
from radnerf.rendering.occupancy import OccupancyGrid
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
    parts: Any = OmegaConf.to_container(config.model.portrait, resolve=True)
    box = [[-1, -1, -1], [1, 1, 1]]
    extractor = instantiate(config.audio.extractor)
    # The others tell their width from files: see tests/audio.
    parts["audio_net"]["dim"] = extractor.dim if isinstance(extractor, MelExtractor) else 8
    parts["head"] |= {"n_frames": 3, "box": box}
    parts["torso"]["n_frames"] = 3
    parts["head_grid"]["box"] = box
    return Portrait.from_config(parts)


@pytest.mark.parametrize("choice", CHOICES + LIPS)
def test_every_choice_constructs(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radnerf.losses.lips.load_lpips", lambda backbone: Lpips())
    monkeypatch.setitem(sys.modules, "tinycudann", stand_in())
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


def test_losses_differ_by_what_their_name_says() -> None:
    def loss(*overrides: str) -> PortraitLoss:
        built = instantiate(composed(*overrides).loss)
        assert isinstance(built, PortraitLoss)
        return built

    default, paper = loss(), loss("loss=paper")
    assert (default.region.weight, paper.region.weight) == (0.003, 0.1)
    assert paper.distortion.weight == paper.mask.weight == 0
    assert paper.eye == default.eye and default.eye.control
    for name, changed in (("no_region", "region"), ("no_lips", "lips"), ("no_eye", "eye")):
        variant = loss(f"loss={name}")
        assert getattr(variant, changed).weight == 0
        others = {"entropy", "region", "lips", "distortion", "mask", "eye"} - {changed}
        assert all(getattr(variant, o).weight == getattr(paper, o).weight for o in others)
    assert not loss("loss=no_eye").eye.control
    overrides = ("loss.lips.weight=0.5", "loss.region.weight=1", "loss.entropy.weight=0")
    own = loss("loss=paper", *overrides, "loss.eye.weight=7", "loss/lips=structural")
    assert (own.lips.weight, own.region.weight, own.entropy.weight) == (0.5, 1, 0)
    assert own.eye.weight == 7 and isinstance(own.lips, StructuralLips)


def test_no_eye_reaches_field_and_sampling() -> None:
    model = composed("loss=no_eye").model
    assert model.portrait.head.eye_control is False
    for stage in ("head", "lips", "joint"):
        sampling = model.stages[stage].sampling
        assert (sampling.blink_share, sampling.shares.eyes) == (0, 0)


def test_lpips_is_used_when_its_weights_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = f"loss.lips.backbone={tmp_path}/none.pth"
    assert isinstance(instantiate(composed("loss=paper", missing).loss).lips, StructuralLips)
    monkeypatch.setattr("radnerf.losses.lips.load_lpips", lambda backbone: Lpips())
    there = f"loss.lips.backbone={tmp_path}/there.pth"
    assert isinstance(instantiate(composed("loss=paper", there).loss).lips, PerceptualLips)


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
    from radnerf.experiment.run import TRAINING, _budgets

    config = composed("experiment=paper")
    budgets = _budgets(config, list(TRAINING))
    assert {name: budget.steps for name, budget in budgets.items()} == {
        "head": 200_000,
        "lips": 50_000,
        "torso": 200_000,
    }
    assert all(budget.minutes is None for budget in budgets.values())
    built = portrait(config)
    assert built.head.conditioning.ambient.levels.finest_resolution == 2048
    assert built.head_grid.shape == (128, 128, 128) and type(built.head_grid) is OccupancyGrid
    assert built.torso.pose_octaves == 4 and not built.torso.tracked
    assert built.marching.max_samples == 16
    assert built.marching.step == pytest.approx(2 * 3**0.5 / 128, rel=1e-12)
    modules = {
        name: instantiate(
            config.model.stages[name], portrait=built, budget=budget, _convert_="object"
        )
        for name, budget in budgets.items()
    }
    head, lips = modules["head"], modules["lips"]
    assert head.shown == lips.shown == (0.0, 0.0) and not head.warm_start_steps
    assert (head.rates.grid, head.rates.net) == (5e-3, 5e-4)
    for module in modules.values():
        assert (module.sampling.n_frames, module.sampling.n_rays) == (1, 65_536)
        assert {k for k, v in vars(module.sampling.shares).items() if v} == {"image"}
    # The lips go on where one decay to 0.05 over both stages has got to, and end where it ends.
    for rate, first in ((lips.rates.grid, 5e-3), (lips.rates.net, 5e-4)):
        assert rate == pytest.approx(first * 0.05**0.8, rel=1e-3)
        assert rate * lips.rates.final_factor == pytest.approx(first * 0.05, rel=1e-2)


def test_a_command_line_still_has_the_last_word_over_an_experiment() -> None:
    config = composed("experiment=paper", "steps=90", "model.hidden=32")
    assert config.steps == 90 and config.model.portrait.head.hidden == 32
