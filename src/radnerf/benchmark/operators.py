"""Every operator on every back end: first whether it is right, then how fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from radnerf.benchmark.ceilings import COPY, MATMULS, READS
from radnerf.benchmark.report import FAILED, Report, Values, refuse
from radnerf.benchmark.timing import measure
from radnerf.kernels.composite import composite
from radnerf.kernels.dispatch import AUTO, BACKENDS, triton_interprets, unsupported_reason
from radnerf.kernels.encodings import frequency_encode, sh_encode
from radnerf.kernels.grid_encode import GridLevels, grid_encode
from radnerf.kernels.march import march
from radnerf.kernels.mlp import mlp
from radnerf.kernels.occupancy import raise_cells
from radnerf.kernels.ray_sums import sums_before
from radnerf.types import Samples

REFERENCE = "reference"


@dataclass
class Case:
    """An operator with inputs.

    Attributes:
        op: folder of the operator in radnerf.kernels.
        run: takes the inputs and the name of a back end.
        limit: largest error, relative to a tensor's largest value, that is still right.
        gigaflop: of the forward pass; backward takes twice as much.
        million_reads: of table rows, forward and backward alike.
    """

    op: str
    run: Callable[..., Tensor | Sequence[Tensor]]
    inputs: list[Tensor]
    limit: float = 1e-3
    gigaflop: float = 0.0
    million_reads: float = 0.0
    with_gradients: bool = True

    def outputs(self, inputs: Sequence[Tensor], backend: str) -> list[Tensor]:
        found = self.run(*inputs, backend=backend)
        return [found] if isinstance(found, Tensor) else list(found)

    def leaves(self) -> list[Tensor]:
        return [value.clone().requires_grad_(self.with_gradients) for value in self.inputs]

    def least_seconds(self, ceiling: Mapping[str, Values], backward: bool) -> float:
        """Seconds of a pass that ran at the machine's ceiling."""

        def rate(*names: str) -> float:
            return max(float(ceiling.get(name) or 0) for name in names)

        if self.gigaflop:
            return self.gigaflop * (1 + backward) / rate(*MATMULS)
        if self.million_reads:
            return self.million_reads / rate(READS)
        # Nothing but memory: what goes in and comes out, and the gradients of both.
        passed = [*self.inputs, *self.outputs(self.inputs, REFERENCE)]
        size = sum(value.numel() * value.element_size() for value in passed)
        return 1e-9 * size * (1 + backward) / rate(COPY)


def cases(n: int, device: torch.device) -> dict[str, Case]:
    """The operators of a head, at its sizes, on n points."""
    generator = torch.Generator(device).manual_seed(0)
    rand = partial(torch.rand, generator=generator, device=device)
    randn = partial(torch.randn, generator=generator, device=device)
    unit = torch.nn.functional.normalize(randn(n, 3), dim=1)
    found = {}
    for dim in (3, 2):
        levels = GridLevels(dim=dim)
        found[f"grid_encode_{dim}d"] = Case(
            "grid_encode",
            lambda x, table, backend, levels=levels: grid_encode(x, table, levels, backend),
            [rand(n, dim), randn(levels.n_entries, 2)],
            # Corners that differ along the first axis lie side by side: one read fetches both.
            million_reads=1e-6 * n * levels.n_levels * 2 ** (dim - 1),
        )
    found["frequency_encode"] = Case(
        "encodings", lambda x, backend: frequency_encode(x, 10, backend), [2 * rand(n, 2) - 1]
    )
    found["sh_encode"] = Case("encodings", lambda x, backend: sh_encode(x, 4, backend), [unit])

    origins = 3 * unit
    directions = torch.nn.functional.normalize(-unit + 0.15 * randn(n, 3), dim=1)
    box = torch.tensor([[-1.0, -0.5, -1.0], [1.0, 0.5, 1.0]], device=device)
    occupied = rand(64, 64, 64) < 0.1

    def walk(origins: Tensor, directions: Tensor, backend: str) -> list[Tensor]:
        met = march(origins, directions, occupied, box, 0.05, 0.02, 64, backend=backend)
        return [met.t, met.offsets.double(), met.cell.double()]

    found["march"] = Case("march", walk, [origins, directions], with_gradients=False)

    samples = _even_samples(n, 4, device)
    found["composite"] = Case(
        "composite",
        lambda density, rgb, backend: composite(density, rgb, samples, 1e-4, backend),
        [40 * rand(len(samples.t)), rand(len(samples.t), 4)],
    )
    found["ray_sums"] = Case(
        "ray_sums",
        lambda values, backend: sums_before(values, samples, backend),
        [rand(len(samples.t))],
    )
    cell = torch.randint(1 << 18, (n,), generator=generator, device=device)

    def raised(value: Tensor, weight: Tensor, backend: str) -> Tensor:
        value = value.clone()
        raise_cells(value, cell, weight, weight < 0.5, 0.9, backend)
        return value

    found["occupancy"] = Case("occupancy", raised, [rand(1 << 18), rand(n)], with_gradients=False)
    widths = (64, 64, 64, 65)
    # Inputs above zero and rows of one sign: every hidden unit is clearly on or clearly off. One
    # that 16 bits push over the edge would change single gradients by half their size.
    signs = [(randn(width, 1) > 0) * 2.0 - 1 for width in widths[1:]]
    weights = [
        sign * rand(after, before) / before
        for sign, (before, after) in zip(signs, pairwise(widths), strict=True)
    ]
    found["mlp"] = Case(
        "mlp",
        lambda x, *weights, backend: mlp(x, weights, backend),
        [rand(n, widths[0]), *weights],
        limit=2e-2,  # 8 bits of mantissa, several roundings in a row
        gigaflop=2e-9 * n * sum(weight.numel() for weight in weights),
    )
    return found


def _even_samples(n: int, per_ray: int, device: torch.device) -> Samples:
    """About n samples, as many on every ray."""
    rays = max(1, n // per_ray)
    return Samples(
        t=torch.arange(per_ray, device=device).float().repeat(rays),
        dt=torch.full((rays * per_ray,), 0.02, device=device),
        ray=torch.arange(rays, device=device).repeat_interleave(per_ray),
        offsets=torch.arange(rays + 1, device=device) * per_ray,
        cell=torch.zeros(rays * per_ray, dtype=torch.long, device=device),
    )


def benchmark_operators(
    n: int,
    device: torch.device,
    seconds: float,
    ceiling: Mapping[str, Values],
    backend: str = AUTO,
) -> Report:
    """Parity and milliseconds of every operator and back end; no speed for one that is wrong.

    Args:
        n: points.
        seconds: of each operator.
        backend: the one to compare with the reference; auto for all.
    """
    report: Report = {}
    for name, case in cases(n, device).items():
        right = [REFERENCE]
        for candidate in BACKENDS:
            if candidate == REFERENCE:
                continue
            # As elsewhere, auto never means Triton's interpreter.
            by_auto = backend == AUTO and not (candidate == "triton" and triton_interprets())
            checked = _parity(name, case, candidate, asked=by_auto or backend == candidate)
            report |= checked
            if f"parity.{name}.{candidate}.reason" not in checked:
                right.append(candidate)
        report |= _speeds(name, case, right, seconds, ceiling)
    return report


def _parity(name: str, case: Case, backend: str, asked: bool) -> Report:
    key, speed = f"parity.{name}.{backend}", f"operator.{name}.{backend}.forward_ms"
    reason = unsupported_reason(case.op, backend, *case.inputs) if asked else "not asked for"
    if reason is not None:
        return refuse(reason, key)
    error = error_of(case, backend)
    if error <= case.limit:
        return {key: error}
    reason = f"{FAILED}: {error:.2g} is above {case.limit:g}"
    return {**refuse(reason, speed), key: error, f"{key}.reason": reason}


def error_of(case: Case, backend: str) -> float:
    """Largest error of values and gradients, relative to the reference's largest value.

    It is infinite where the shapes differ, or something is no number.
    """
    got, expected = (evaluate(case, name) for name in (backend, REFERENCE))
    worst = 0.0
    for a, b in zip(got, expected, strict=True):
        if a.shape != b.shape or not a.isfinite().all():
            return float("inf")
        if b.numel():
            scale = max(float(b.abs().max()), 1e-6)
            worst = max(worst, float((a - b).abs().max()) / scale)
    return worst


def evaluate(case: Case, backend: str) -> list[Tensor]:
    """Outputs, then the gradients of all inputs."""
    leaves = case.leaves()
    outputs = case.outputs(leaves, backend)
    gradients = _gradients(leaves, outputs)() if case.with_gradients else ()
    return [value.detach() for value in (*outputs, *gradients)]


def _gradients(leaves: Sequence[Tensor], outputs: Sequence[Tensor]) -> Callable[[], Any]:
    """The backward pass, which may be run again and again."""
    generator = torch.Generator(outputs[0].device).manual_seed(1)
    upstream = [torch.randn(o.shape, generator=generator, device=o.device) for o in outputs]
    return partial(torch.autograd.grad, outputs, leaves, upstream, retain_graph=True)


def _speeds(
    name: str, case: Case, backends: Sequence[str], seconds: float, ceiling: Mapping[str, Values]
) -> Report:
    report: Report = {}
    forward = torch.no_grad()(case.outputs)
    passes: dict[str, dict[str, Callable[[], object]]] = {
        "forward": {name: partial(forward, case.inputs, name) for name in backends}
    }
    if case.with_gradients:
        passes["backward"] = {}
        for backend in backends:
            leaves = case.leaves()
            passes["backward"][backend] = _gradients(leaves, case.outputs(leaves, backend))
    for what, calls in passes.items():
        times = measure(calls, seconds / len(passes))
        least = 1e3 * case.least_seconds(ceiling, what == "backward")
        for backend in backends:
            prefix, ms = f"operator.{name}.{backend}.{what}", times[backend].median
            report[f"{prefix}_ms"] = ms
            report[f"{prefix}_ratio_to_reference"] = times[REFERENCE].median / ms
            report[f"{prefix}_ratio_to_ceiling"] = least / ms
    return report
