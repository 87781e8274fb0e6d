"""What is compiled before training is all that training needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment import tiny

from radnerf import kernels
from radnerf.audio import MelExtractor
from radnerf.data.datamodule import ClipDataModule
from radnerf.experiment import run
from radnerf.experiment.build import build_portrait
from radnerf.experiment.compile import compile_ahead
from radnerf.heads import RadianceHead
from radnerf.kernels import numba_runtime
from radnerf.types import Rays


def test_training_compiles_nothing_more(
    tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: set[Any] = set()
    original = numba_runtime.run

    def noted(compiled: Callable[..., None], *arguments: Any) -> None:
        types = tuple(getattr(a, "dtype", type(a)) for a in arguments)
        shapes = tuple(getattr(a, "ndim", 0) for a in arguments)
        called.add((compiled, types, shapes))
        original(compiled, *arguments)

    monkeypatch.setattr(numba_runtime, "run", noted)
    config = tiny.config(tiny_clip, tmp_path, "steps=8", "kernels=cpu", "stages=[head,torso,joint]")
    kernels.set_backend("cpu")
    data = ClipDataModule(tiny_clip, MelExtractor())
    data.setup()
    portrait = build_portrait(config, data)
    before = tiny.digest(portrait)
    random = torch.get_rng_state()
    compile_ahead(portrait, data, "cpu")
    assert tiny.digest(portrait) == before and torch.equal(torch.get_rng_state(), random)
    ahead = set(called)
    assert ahead
    run(config)
    assert called == ahead


def test_what_triton_compiles_anew_for_is_called(
    tiny_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers that 16 divides, and others, of rays and of samples."""
    monkeypatch.setattr("radnerf.experiment.compile.host_waits", lambda device: True)
    kernels.set_backend("reference")
    data = ClipDataModule(tiny_clip, MelExtractor())
    data.setup()
    portrait = build_portrait(tiny.config(tiny_clip, tmp_path), data)
    called = []

    def noted(self: RadianceHead, rays: Rays, *arguments: Any) -> Any:
        rendered = render(self, rays, *arguments)
        called.append((len(rays.frame), len(rendered[1].t)))
        return rendered

    render = RadianceHead.render
    monkeypatch.setattr(RadianceHead, "render", noted)
    compile_ahead(portrait, data, "cpu")
    (rays, samples), (others, capacity) = called
    assert rays % 16 == 0 < others % 16 and capacity % 16 == 0 and capacity > samples
