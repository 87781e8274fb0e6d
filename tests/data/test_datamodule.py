import mmap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from radnerf.audio import MelExtractor
from radnerf.conventions import HEAD
from radnerf.data.clip import Clip
from radnerf.data.datamodule import BLOCK_STEPS, ClipDataModule, FrameStream, Sampling
from radnerf.data.frames import FrameStore
from radnerf.data.sampling import RegionFractions
from radnerf.types import Batch


@pytest.fixture
def data(tiny_clip: Path) -> ClipDataModule:
    module = ClipDataModule(tiny_clip, MelExtractor())
    module.setup()
    return module


def test_frame_store_is_mapped_and_equals_the_files(tiny_clip: Path) -> None:
    clip = Clip.open(tiny_clip)
    store = FrameStore.open(clip)
    assert store.images.dtype == torch.uint8
    assert np.array_equal(store.images[5].numpy(), clip.image(5))
    assert np.array_equal(store.torso[5].numpy(), clip.torso(5))
    assert np.array_equal(store.labels[5].numpy(), clip.parsing(5))


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="this system has no madvise")
def test_reading_a_long_clip_leaves_little_of_it_in_memory(
    data: ClipDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (400, 256, 512, 3))
    frames[:] = 7
    frames.flush()
    del frames
    array = np.load(tmp_path / "a.npy", mmap_mode="c")
    data.frames.maps = [array]

    def resident_mb() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssFile"))

    monkeypatch.setattr("radnerf.data.datamodule.MAX_MAPPED_BYTES", 10 * 24 * 32 * 8)
    before = resident_mb()
    assert int(array.sum(dtype=np.int64)) == 7 * array.size
    assert resident_mb() > before + 100
    for _ in range(11):
        data.whole_frame(0)
    assert resident_mb() < before + 30
    assert int(array[399].sum()) == 7 * array[399].size


def test_long_clips_are_visited_in_blocks() -> None:
    stream = FrameStream(torch.ones(20), 8, seed=3, block=6)
    steps = iter(stream)
    drawn = [set[int]() for _ in range(4)]
    ahead = [set[int]() for _ in range(4)]
    for step in range(4 * BLOCK_STEPS):
        batch = next(steps)
        drawn[step // BLOCK_STEPS] |= set(batch["frame"].tolist())
        ahead[step // BLOCK_STEPS] |= set(batch["next"].tolist())
    assert [len(frames) for frames in drawn] == [5, 5, 5, 5]
    assert set().union(*drawn) == set(range(20))
    assert ahead[:3] == drawn[1:]
    resumed = iter(FrameStream(torch.ones(20), 8, seed=3, first_step=BLOCK_STEPS + 7, block=6))
    again = iter(FrameStream(torch.ones(20), 8, seed=3, block=6))
    for _ in range(BLOCK_STEPS + 7):
        next(again)
    assert torch.equal(next(resumed)["frame"], next(again)["frame"])


def test_frames_read_ahead_are_the_same_frames(data: ClipDataModule) -> None:
    before = data.frames.images[21].clone()
    data.frames.read_ahead([0, 21])
    data.frames.release()
    assert torch.equal(data.frames.images[21], before)


def test_cache_is_made_anew_when_an_image_changes(tiny_clip: Path) -> None:
    clip = Clip.open(tiny_clip)
    made: list[int] = []
    FrameStore.open(clip, lambda done, total: made.append(done))
    FrameStore.open(clip, lambda done, total: made.append(done))
    assert len(made) == len(clip)
    path = clip.path("gt_imgs", 4, "jpg")
    path.write_bytes(clip.path("gt_imgs", 5, "jpg").read_bytes())
    store = FrameStore.open(clip, lambda done, total: made.append(done))
    assert len(made) == 2 * len(clip)
    assert torch.equal(store.images[4], store.images[5])


def test_runs_that_start_at_once_write_the_cache_once(tiny_clip: Path) -> None:
    clip, made = Clip.open(tiny_clip), []

    def opened(_run: int) -> FrameStore:
        def slowly(done: int, total: int) -> None:
            time.sleep(0.01)
            made.append(done)

        return FrameStore.open(clip, slowly)

    with ThreadPoolExecutor(3) as runs:
        stores = list(runs.map(opened, range(3)))
    assert len(made) == len(clip)
    assert all(torch.equal(store.images, stores[0].images) for store in stores)


def test_a_new_cache_leaves_the_old_one_to_its_readers(tiny_clip: Path) -> None:
    clip = Clip.open(tiny_clip)
    old = FrameStore.open(clip)
    before = old.images.clone()
    old.release()
    clip.path("gt_imgs", 4, "jpg").write_bytes(clip.path("gt_imgs", 5, "jpg").read_bytes())
    new = FrameStore.open(clip)
    assert torch.equal(old.images, before) and not torch.equal(new.images, before)
    assert sorted(path.name for path in (clip.root / "cache").glob("part*")) == []


def test_whole_frame_is_the_frame(data: ClipDataModule) -> None:
    batch = data.whole_frame(21)
    image = torch.from_numpy(data.clip.image(21)).float() / 255
    assert torch.equal(batch.target.view(24, 32, 3), image)
    assert batch.conditioning.index.tolist() == [-1]
    assert batch.xy[0].tolist() == pytest.approx([1 / 32 - 1, 1 / 24 - 1])
    # The ray of pixel (12, 16) starts at the camera and looks at its centre.
    pixel = 12 * 32 + 16
    expected = torch.tensor([-0.5 / 80, -1.0, 0.5 / 80])
    assert torch.allclose(
        batch.rays.directions[pixel], torch.nn.functional.normalize(expected, dim=0), atol=1e-6
    )
    assert torch.allclose(batch.rays.origins[pixel], torch.tensor([0.0, 3.0, 0.05]), atol=1e-6)


def test_behind_is_the_torso_over_the_background(data: ClipDataModule) -> None:
    batch = data.whole_frame(0)
    behind = batch.behind.view(24, 32, 3)
    background = data.frames.background.float() / 255
    assert torch.allclose(behind[2, 2], background[2, 2])
    assert torch.allclose(behind[20, 10] * 255, torch.tensor([40.0, 60.0, 90.0]))


def test_shares_draw_where_they_say(data: ClipDataModule) -> None:
    frame = torch.tensor([3, 9])
    generator = torch.Generator().manual_seed(0)
    for name, rectangles in (("lips", data.frames.lips), ("eyes", data.frames.eyes)):
        fractions = RegionFractions(**{name: 1.0})
        slot, row, column = data.sampler.draw(frame, 400, fractions, generator)
        assert slot.bincount().tolist() == [200, 200]
        top, bottom, left, right = rectangles[frame][slot].unbind(-1)
        assert ((row >= top) & (row < bottom) & (column >= left) & (column < right)).all()
    slot, row, column = data.sampler.draw(frame, 400, RegionFractions(head=1.0), generator)
    grown = torch.nn.functional.max_pool2d(
        (data.frames.labels[:20] == HEAD).any(0).float()[None], 3, 1, 1
    )[0]
    assert grown[row, column].all()


def test_patches_are_squares_around_the_lips(data: ClipDataModule) -> None:
    data.use(Sampling(n_frames=2, patch_every=1))
    drawn = {"frame": torch.tensor([1, 2]), "step": torch.tensor(0), "next": torch.zeros(0)}
    batch = data.draw(drawn, 200)
    # The lips square of 8 px, 1.3 times as large, about the same centre.
    assert batch.patch == (10, 10) and len(batch.xy) == 200
    top, bottom, left, right = data.frames.lips[1].tolist()
    assert bottom - top == right - left == 8
    image = torch.from_numpy(data.clip.image(1)).float() / 255
    expected = image[top - 1 : top + 9, left - 1 : left + 9]
    assert torch.equal(batch.target[:100].view(10, 10, 3), expected)
    data.use(Sampling(n_frames=2, patch_every=1, max_patch_rays=150))
    assert len(data.draw(drawn, 200).xy) == 100


def test_the_next_step_is_drawn_ahead_where_the_host_would_wait(
    data: ClipDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cpu")
    fractions = RegionFractions(head=0.5, lips=0.5)
    data.use(Sampling(n_frames=4, n_rays=80, fractions=fractions, patch_every=3), first_step=5)
    steps = [drawn for _, drawn in zip(range(4), data.train_dataloader(), strict=False)]
    expected = [data.transfer_batch_to_device(drawn, device, 0) for drawn in steps]
    monkeypatch.setattr("radnerf.data.datamodule.host_waits", lambda device: True)
    threads, draw = [], data.draw

    def noted(batch: dict[str, Tensor], n_rays: int) -> Batch:
        threads.append(threading.current_thread() is threading.main_thread())
        return draw(batch, n_rays)

    monkeypatch.setattr(data, "draw", noted)
    for drawn, one in zip(steps, expected, strict=True):
        ahead = data.transfer_batch_to_device(drawn, device, 0)
        for name in ("xy", "target", "behind", "face"):
            assert torch.equal(getattr(ahead, name), getattr(one, name))
        assert torch.equal(ahead.conditioning.audio, one.conditioning.audio)
    data.use(Sampling(n_frames=4, n_rays=40, fractions=fractions), first_step=9)
    first = next(iter(data.train_dataloader()))
    assert len(data.transfer_batch_to_device(first, device, 0).xy) == 40
    data.n_rays = 16  # too late for the step that is drawn already, or soon will be
    second = data.stream.at(10)
    assert len(data.transfer_batch_to_device(second, device, 0).xy) == 40
    assert threads.count(True) == 2  # of each use() the first


def test_a_step_is_the_same_whenever_it_is_made() -> None:
    whole = iter(FrameStream(torch.ones(20), 4, seed=1))
    steps = [next(whole) for _ in range(6)]
    resumed = next(iter(FrameStream(torch.ones(20), 4, seed=1, first_step=5)))
    assert torch.equal(resumed["frame"], steps[5]["frame"]) and int(resumed["step"]) == 5
    assert len({tuple(step["frame"].tolist()) for step in steps}) > 1


def test_only_training_frames_are_drawn() -> None:
    stream = iter(FrameStream(torch.ones(3), 8, seed=0))
    frames = torch.cat([next(stream)["frame"] for _ in range(50)])
    assert sorted(set(frames.tolist())) == [0, 1, 2]
