"""Lightning data module of a preprocessed clip: frame numbers travel, pixels are drawn on arrival.

The loader yields only frame numbers and a seed; rays and colors are gathered from the 8-bit frame
store when a step needs them, so that memory does not grow with the length of the clip.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from radnerf.audio import (
    Extractor,
    FeatureFile,
    MouthBasis,
    attention_windows,
    clip_features,
    load_audio,
    measure_audio_offset,
)
from radnerf.conventions import HEAD
from radnerf.data.clip import Clip
from radnerf.data.frames import BYTES_PER_PIXEL, FrameStore
from radnerf.data.sampling import PixelSampler, RegionFractions
from radnerf.geometry.cameras import rays_through
from radnerf.geometry.eyes import blink_odds, eye_opening, eye_range
from radnerf.geometry.face68 import mouth_opening
from radnerf.geometry.rotations import head_pose_vector
from radnerf.geometry.shell import triangulate
from radnerf.runtime import ranks
from radnerf.runtime.devices import host_waits
from radnerf.types import Batch, Conditioning, Rays, of_each, to_device

log = logging.getLogger(__name__)

# Of the mapped frames, at most so much may lie in memory because it was read.
MAX_MAPPED_BYTES = 1 << 31
# A clip of more than WHOLE_BYTES need not fit into memory: it is visited in blocks of frames.
WHOLE_BYTES, BLOCK_BYTES, BLOCK_STEPS = 1 << 32, 1 << 30, 200


@dataclass(frozen=True)
class Sampling:
    """How a stage draws its batches."""

    n_frames: int = 4
    n_rays: int = 8192
    n_first_rays: int = 0  # at the first step, when a stage adapts the number; 0 is n_rays
    blink_fraction: float = 0.0  # of the frames drawn that blink, see blink_odds
    fractions: RegionFractions = field(default_factory=lambda: RegionFractions(head=1.0))
    patch_every: int = 0  # every so many steps the rays are square patches around the lips
    patch_scale: float = 1.3  # side of the patch in sides of the lips rectangle
    max_patch_rays: int = 65536  # a step with patches looks at fewer frames rather than at more


class FrameStream(IterableDataset):
    """Endless (step, frame numbers), a function of the seed alone and so the same on resuming.

    Args:
        odds: of each training frame.
        n_frames: of a step.
        block: steps in a row draw from only so many frames (0: from all), which differ from one
            block of steps to the next until all had their turn; `next` has a part of the next
            block's frames, so that they can be read ahead.
    """

    def __init__(
        self,
        odds: Float[Tensor, " t"],
        n_frames: int,
        seed: int,
        first_step: int = 0,
        block: int = 0,
    ) -> None:
        self.odds = odds
        self.n_frames = n_frames
        self.seed = seed
        self.first_step = first_step
        self.block = block if 0 < block < len(odds) else 0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return map(self.at, itertools.count(self.first_step))

    def at(self, step: int) -> dict[str, Tensor]:
        """What is looked at in a step."""
        odds, ahead = self.odds, torch.zeros(0, dtype=torch.long)
        if self.block:
            number, place = divmod(step, BLOCK_STEPS)
            odds = torch.zeros_like(odds).index_copy_(
                0, self.frames_of(number), odds[self.frames_of(number)]
            )
            ahead = self.frames_of(number + 1).tensor_split(BLOCK_STEPS)[place]
        generator = torch.Generator().manual_seed(hash((self.seed, step)) & 0x7FFFFFFF)
        frame = torch.multinomial(odds, self.n_frames, True, generator=generator)
        return {"step": torch.tensor(step), "frame": frame, "next": ahead}

    def frames_of(self, number: int) -> Int[Tensor, " block"]:
        """The frames of a block of steps."""
        blocks = -(-len(self.odds) // self.block)
        turn, part = divmod(number, blocks)
        generator = torch.Generator().manual_seed(hash((self.seed, turn, 2)) & 0x7FFFFFFF)
        order = torch.randperm(len(self.odds), generator=generator)
        return order[part * len(order) // blocks : (part + 1) * len(order) // blocks]


class ClipDataModule(pl.LightningDataModule):
    """Batches of rays from a clip folder.

    Processes that train together draw the same pixels of a step and take equal parts of them.

    After setup, `audio_offset` is how many seconds the clip's mouth moves ahead of its sound: the
    audio windows are centred by it. `mouth` holds the mouth shape of every frame as coefficients,
    and `eye` the opening of the eyes, 0 shut and 1 open.

    Args:
        root: the clip folder (see data/clip.py).
        extractor: audio feature extractor; its features are cached in the clip folder.
    """

    def __init__(
        self,
        root: str | Path,
        extractor: Extractor,
        seed: int = 0,
        report: Callable[[int, int], None] | None = None,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.extractor = extractor
        self.seed = seed
        self.report = report
        self.sampling = Sampling()
        self.first_step = 0
        self.n_rays = self.sampling.n_rays
        self._ready = False
        self._read_bytes = 0
        self._drawer = ThreadPoolExecutor(1, "radnerf-draw")
        self._ahead: dict[int, Future[Batch]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Open the clip once; later calls do nothing."""
        if self._ready:
            return
        self.clip = Clip.open(self.root)
        self.frames = FrameStore.open(self.clip, self.report)
        for note in self.clip.notes if ranks.rank() == 0 else ():
            log.warning(note)
        audio_ids, fps = self.clip.audio_ids, self.clip.fps
        n_audio, order = int(audio_ids.max()) + 1, np.argsort(audio_ids)
        landmarks = self.frames.landmarks.numpy()
        opening = np.interp(np.arange(n_audio), audio_ids[order], mouth_opening(landmarks)[order])
        self.audio_offset = measure_audio_offset(opening, load_audio(self.root / "aud.wav"), fps)
        if isinstance(self.extractor, FeatureFile):
            self.extractor = self.extractor.found(self.root)
        self.audio = torch.from_numpy(
            clip_features(self.root, self.extractor, n_audio, fps, self.audio_offset)
        )
        basis = MouthBasis.fit(landmarks[: self.clip.n_train])
        self.mouth = torch.from_numpy(basis.coefficients(landmarks))
        self.mouth_opening = torch.from_numpy(mouth_opening(landmarks))
        self.audio_ids = torch.from_numpy(audio_ids)
        self.poses = torch.from_numpy(self.clip.poses)
        self.pose_vectors = head_pose_vector(self.poses.double()).float()
        self.eye_range = eye_range(self.clip.eye[: self.clip.n_train])
        self.eye = eye_opening(torch.from_numpy(self.clip.eye), self.eye_range)
        self.sampler = PixelSampler(self.frames, self.clip.n_train)
        lips = self.frames.lips[: self.clip.n_train]
        self.lips_side = int((lips[:, 1] - lips[:, 0]).float().median())
        self.frames.release()
        self._ready = True

    def use(self, sampling: Sampling, first_step: int = 0) -> None:
        """Choose how the next stage draws its batches, and the step it starts at."""
        self.sampling = sampling
        self.n_rays = sampling.n_first_rays or sampling.n_rays
        self.first_step = first_step
        self._ahead.clear()

    def state_dict(self) -> dict[str, int]:
        return {"n_rays": self.n_rays}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.n_rays = state_dict["n_rays"]

    def train_dataloader(self) -> DataLoader:
        eye = self.clip.eye[: self.clip.n_train]
        blinks = blink_odds(eye, self.eye_range, self.sampling.blink_fraction)
        odds = torch.from_numpy(blinks).float()
        height, width = self.clip.size
        size = height * width * BYTES_PER_PIXEL
        block = BLOCK_BYTES // size if len(self.clip) * size > WHOLE_BYTES else 0
        sampling = self.sampling
        self.stream = FrameStream(odds, sampling.n_frames, self.seed, self.first_step, block)
        return DataLoader(self.stream, batch_size=None, num_workers=0)

    def transfer_batch_to_device(
        self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int
    ) -> Batch:
        """The step's pixels on the device; while that is busy, the next step's are drawn."""
        n_rays = self.n_rays  # of now, which all processes agree on
        if not host_waits(device):
            return to_device(self.draw(batch, n_rays), device)
        step = int(batch["step"])
        ahead = self._ahead.pop(step, None)
        drawn = ahead.result() if ahead else self._pinned(batch, n_rays)
        self._ahead[step + 1] = self._drawer.submit(
            lambda: self._pinned(self.stream.at(step + 1), n_rays)
        )
        return to_device(drawn, device, non_blocking=True)

    def _pinned(self, step: dict[str, Tensor], n_rays: int) -> Batch:
        """A step's batch where a GPU can fetch it while the host goes on."""
        batch = self.draw(step, n_rays)
        return of_each(batch, Tensor.pin_memory) if torch.cuda.is_available() else batch

    def draw(self, batch: dict[str, Tensor], n_rays: int) -> Batch:
        """Draw about n_rays pixels of a step of the stream and gather what is known of them."""
        frame, step = batch["frame"], int(batch["step"])
        self.frames.read_ahead(batch["next"].tolist())
        generator = torch.Generator(self.frames.images.device)
        generator.manual_seed(hash((self.seed, step, 1)) & 0x7FFFFFFF)
        every = self.sampling.patch_every
        if every and step % every == every - 1:
            side = self.patch_side
            frame = frame[: max(1, self.sampling.max_patch_rays // side**2)]
            frame = frame[ranks.part(len(frame))]
            pixels = self.sampler.patch(frame, self.frames.lips, side)
            return self.gather(frame, *pixels, patch=(side, side))
        pixels = self.sampler.draw(frame, n_rays, self.sampling.fractions, generator)
        if ranks.count() > 1:
            slot, row, column = (values[ranks.part(len(values))] for values in pixels)
            used, slot = slot.unique(return_inverse=True)
            frame, pixels = frame[used.cpu()], (slot, row, column)
        return self.gather(frame, *pixels)

    @property
    def patch_side(self) -> int:
        """Side of the lips patch in pixels, the same for all frames."""
        side = round(self.lips_side * self.sampling.patch_scale)
        return max(8, min(side, *self.clip.size))

    def gather(
        self,
        frame: Int[Tensor, " f"],
        slot: Int[Tensor, " n"],
        row: Int[Tensor, " n"],
        column: Int[Tensor, " n"],
        patch: tuple[int, int] | None = None,
    ) -> Batch:
        """Everything known of pixels (row, column) of the frames frame[slot]."""
        self._count_read(len(frame))
        store, (height, width) = self.frames, self.clip.size
        pixel = (frame[slot] * height + row) * width + column
        target = _floats(store.images.view(-1, 3)[pixel])
        torso = _floats(store.torso.view(-1, 4)[pixel])
        label = store.labels.view(-1)[pixel]
        background = _floats(store.background.view(-1, 3)[row * width + column])
        alpha = torso[:, 3:]
        uv = torch.stack([column, row], -1) + 0.5
        poses = self.poses.to(uv.device)[frame]
        origins, directions = rays_through(poses, slot, uv, self.clip.focal, self.clip.centre)
        size = torch.tensor([width, height], device=uv.device)
        return Batch(
            rays=Rays(origins, directions, slot),
            xy=uv / size * 2 - 1,
            target=target,
            behind=torso[:, :3] * alpha + background * (1 - alpha),
            background=background,
            torso_alpha=alpha[:, 0].contiguous(),
            head=label == HEAD,
            face=_inside(store.face[frame][slot], row, column),
            eyes=_inside(store.eyes[frame][slot], row, column),
            conditioning=self.conditioning(frame),
            patch=patch,
        )

    def _count_read(self, n_frames: int) -> None:
        """Before n_frames are read: keep what lies in memory of the mapped frames bounded."""
        height, width = self.clip.size
        self._read_bytes += n_frames * height * width * BYTES_PER_PIXEL
        if self._read_bytes > MAX_MAPPED_BYTES:
            self.frames.release()
            self._read_bytes = 0

    def conditioning(self, frame: Int[Tensor, " f"]) -> Conditioning:
        """What drives the given frames."""
        index = frame.cpu()
        held_out = index >= self.clip.n_train
        values = Conditioning(
            audio=attention_windows(self.audio, self.audio_ids[index]),
            eye=self.eye[index],
            pose=self.pose_vectors[index],
            index=torch.where(held_out, -1, index),
            torso=self.frames.torso_motion[index],
        )
        device = frame.device
        return Conditioning(**{name: value.to(device) for name, value in vars(values).items()})

    def whole_frame(self, i: int) -> Batch:
        """All pixels of frame i, row by row."""
        height, width = self.clip.size
        pixel = torch.arange(height * width)
        frame = torch.tensor([i])
        return self.gather(frame, torch.zeros_like(pixel), pixel // width, pixel % width)

    def face_points(self) -> Float[np.ndarray, "68 3"]:
        """The 68 landmarks in the world: their mean place over the training frames."""
        train = slice(self.clip.n_train)
        landmarks, poses = self.frames.landmarks[train].numpy(), self.clip.poses[train]
        return triangulate(landmarks, poses, self.clip.focal, self.clip.centre)

    def head_masks(
        self, n_views: int = 40, pad: int = 0
    ) -> tuple[Float[Tensor, "v 4 4"], Bool[Tensor, "v h w"]]:
        """Poses and head silhouettes, grown by pad pixels, of views spread over the clip."""
        views = torch.linspace(0, self.clip.n_train - 1, min(n_views, self.clip.n_train)).long()
        masks = (self.frames.labels[views] == HEAD).float()[:, None]
        if pad:
            masks = nnf.max_pool2d(masks, 2 * pad + 1, 1, pad)
        return self.poses[views], masks[:, 0] > 0


def _inside(
    rectangle: Int[Tensor, "n 4"], row: Int[Tensor, " n"], column: Int[Tensor, " n"]
) -> Bool[Tensor, " n"]:
    top, bottom, left, right = rectangle.unbind(-1)
    return (row >= top) & (row < bottom) & (column >= left) & (column < right)


def _floats(value: Tensor) -> Tensor:
    return value.float() / 255
