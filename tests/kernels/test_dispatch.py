import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from radnerf import kernels
from radnerf.errors import UserError
from radnerf.kernels import KernelUnavailable, dispatch
from radnerf.kernels.encodings import sh_encode
from radnerf.kernels.grid_encode import GridLevels, grid_encode
from radnerf.kernels.tensors import GridTensors

OPS = ["grid_encode", "march", "composite", "ray_sums", "occupancy", "mlp", "encodings"]
DIRECTIONS = torch.tensor([[0.0, 0.6, 0.8]])


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    kernels.set_backend("auto")


@pytest.mark.parametrize("op", OPS)
def test_every_operator_has_a_reference_and_a_cpu_back_end(op: str) -> None:
    names = kernels.available(op)
    assert names[-2:] == ["cpu", "reference"]


def test_an_unknown_name_is_the_users_error() -> None:
    with pytest.raises(UserError, match="'fast': choose auto, triton, cpu, reference"):
        kernels.set_backend("fast")
    with pytest.raises(UserError, match="'numba'"):
        sh_encode(DIRECTIONS, backend="numba")
    assert kernels.get_backend() == "auto"


def test_a_named_back_end_says_why_it_cannot_take_a_call() -> None:
    with pytest.raises(KernelUnavailable, match=r"encodings/cpu: a tensor is torch.float64"):
        sh_encode(DIRECTIONS.double(), backend="cpu")
    kernels.set_backend("cpu")
    with pytest.raises(KernelUnavailable, match="float16"):
        sh_encode(DIRECTIONS.half())


def test_structures_are_looked_into() -> None:
    levels = GridLevels(n_levels=1, log2_table_size=4)
    grid = GridTensors(torch.zeros(levels.n_entries, 2), levels)
    assert dispatch.unsupported_reason("encodings", "cpu", grid) is None
    double = GridTensors(grid.table.double(), levels)
    reason = dispatch.unsupported_reason("encodings", "cpu", DIRECTIONS, double)
    assert reason == "a tensor is torch.float64, not torch.float32"
    nothing = dispatch.Unsupported("the head is a billboard")
    assert dispatch.unsupported_reason("shade", "cpu", nothing) == "the head is a billboard"


def test_what_other_operators_can_do_is_left_to_them_once_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_logged", set())
    caplog.set_level(logging.INFO, logger="radnerf.kernels.dispatch")
    billboard = dispatch.Unsupported("the head is a billboard")
    for _ in range(2):
        assert dispatch.pick_if_any("shade", billboard) is None
    assert caplog.messages == [
        "kernels: shade runs operator by operator (cpu: the head is a billboard)"
    ]
    kernels.set_backend("cpu")
    with pytest.raises(KernelUnavailable, match="shade/cpu: the head is a billboard"):
        dispatch.pick("shade", None, billboard)


def test_a_missing_package_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> object:
        return None if name == "numba" else object()

    monkeypatch.setattr(dispatch, "find_spec", find)
    with pytest.raises(KernelUnavailable, match="encodings/cpu: numba is not installed"):
        sh_encode(DIRECTIONS, backend="cpu")
    assert "cpu" not in kernels.available("encodings")


def test_auto_takes_what_accepts_the_tensors_and_says_so_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_logged", set())
    caplog.set_level(logging.INFO, logger="radnerf.kernels.dispatch")
    for _ in range(2):
        sh_encode(DIRECTIONS)
        sh_encode(DIRECTIONS.double())
    assert caplog.messages == [
        "kernels: encodings runs on cpu",
        "kernels: encodings runs on reference",
    ]


def test_auto_never_takes_tritons_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(dispatch, "find_spec", lambda name: object())
    assert "triton" in kernels.available("encodings")
    assert dispatch.pick("encodings", None, DIRECTIONS).__name__.endswith("encodings.cpu")
    assert dispatch.unsupported_reason("encodings", "triton", DIRECTIONS) is None


def test_triton_says_why_it_cannot_take_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "triton" not in kernels.available("encodings")
    with pytest.raises(KernelUnavailable, match="encodings/triton: no CUDA device"):
        sh_encode(DIRECTIONS, backend="triton")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(KernelUnavailable, match="encodings/triton: a tensor is on cpu"):
        sh_encode(DIRECTIONS, backend="triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(KernelUnavailable, match=r"encodings/triton: a tensor is torch.float64"):
        sh_encode(DIRECTIONS.double(), backend="triton")


def test_the_choice_applies_until_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def reason(op: str, name: str, *given: object) -> None:
        asked.append(name)

    monkeypatch.setattr(dispatch, "unsupported_reason", reason)
    kernels.set_backend("reference")
    sh_encode(DIRECTIONS)
    sh_encode(DIRECTIONS, backend="cpu")
    assert asked == ["reference", "cpu"]


def test_import_loads_no_compiler() -> None:
    code = (
        "import sys, radnerf.kernels.grid_encode, radnerf.kernels.march, radnerf.kernels.mlp,"
        " radnerf.kernels.composite, radnerf.kernels.encodings;"
        "print('numba' in sys.modules, 'triton' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]


def test_loops_run_where_their_cache_cannot_be_written() -> None:
    """A read-only package and a user without a folder of their own."""
    code = """
import numba.core.dispatcher, torch
def nowhere(function):
    raise RuntimeError("cannot cache function: no locator available")
numba.core.dispatcher.FunctionCache = nowhere
from radnerf.kernels.encodings import sh_encode
print(sh_encode(torch.eye(3), backend="cpu").shape)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "torch.Size([3, 16])" in said.stdout, said.stderr


def test_torch_keeps_its_number_of_threads() -> None:
    code = """
import torch
torch.set_num_threads(1)
from radnerf.kernels.encodings import sh_encode
sh_encode(torch.eye(3), backend="cpu")
print(torch.get_num_threads())
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1"]


def test_loops_leave_openmp_without_nested_regions() -> None:
    code = """
import ctypes, numba, torch
from radnerf.kernels.encodings import sh_encode
sh_encode(torch.eye(3), backend="cpu")
if numba.threading_layer() == "omp":
    print(ctypes.CDLL(None).omp_get_max_active_levels())
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if not said.stdout:
        pytest.skip("Numba's loops do not run in OpenMP threads here")
    assert said.stdout.split() == ["1"]


def test_python_threads_may_call_at_the_same_time() -> None:
    levels = GridLevels(n_levels=4, finest_resolution=64, log2_table_size=10)
    table = torch.randn(levels.n_entries, 2)
    inputs = [torch.rand(3000, 3) for _ in range(4)]
    expected = [grid_encode(x, table, levels, "cpu") for x in inputs]
    results: dict[int, list[torch.Tensor]] = {}

    def work(i: int) -> None:
        results[i] = [grid_encode(inputs[i], table, levels, "cpu") for _ in range(20)]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i in range(4):
        assert all(torch.equal(result, expected[i]) for result in results[i])
