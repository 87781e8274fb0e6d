"""The benchmark's contract; how fast anything is, no test asks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from inference.fakes import make_bundle, make_portrait_config
from rich.console import Console

from radnerf import kernels
from radnerf.benchmark import suite
from radnerf.benchmark.__main__ import CONF, main
from radnerf.benchmark.ceilings import ceilings
from radnerf.benchmark.frames import benchmark_frames
from radnerf.benchmark.operators import benchmark_operators, cases, error_of
from radnerf.benchmark.portraits import load_subject, stand_in
from radnerf.benchmark.report import KEYS, SIZE_KEYS, Report, complete, failures, show
from radnerf.benchmark.startup import benchmark_startup
from radnerf.benchmark.timing import measure
from radnerf.benchmark.training import benchmark_training
from radnerf.kernels.shade import shade
from radnerf.rendering.portrait import Portrait
from radnerf.types import RenderOutput

CPU = torch.device("cpu")
TINY = suite.Plan(
    seconds=0.0,
    points=64,
    sizes=(16, 24),
    sides=(8, 12, 16),
    clips=(2, 4, 8),
    matrix_side=32,
    reads=1 << 10,
    rays=64,
)
FUNCTIONS = {
    "composite": ["composite"],
    "encodings": ["frequency_encode", "sh_encode"],
    "grid_encode": ["grid_encode"],
    "march": ["march"],
    "mlp": ["mlp"],
}
STARTED: Report = {
    "startup.import_s": 1.0,
    "startup.first_frame_s": 1.0,
    "startup.compile_s": 1.0,
    "memory.peak_mb": 1.0,
}


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    kernels.set_backend("auto")


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cpu back end that is the reference: nothing is compiled."""
    for op, names in FUNCTIONS.items():
        reference = import_module(f"radnerf.kernels.{op}.reference")
        for name in names:
            monkeypatch.setattr(f"radnerf.kernels.{op}.cpu.{name}", getattr(reference, name))
    monkeypatch.setattr(
        "radnerf.kernels.frame.cpu.unsupported_reason", lambda scene: "it is left out"
    )


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest real portrait."""
    path = tmp_path_factory.mktemp("portrait") / "p.safetensors"
    config = make_portrait_config()
    make_bundle(portrait=config, weights=Portrait.from_config(config).state_dict()).save(path)
    return path


def test_everything_promised_is_written(
    twin: None, portrait: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(suite, "FULL", TINY)
    monkeypatch.setattr(suite, "benchmark_startup", lambda *_: STARTED)
    file = tmp_path / "folder" / "speed.json"
    assert main(["--portrait", str(portrait), "--json", str(file), "--device", "cpu"]) == 0
    report = json.loads(file.read_text())
    promised = {*KEYS, *(f"render.{size}.{key}" for size in TINY.sizes for key in SIZE_KEYS)}
    promised |= {f"parity.{name}.{b}" for name in cases(8, CPU) for b in ("cpu", "triton")}
    promised |= {f"scaling.pixels.{side**2}.ms" for side in TINY.sides}
    promised |= {f"scaling.frames.{n}.ms" for n in TINY.clips}
    for what in ("forward", "backward"):
        for figure in ("ms", "ratio_to_reference", "ratio_to_ceiling"):
            promised |= {f"operator.mlp.{b}.{what}_{figure}" for b in ("cpu", "reference")}
    assert promised <= set(report)
    assert sum(key.startswith("scaling.samples.") for key in report) == 3
    without_reason = [k for k, v in report.items() if v is None and f"{k}.reason" not in report]
    assert without_reason == []
    unmeasured = {key for key in promised if report[key] is None}
    assert [k for k in unmeasured if not k.endswith(".triton") and "16bit" not in k] == []
    assert report["portrait"] == "p.safetensors" and not failures(report)
    assert "frames/s" in capsys.readouterr().out


def test_a_wrong_back_end_gets_no_speed(twin: None, monkeypatch: pytest.MonkeyPatch) -> None:
    right = import_module("radnerf.kernels.encodings.reference").sh_encode
    monkeypatch.setattr("radnerf.kernels.encodings.cpu.sh_encode", lambda *a: 1.01 * right(*a))
    ceiling = ceilings(CPU, 0.0, side=8, reads=1 << 10)
    report = benchmark_operators(64, CPU, 0.0, ceiling, "cpu")
    assert failures(report) == ["parity.sh_encode.cpu"]
    assert report["parity.sh_encode.cpu"] == pytest.approx(0.01, rel=0.1)
    assert not any(
        isinstance(value, float) for key, value in report.items() if "operator.sh_encode.cpu" in key
    )
    assert report["operator.sh_encode.reference.forward_ms"]
    assert report["operator.frequency_encode.cpu.forward_ms"]
    assert report["parity.mlp.triton.reason"] == "not asked for"
    printed = StringIO()
    show(report, Console(file=printed, width=200))
    assert "parity failed: 0.01 is above 0.001" in printed.getvalue()


@pytest.mark.parametrize("wrong", [lambda x, n: x[:, :1], lambda x, n: x * torch.nan])
def test_what_cannot_be_compared_is_wrong(
    twin: None, wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radnerf.kernels.encodings.cpu.sh_encode", wrong)
    assert error_of(cases(8, CPU)["sh_encode"], "cpu") == float("inf")


def test_frames_and_steps_are_refused_too(
    twin: None, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = load_subject(portrait, CPU)
    speeds = [f"render.16.{key}" for key in SIZE_KEYS] + ["ratio_to_reference.render"]
    report = benchmark_frames(subject, "auto", 0.0, (16,), refused="sh_encode is wrong")
    assert all(report[key] is None for key in speeds)
    report = benchmark_training(subject, CONF, "auto", 0.0, 64, refused="sh_encode is wrong")
    assert report["train.steps_per_s.reason"] == "sh_encode is wrong"

    def wrong(*given: Any) -> RenderOutput | None:
        out = shade(*given)  # None: the reference, which is right
        return None if out is None else replace(out, rgb=1 + out.rgb)

    monkeypatch.setattr("radnerf.heads.marching.shade", wrong)
    report = complete(benchmark_frames(subject, "auto", 0.0, (16,)), (16,))
    assert all(report[key] is None for key in speeds)
    assert "parity.frame.psnr_db" in failures(report)
    report = benchmark_training(subject, CONF, "auto", 0.0, 64)
    assert report["train.steps_per_s"] is None and failures(report) == ["parity.train.loss"]


def test_turns_are_counted_and_timed() -> None:
    now, calls = 0.0, []

    def take(name: str, seconds: float) -> None:
        nonlocal now
        now += seconds if len(calls) >= 4 else 100.0
        calls.append(name)

    timings = measure(
        {"a": lambda: take("a", 1.0), "b": lambda: take("b", 3.0)},
        seconds=10.0,
        warm_up=2,
        least=1,
        clock=lambda: now,
    )
    # Two warm-ups each, slow as the first calls are; then in turns until 10 seconds are over.
    assert calls == ["a", "a", "b", "b", "a", "b", "a", "b", "a", "b"]
    assert timings["a"].calls == timings["b"].calls == 3
    assert (timings["a"].median, timings["b"].p95) == pytest.approx((1000.0, 3000.0))


def test_the_gpu_is_waited_for_inside_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr("radnerf.benchmark.timing.synchronise", lambda: events.append("wait"))

    def clock() -> float:
        events.append("clock")
        return 0.0

    measure({"": lambda: events.append("call")}, -1.0, warm_up=0, least=1, clock=clock)
    assert "wait clock call wait clock" in " ".join(events)


def test_the_stand_in_is_a_head_and_says_what_it_is() -> None:
    subject = stand_in(CONF, CPU)
    assert "stand-in" in subject.name
    assert 0.05 < subject.portrait.head.grid.occupied_fraction < 0.3


def test_a_process_of_its_own_starts_without_a_compiler(portrait: Path) -> None:
    report = benchmark_startup(portrait, CONF, "reference", "cpu", (16,))
    assert report["startup.import_loads_compilers"] == "none"
    assert set(STARTED) <= set(report)
    assert float(report["startup.import_s"] or 0) > 0.01


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--portrait", "nowhere.safetensors"], "There is no portrait file nowhere.safetensors"),
        (["--conf", "nowhere"], "There is no nowhere"),
        (["--device", "abacus"], "device=abacus"),
        (["--kernels", "fast"], "invalid choice: 'fast'"),
        (["--fast"], "unrecognized arguments: --fast"),
        (["--json", "/dev/null/speed.json"], "cannot be written"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and said in error and "\n" not in error


def test_the_exit_code_reaches_the_shell() -> None:
    command = [sys.executable, "-m", "radnerf.benchmark", "--kernels", "fast"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and not done.stdout
