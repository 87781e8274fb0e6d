"""Parts of the CPU's frames: tiles, samples and lookups, against the operators in plain torch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from radnerf.fields.encodings import GridEncoding
from radnerf.geometry.cameras import rays_through
from radnerf.kernels import numba_runtime
from radnerf.kernels.frame.cells import occupied_blocks, steps_to_occupied
from radnerf.kernels.frame.cpu import grid_arrays
from radnerf.kernels.frame.march import FAR, TILE, Space, cull, first_samples
from radnerf.kernels.lookup import encode_plane, encode_space
from radnerf.kernels.march import march
from radnerf.kernels.march.reference import ray_box
from radnerf.kernels.numba_runtime import run_threads, serial_loop, sources
from radnerf.kernels.workers import finish, next_task, phases, take, wait
from radnerf.load import cores

LOW, HIGH = np.float32([-0.5, -0.3, -0.4]), np.float32([0.5, 0.3, 0.4])
WIDTH, HEIGHT = 45, 37
FOCAL, CENTRE = 90.0, (22.0, 19.0)


@pytest.fixture
def occupied() -> np.ndarray:
    generator = np.random.default_rng(0)
    cells = generator.random((16, 12, 20)) < 0.02
    cells[0, 0, 0] = cells[-1, -1, -1] = True
    return cells


def space(occupied: np.ndarray, side: int = 4) -> Space:
    cell = (HIGH - LOW) / np.array(occupied.shape, np.float32)
    blocks = LOW + side * cell * occupied_blocks(occupied, side)
    empty = steps_to_occupied(occupied)
    near, step = np.float32(0.05), np.float32(0.03)
    return Space(LOW, HIGH, 1 / cell, empty, blocks, side * cell, near, step)


def pose(distance: float, turn: float = 0.0) -> Tensor:
    """Looks along -y from so far away, then turns aside."""
    matrix = torch.eye(4)
    matrix[:3, :3] = torch.tensor([[-1.0, 0, 0], [0, 0, -1], [0, -1, 0]])
    cos, sin = np.cos(turn), np.sin(turn)
    matrix[:3, :3] @= torch.tensor([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]).float()
    matrix[:3, 3] = torch.tensor([0.03, distance, -0.02])
    return matrix


def culled(where: Space, camera: Tensor) -> tuple[np.ndarray, np.ndarray]:
    n = -(-WIDTH // TILE) * -(-HEIGHT // TILE)
    nearest, farthest = np.zeros(n, np.float32), np.zeros(n, np.float32)
    lens = [np.float32(value) for value in (FOCAL, *CENTRE)]
    cull(where, camera[:3].numpy(), *lens, WIDTH, HEIGHT, nearest, farthest)
    return nearest, farthest


@pytest.mark.parametrize("camera", [pose(2.0), pose(0.8, 0.3), pose(2.0, 0.25), pose(0.2)])
def test_every_sample_lies_between_its_tiles_distances(
    occupied: np.ndarray, camera: Tensor
) -> None:
    where = space(occupied)
    nearest, farthest = culled(where, camera)
    pixel = torch.arange(WIDTH * HEIGHT)
    column, row = pixel % WIDTH, pixel // WIDTH
    uv = torch.stack([column, row], -1) + 0.5
    origins, directions = rays_through(camera[None], torch.zeros_like(pixel), uv, FOCAL, CENTRE)
    found = march(
        origins, directions, torch.from_numpy(occupied), torch.tensor(np.stack([LOW, HIGH])), 0.05,
        0.03, 64, backend="reference",
    )  # fmt: skip
    assert len(found.t) > 50
    tile = ((row // TILE) * -(-WIDTH // TILE) + column // TILE)[found.ray].numpy()
    assert (nearest[tile] <= found.t.numpy() + 1e-5).all()
    assert (farthest[tile] >= found.t.numpy() - 1e-5).all()


@pytest.mark.parametrize("camera", [pose(2.0), pose(0.8, 0.3), pose(0.2)])
def test_first_samples_are_those_of_marching(occupied: np.ndarray, camera: Tensor) -> None:
    where, frame = space(occupied), torch.zeros(WIDTH * HEIGHT, dtype=torch.long)
    column, row = torch.arange(len(frame)) % WIDTH, torch.arange(len(frame)) // WIDTH
    uv = torch.stack([column, row], -1) + 0.5
    origins, directions = rays_through(camera[None], frame, uv, FOCAL, CENTRE)
    box = torch.tensor(np.stack([LOW, HIGH]))
    found = march(origins, directions, torch.from_numpy(occupied), box, 0.05, 0.03, 64)
    first, last = ray_box(origins, directions, box, 0.05)
    rays = np.concatenate([directions.T.numpy(), np.stack([first.numpy(), last.numpy()])])
    pieces, cells = np.zeros((2, len(frame)), np.int32)
    first_samples(
        where, *origins[0].numpy(), rays, len(frame), np.float32(0), pieces, cells,
        np.zeros((3, len(frame)), np.float32),
    )  # fmt: skip
    hit = found.offsets.diff() > 0
    expected = torch.full_like(first, -1).masked_scatter(
        hit, found.t[found.offsets[:-1][hit]] - first[hit]
    )
    got = torch.from_numpy(np.where(pieces < 0, -1, (pieces + 0.5) * 0.03)).float()
    # But where a sample lies on a border between cells.
    assert ((got - expected).abs() < 1e-4).float().mean() > 0.995
    assert 0.02 < hit.float().mean() < 0.98


def test_tiles_without_anything_are_left_out(occupied: np.ndarray) -> None:
    nearest, _ = culled(space(occupied), pose(8.0))
    assert (nearest == FAR).mean() > 0.5
    nearest, _ = culled(space(np.zeros_like(occupied)), pose(2.0))
    assert (nearest == FAR).all()


def test_blocks_hold_all_cells() -> None:
    cells = np.zeros((7, 5, 9), bool)
    cells[6, 4, 8] = cells[0, 1, 4] = cells[1, 0, 5] = True
    assert occupied_blocks(cells, 4).tolist() == [[0, 0, 1], [1, 1, 2]]


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("n", [0, 1, 7, 300])
@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"kind": "hash"},
        {"drop_folded_axes": True},
        {"last_axis_first": True},
        {"n_levels": 1},
    ],
    ids=lambda kind: next(iter(kind), "tiled"),
)
def test_lookups(dim: int, n: int, kind: dict) -> None:
    settings = {"n_levels": 8, "finest_resolution": 512, "log2_table_size": 10} | kind
    encoding = GridEncoding(dim, n_features=2, base_resolution=4, **settings)
    with torch.no_grad():
        encoding.table.normal_()
    x = torch.rand(n, dim)
    x[:2] = torch.tensor([[0.0], [1.0]])[: len(x[:2])]  # the border's corners
    levels = settings["n_levels"]
    out = np.zeros((levels, max(n, 1)), np.uint32)
    rows, wide = np.zeros((8, max(n, 1)), np.uint32), np.zeros((4, max(n, 1)), np.uint64)
    encode = encode_plane if dim == 2 else encode_space
    encode(x.T.contiguous().numpy(), n, grid_arrays(encoding.tensors()), rows, wide, out, 0)
    # As rows of at least one point, for torch views nothing of an empty array.
    found = torch.from_numpy(out.T.copy().view(np.int32)).view(torch.bfloat16).float()[:n]
    with torch.no_grad():
        expected = encoding(x)
    assert found.shape == expected.shape
    assert n == 0 or (found - expected).abs().max() < 0.02 * expected.abs().max()


@serial_loop
def _count(worker, progress, taken, counts, total):  # type: ignore[no-untyped-def]
    wait_for_both(worker, progress)
    number = take(taken)
    while number < total:
        counts[worker, number] += 1
        number = take(taken)


@serial_loop
def wait_for_both(worker, progress):  # type: ignore[no-untyped-def]
    finish(progress, 0, 2)
    wait(progress, 0, 2)


@serial_loop
def _pass_on(worker, progress, values, delay):  # type: ignore[no-untyped-def]
    """A phase makes of the last one's number, of whichever worker, the next one."""
    for phase in range(len(progress)):
        while next_task(progress, phase) < 1:
            x = 1.0
            for _ in range(delay):  # longer than the others look without sleeping
                x = x * 0.5 + 1.0
            values[phase + 1] = values[phase] + (x > 0.0)
            finish(progress, phase, 1)
        wait(progress, phase, 1)


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@pytest.mark.skipif(cores() == 1, reason="one core")
def test_workers_share_everything_and_nothing_twice() -> None:
    total, both_took_some = 2_000_000, False
    for _ in range(20):  # nobody waits for a thread that has not begun, so one may do it all
        counts = np.zeros((2, total), np.int64)
        run_threads(_count, phases(1), np.zeros(1, np.int64), counts, total)
        assert (counts.sum(0) == 1).all()
        both_took_some |= bool(counts.any(1).all())
    assert both_took_some


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize(("turns", "delay"), [(1000, 0), (20, 1_000_000)])
def test_phases_follow_each_other(turns: int, delay: int) -> None:
    values = np.zeros(turns + 1, np.int64)
    run_threads(_pass_on, phases(turns), values, delay)
    assert (values == np.arange(turns + 1)).all()


@pytest.mark.usefixtures("_threads")
def test_nobody_waits_for_a_thread_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ThreadPoolExecutor(1)
    away = threading.Event()
    asleep = pool.submit(away.wait)
    monkeypatch.setattr(numba_runtime, "_thread_pool", lambda process: pool)
    values = np.zeros(101, np.int64)
    try:
        run_threads(_pass_on, phases(100), values, 0)
        assert (values == np.arange(101)).all() and not asleep.done()
    finally:
        away.set()


@pytest.mark.usefixtures("_threads")
def test_what_goes_wrong_in_a_worker_is_told() -> None:
    with pytest.raises(TypeError):
        run_threads(_pass_on, "no array")


def test_what_was_compiled_is_compiled_anew_for_other_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loops are of one file, what they call is of others."""
    finish(phases(1), 0, 1)
    kept = finish._cache._cache_file
    assert "pairs.py" in dict(entry[:2] for entry in sources()) and kept._load_index()
    monkeypatch.setattr(kept, "_source_stamp", sources()[1:])
    assert not kept._load_index()
