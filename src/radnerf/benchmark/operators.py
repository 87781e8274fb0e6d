"""Every operator on every back end: first whether it is right, then how fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from radnerf.benchmark.timing import measure
from radnerf.kernels.composite import composite
from radnerf.kernels.dispatch import BACKENDS, lacks
from radnerf.kernels.encodings import frequency_encode, sh_encode
from radnerf.kernels.grid_encode import GridLevels, grid_encode
from radnerf.kernels.march import march
from radnerf.kernels.mlp import mlp
from radnerf.types import Samples

Values = float | int | str | None


@dataclass
class Case:
    """An operator with inputs.

    Attributes:
        run: takes the inputs and the name of a back end.
        limit: largest error, relative to a tensor's own size, that is still right.
        gigaflop: of the forward pass; backward takes twice as much more.
        table_reads: of the forward pass.
    """

    op: str
    run: Callable[..., Tensor | Sequence[Tensor]]
    inputs: list[Tensor]
    limit: float = 1e-3
    gigaflop: float = 0.0
    table_reads: int = 0
    with_gradients: bool = True


def cases(n: int, device: torch.device) -> dict[str, Case]:
    """The operators of a head, at its sizes, on n points."""
    generator = torch.Generator(device).manual_seed(0)
    rand = partial(torch.rand, generator=generator, device=device)
    randn = partial(torch.randn, generator=generator, device=device)
    unit = torch.nn.functional.normalize(randn(n, 3), dim=1)
    found = {
        "frequency_encode": Case(
            "encodings", lambda x, backend: frequency_encode(x, 10, backend), [rand(n, 2)]
        ),
        "sh_encode": Case("encodings", lambda x, backend: sh_encode(x, 4, backend), [unit]),
    }
    for dim in (2, 3):
        levels = GridLevels(dim=dim)
        found[f"grid_encode_{dim}d"] = Case(
            "grid_encode",
            lambda x, table, backend, levels=levels: grid_encode(x, table, levels, backend),
            [rand(n, dim), randn(levels.n_entries, 2)],
            table_reads=n * levels.n_levels * 2**dim,
        )
    sizes = (64, 64, 64, 65)
    weights = [randn(o, i) / i**0.5 for i, o in pairwise(sizes)]
    macs = sum(weight.numel() for weight in weights)
    found["mlp"] = Case(
        "mlp",
        lambda x, *w, backend: mlp(x, w, backend),
        [randn(n, 64), *weights],
        limit=3e-2,  # 8 bits of mantissa
        gigaflop=2e-9 * n * macs,
    )
    origins = 3 * unit
    directions = torch.nn.functional.normalize(-unit + 0.15 * randn(n, 3), dim=1)
    box = torch.tensor([[-1.0, -0.5, -1.0], [1.0, 0.5, 1.0]], device=device)
    occupied = rand(64, 64, 64) < 0.1

    def walk(backend: str) -> list[Tensor]:
        samples = march(origins, directions, occupied, box, 0.05, 0.02, 64, None, backend)
        return [samples.t, samples.offsets.float()]

    found["march"] = Case("march", walk, [], with_gradients=False)
    per_ray = 4
    rays = n // per_ray
    samples = Samples(
        t=torch.arange(per_ray, device=device).float().repeat(rays),
        dt=torch.full((rays * per_ray,), 0.02, device=device),
        ray=torch.arange(rays, device=device).repeat_interleave(per_ray),
        offsets=torch.arange(rays + 1, device=device) * per_ray,
    )
    found["composite"] = Case(
        "composite",
        lambda density, rgb, backend: composite(density, rgb, samples, 1e-4, backend),
        [40 * rand(rays * per_ray), rand(rays * per_ray, 4)],
    )
    return found


def error_of(case: Case, backend: str) -> float:
    """Largest error of values and gradients against the reference: norm by norm, tensor by tensor.

    In 16 bits a hidden unit near zero falls to the other side now and then, so that single numbers
    may differ by much.
    """
    got, expected = (evaluate(case, name) for name in (backend, "reference"))
    if any(a.shape != b.shape for a, b in zip(got, expected, strict=True)):
        return float("inf")
    errors = [
        float((a - b).norm()) / max(float(b.norm()), 1e-6) if b.numel() else 0.0
        for a, b in zip(got, expected, strict=True)
    ]
    return max(e if e == e else float("inf") for e in errors)


def evaluate(case: Case, backend: str) -> list[Tensor]:
    """Outputs, then the gradients of all inputs."""
    leaves = [value.clone().requires_grad_(case.with_gradients) for value in case.inputs]
    outputs = case.run(*leaves, backend=backend)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    if not case.with_gradients:
        return outputs
    generator = torch.Generator(outputs[0].device).manual_seed(1)
    upstream = [torch.randn(o.shape, generator=generator, device=o.device) for o in outputs]
    torch.autograd.backward(outputs, upstream)
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    return [output.detach() for output in outputs] + gradients


def benchmark_operators(
    n: int, device: torch.device, seconds: float, ceiling: dict[str, float]
) -> dict[str, Values]:
    """Parity and milliseconds of every operator and back end; no speed for one that is wrong."""
    report: dict[str, Values] = {}
    for name, case in cases(n, device).items():
        calls: dict[str, Callable[[], object]] = {}
        for backend in BACKENDS:
            key = f"parity.{name}.{backend}"
            reason = lacks(case.op, backend, tuple(case.inputs))
            if reason is not None:
                report |= {key: None, f"{key}.reason": reason}
                continue
            report[key] = error = error_of(case, backend)
            if error > case.limit:
                report[f"{key}.reason"] = f"above {case.limit}: no speed is given"
                continue
            calls[f"{backend}.forward"] = partial(forward, case, backend)
            if case.with_gradients:
                calls[f"{backend}.both"] = partial(evaluate, case, backend)
        times = measure(calls, seconds)
        for call, timing in times.items():
            backend, _, what = call.partition(".")
            prefix = f"operator.{name}.{backend}.{what}"
            report[f"{prefix}_ms"] = timing.median
            if backend != "reference" and f"reference.{what}" in times:
                ratio = times[f"reference.{what}"].median / timing.median
                report[f"{prefix}_ratio_to_reference"] = ratio
            if what == "forward":
                report |= share_of_ceiling(prefix, case, timing.median, ceiling)
    return report


@torch.no_grad()
def forward(case: Case, backend: str) -> object:
    return case.run(*case.inputs, backend=backend)


def share_of_ceiling(
    prefix: str, case: Case, ms: float, ceiling: dict[str, float]
) -> dict[str, Values]:
    """How near an operator comes to what the machine can do at most."""
    if case.gigaflop:
        best = max(rate for name, rate in ceiling.items() if "gflops" in name)
        return {f"{prefix}_ratio_to_ceiling": case.gigaflop / ms * 1e3 / best}
    if case.table_reads:
        reads = ceiling["ceiling.table_reads_millions_per_s"]
        return {f"{prefix}_ratio_to_ceiling": case.table_reads / ms / 1e3 / reads}
    return {}
