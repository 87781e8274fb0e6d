"""On a GPU no training step waits to be told a number; without one, the CPU stands in for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from inference.fakes import make_bundle, make_portrait_config
from kernels.devices import device_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from radnerf import kernels
from radnerf.benchmark.__main__ import CONF
from radnerf.benchmark.portraits import Subject, load_subject
from radnerf.benchmark.training import make_batch, step
from radnerf.experiment.build import build_stage
from radnerf.modules import rays
from radnerf.modules.budget import Budget
from radnerf.modules.counts import LateCount
from radnerf.modules.head import HeadModule, HeadStage
from radnerf.modules.joint import JointModule
from radnerf.modules.stage import StageModule
from radnerf.modules.torso import TorsoModule
from radnerf.rendering.portrait import Portrait
from radnerf.torsos import planar

DEVICE = torch.device(device_of("triton"))
aten = torch.ops.aten
# What brings numbers to the host, be it only to know how large a result is.
READING = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten._unique2, aten.equal}


class Alone:
    """A stage without a trainer and a clip around it."""

    data = property(lambda self: SimpleNamespace())
    global_step = property(lambda self: 0)


class Head(Alone, HeadModule):
    pass


class Joint(Alone, JointModule):
    pass


class Torso(Alone, TorsoModule):
    pass


class Reads(TorchDispatchMode):
    """Finds operations that read a number."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        where = args[1] if packet in (aten.index, aten.index_put, aten.index_put_) else ()
        by_mask = any(i is not None and i.dtype == torch.bool for i in where)
        if packet in READING or by_mask or func == aten.repeat_interleave.Tensor:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@contextmanager
def no_reads() -> Iterator[None]:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return
    with Reads() as reads:
        yield
    assert reads.found == []


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    kernels.set_backend("auto")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """This device's host waits, as a GPU's does."""
    for module in (rays, planar):
        monkeypatch.setattr(module, "host_waits", lambda device: True)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    torch.manual_seed(0)
    config = make_portrait_config()
    config["head"]["grid"]["_target_"] = "radnerf.fields.occupancy.VisibleGrid"
    path = tmp_path / "p.safetensors"
    make_bundle(portrait=config, weights=Portrait.from_config(config).state_dict()).save(path)
    subject = load_subject(path, DEVICE)
    portrait: Any = subject.portrait
    grid = portrait.head.grid
    grid.restrict(torch.rand(grid.shape, device=DEVICE) > 0.7)
    with torch.no_grad():  # opaque after a few samples
        portrait.head.field.spatial.table.uniform_(-1, 1)
        portrait.head.field.sigma_net.weights[-1][0].abs_().mul_(30)
    grid = portrait.torso.grid
    grid.restrict(torch.rand(grid.shape, device=DEVICE) > 0.5)
    return subject


def make_stage(name: str, kind: type[StageModule], subject: Subject) -> StageModule:
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        config = compose("train")
    target = f"{__name__}.{kind.__name__}"
    module = build_stage(config, name, subject.portrait, Budget(steps=1000), _target_=target)
    module.to(DEVICE)
    module.setup("fit")
    return module


def by_audio(module: StageModule) -> None:
    """No step is driven by landmarks, and all draw the same number of rays."""
    if isinstance(module, HeadStage):
        module.landmark_driven = (0.0, 0.0)
    if isinstance(module, HeadModule):
        module.samples_per_step = None


@pytest.mark.parametrize(("name", "kind"), [("head", Head), ("torso", Torso), ("joint", Joint)])
def test_a_step_reads_nothing(
    name: str, kind: type[StageModule], subject: Subject, waits: None
) -> None:
    module = make_stage(name, kind, subject)
    by_audio(module)
    optimizer = module.configure_optimizers()["optimizer"]
    batch = make_batch(subject, 3, 24, None)
    step(module, optimizer, batch, "triton")
    with no_reads():
        step(module, optimizer, batch, "triton")


def test_reading_is_found(subject: Subject) -> None:
    module = make_stage("head", Head, subject)
    by_audio(module)
    optimizer = module.configure_optimizers()["optimizer"]
    batch = make_batch(subject, 3, 24, None)
    with pytest.raises((AssertionError, RuntimeError)), no_reads():
        step(module, optimizer, batch, "reference")


@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.parametrize("kind", [Head, Joint])
def test_capacity_to_spare_changes_nothing(
    backend: str, kind: type[StageModule], subject: Subject, waits: None
) -> None:
    """Loss, gradients and grid of the first step, which counts, and of one that knows enough."""
    kernels.set_backend(backend)
    batch = make_batch(subject, 3, 24, None)
    grid = subject.head.grid
    before, found = grid.value.clone(), []
    module = make_stage("head" if kind is Head else "joint", kind, subject)
    by_audio(module)
    for _ in range(2):
        grid.value.copy_(before)
        module.zero_grad()
        capacity = module.counts.capacity(batch)
        loss, _ = module.loss(batch)
        loss.backward()
        gradients = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
        found.append((capacity, loss.detach(), gradients, grid.value.clone()))
        torch.cuda.synchronize() if DEVICE.type == "cuda" else None
    (none, loss, gradients, values), (capacity, again, others, marked) = found
    n_rays, n_samples = module.counts._counts[False].latest()
    assert none is None and n_rays == 24
    assert capacity % rays.PIECE == 0 and capacity > n_samples > 0
    assert torch.allclose(loss, again, rtol=1e-5) and gradients.keys() == others.keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        limit = 1e-5 * largest + 1e-4 * float(gradient.abs().max())
        assert torch.allclose(others[name], gradient, rtol=1e-3, atol=limit), name
    outside = torch.zeros_like(values, dtype=torch.bool)
    outside.view(-1)[0] = True  # where samples of no length lie
    assert torch.allclose(values[~outside], marked[~outside], atol=1e-5)
    assert not torch.equal(values, before) or kind is Joint


def test_rays_without_capacity_are_as_if_they_were_not_drawn(subject: Subject) -> None:
    kernels.set_backend("reference")
    portrait, batch = subject.portrait, make_batch(subject, 3, 24, None)
    state = portrait.head_state(batch.conditioning)
    whole, samples = portrait.head.render(batch.rays, state)
    capacity = int(samples.offsets[13]) + 1  # the 14th ray has more than one sample
    some, kept = portrait.head.render(batch.rays, state, capacity=capacity)
    assert len(kept.t) == capacity and int(kept.offsets[-1]) == capacity - 1
    assert torch.allclose(some.rgb[:13], whole.rgb[:13], atol=1e-6)
    assert (some.alpha[13:] == 0).all() and (whole.alpha[13:] > 0).any()
    some.rgb[13:].sum().backward()
    table = subject.head.field.spatial.table.grad
    assert table is None or not table.any()


def test_the_torso_is_the_same_everywhere_or_where_needed(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels.set_backend("reference")
    portrait = subject.portrait
    batch = make_batch(subject, 3, 200, None)
    found: list[list[Tensor]] = []
    for waits in (False, True):
        monkeypatch.setattr(planar, "host_waits", lambda device, waits=waits: waits)
        portrait.zero_grad()
        state = portrait.torso_state(batch.conditioning)
        rgb, alpha = portrait.torso.render(batch.xy, batch.rays.frame, state)
        (rgb.square().sum() + alpha.sum()).backward()
        gradients = [p.grad for p in portrait.torso.parameters() if p.grad is not None]
        found.append([rgb, alpha, *gradients])
    assert (found[0][1] == 0).any() and (found[0][1] > 0).any()
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(a.detach().abs().max()))


def test_patches_get_more_capacity(subject: Subject, waits: None) -> None:
    kernels.set_backend("reference")
    module = make_stage("head", Head, subject)
    by_audio(module)
    plain = make_batch(subject, 3, 25, None)
    patch = replace(plain, patch=(5, 5))
    for batch in (plain, patch):
        assert module.counts.capacity(batch) is None
        _, samples = module.portrait.head.render(batch.rays, module.head_state(batch))
        for _ in range(400):  # as if the batch was so many times as large
            module.counts._counts[batch.patch is not None].put(
                len(batch.xy), 400 * samples.offsets[-1]
            )
    n = 400 * int(samples.offsets[-1])
    assert 1.25 * n <= module.counts.capacity(plain) < 1.25 * n + rays.PIECE
    assert 2 * n <= module.counts.capacity(patch) < 2 * n + rays.PIECE


def test_a_batch_without_samples_is_not_the_last(subject: Subject, waits: None) -> None:
    module = make_stage("head", Head, subject)
    batch = make_batch(subject, 3, 25, None)
    module.counts._counts[False].put(len(batch.xy), torch.tensor(0, device=DEVICE))
    torch.cuda.synchronize() if DEVICE.type == "cuda" else None
    assert module.counts.capacity(batch) == rays.PIECE


def test_counts_come_in_their_order() -> None:
    counts = LateCount()
    assert counts.latest() == (0, 0)
    counts.put(10, torch.tensor(70, device=DEVICE))
    counts.put(20, torch.tensor(90, device=DEVICE))
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    assert counts.latest() == counts.latest() == (20, 90)
