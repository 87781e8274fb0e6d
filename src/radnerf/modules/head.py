"""The head stage, and the lips stage that sharpens the mouth."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from radnerf.fields.audio_net import mouth_codes, pretrain_audio_net
from radnerf.geometry.hull import cell_centres, visual_hull
from radnerf.geometry.shell import face_shell
from radnerf.kernels.tensors import HeadState
from radnerf.losses import (
    LipsLoss,
    PortraitLoss,
    alpha_entropy,
    color_error,
    eye_error,
    outside_motion,
)
from radnerf.modules.counts import LateCount
from radnerf.modules.stage import StageModule
from radnerf.rendering.head import distortion
from radnerf.runtime import ranks
from radnerf.runtime.devices import host_waits
from radnerf.types import Batch, Rays, RenderOutput, Samples

# Room for samples comes in pieces of so many: of few sizes, memory is soon used again.
ROOM = 4096
# Times the room that rays needed lately. A patch with holes would be another picture.
SPARE, PATCH_SPARE = 1.25, 2.0


class HeadModule(StageModule):
    """Learns head and audio net against the true torso over the background plate.

    Args:
        losses: see PortraitLoss.
        grid_every: steps between updates of the occupancy grid; 0 leaves it as it is.
        samples_per_step: batches grow or shrink towards this many field samples, so that a step
            costs the same while the grid tightens; None keeps sampling.n_rays.
        warm_start_steps: steps in which the audio net first learns the mouth's shape from
            landmarks alone; it takes seconds and generalises far better from a short video.
        hull: the occupancy grid starts as the visual hull of the head's silhouettes.
        shown: shares of the steps, at the stage's start and end, that are driven by the mouth as
            the landmarks show it instead of by the audio. What the audio net gets wrong is noise
            to the field: shown mouths let it learn to speak several times faster.
        augment: other voices and rooms for the warm start, see audio.AudioAugment.
    """

    name = "head"

    def __init__(
        self,
        *args: Any,
        losses: PortraitLoss,
        grid_every: int = 16,
        samples_per_step: int | None = None,
        warm_start_steps: int = 0,
        shown: Sequence[float] = (0.0, 0.0),
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        hull: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.warm_start_steps = warm_start_steps
        self.shown = tuple(shown)
        self.hull = hull
        self.augment = augment
        self.losses = losses
        self.grid_every = grid_every
        self.samples_per_step = samples_per_step
        self._counts = {patches: LateCount() for patches in (False, True)}

    @property
    def trained_parts(self) -> list[nn.Module]:
        parts = [self.portrait.head, self.portrait.audio_net, self.portrait.cameras]
        return [part for part in parts if part is not None]

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.global_step == 0 and ranks.rank() == 0:
            if self.grid_every and self.hull:
                self.carve()
            if self.warm_start_steps:
                self.warm_start()
        ranks.share(self.portrait)

    def warm_start(self) -> None:
        """Teach the audio net mouth shapes before anything is rendered."""
        data = self.data
        # Copies, for DDP already listens to gradients of the parameters themselves.
        net, head = copy.deepcopy((self.portrait.audio_net, self.portrait.head))
        frames = torch.arange(data.clip.n_train)
        with torch.enable_grad():
            codes = self.shown_codes[frames]
            pretrain_audio_net(
                net,
                lambda frame: data.conditioning(frame).audio,
                codes,
                self.augment,
                n_steps=self.warm_start_steps,
                seed=self.seed,
            )
            head.conditioning.warm_start(codes, data.mouth[frames].to(self.device))
        self.portrait.audio_net.load_state_dict(net.state_dict())
        self.portrait.head.load_state_dict(head.state_dict())

    @torch.no_grad()
    def carve(self) -> None:
        """Rule out the cells outside the head's silhouettes or far from its face."""
        grid, data = self.portrait.head_grid, self.data
        poses, masks = data.head_masks(pad=max(2, data.clip.size[1] // 100))
        points = cell_centres(grid.box.cpu(), grid.shape).reshape(-1, 3)  # type: ignore[arg-type]
        inside = visual_hull(points, poses, masks.cpu(), data.clip.focal, data.clip.centre)
        inside &= torch.from_numpy(face_shell(points.numpy(), data.face_points()))
        grid.restrict(inside.view(grid.shape).to(grid.box.device))

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        if self.grid_every and self.global_step % self.grid_every == 0:
            self.update_grid(batch)

    def head_state(self, batch: Batch) -> HeadState:
        """What drives the head in this step: the mouth as seen, or the audio as heard."""
        driving = batch.conditioning
        if self.chance(2) < self.shown_share:
            codes = self.shown_codes[driving.index]
        else:
            codes = self.portrait.encode_audio(driving.audio)
        return self.portrait.head.state(codes, driving.eye, driving.index)

    @property
    def shown_share(self) -> float:
        """Share of the steps that are driven by mouth shapes now."""
        first, last = self.shown
        return first + (last - first) * self.progress

    @cached_property
    def shown_codes(self) -> Float[Tensor, "t d"]:
        """Codes of the mouth shapes of all frames."""
        return mouth_codes(self.data.mouth, self.portrait.audio_net.code_dim).to(self.device)

    @torch.no_grad()
    def update_grid(self, batch: Batch) -> None:
        """Raise the maximum occupancy grid to what the batch's frames need."""
        generator = self.generator(0)
        state = self.head_state(batch)

        def density(points: Tensor) -> Tensor:
            answers = []
            for part in points.split(1 << 17):
                frame = torch.randint(
                    len(state.code), (len(part),), generator=generator, device=part.device
                )
                answers.append(self.portrait.head.density(part, frame, state)[0])
            return torch.cat(answers)

        self.portrait.head_grid.update(density, generator)

    def eyes_elsewhere(
        self, rays: Rays, eyes: Bool[Tensor, " n"], state: HeadState
    ) -> tuple[Rays, HeadState]:
        """Rays that miss the eyes get the eye control of other frames: see EyeLoss.elsewhere.

        The other frames' rows follow the frames' own, in the same order.
        """
        if not self.losses.eye.elsewhere:
            return rays, state
        shuffled = torch.randperm(len(state.eye), generator=self.host_generator(3))
        order = shuffled.to(rays.frame.device, non_blocking=True)
        doubled = HeadState(
            torch.cat([state.code, state.code]),
            torch.cat([state.eye, state.eye[order]]),
            torch.cat([state.appearance, state.appearance]),
        )
        return replace(rays, frame=rays.frame + len(order) * ~eyes), doubled

    def eye_term(self, pixels: Tensor, batch: Batch) -> Tensor:
        """Weighted error at shut eyes."""
        head = self.portrait.head
        openness = head.opening(batch.conditioning.eye)
        closed = (1 - openness).clamp(0, 1)[batch.rays.frame]
        return self.losses.eye.weight * eye_error(pixels, batch.target, batch.eyes, closed)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        losses = self.losses
        jitter = torch.rand(
            len(batch.xy), generator=self.generator(1, own=True), device=batch.xy.device
        )
        rays = self.portrait.refined(batch.rays, batch.conditioning)
        batch = replace(batch, rays=rays)
        rays, state = self.eyes_elsewhere(rays, batch.eyes, self.head_state(batch))
        out, samples = self.portrait.render_head(rays, state, jitter, self.room(batch))
        if self.grid_every:
            self.observe(batch, out, samples)
        self.count(batch, samples)
        self.balance()
        pixels = out.rgb + batch.behind * (1 - out.alpha[:, None])
        terms = {
            "color": color_error(pixels, batch.target),
            "entropy": losses.entropy.weight * alpha_entropy(out.alpha),
            "region": self.region_weight * outside_motion(out.ambient, batch.face),
        }
        if losses.eye.weight:
            terms["eye"] = self.eye_term(pixels, batch)
        if losses.distortion.weight:
            # Fog must first become dense where it should be, before it is drawn together.
            ramp = min(1.0, 5 * self.progress)
            weight = losses.distortion.weight * ramp
            terms["distortion"] = weight * distortion(out.weights, samples)
        if losses.mask.weight:
            error = torch.mean((out.alpha - batch.head.float()) ** 2)
            terms["mask"] = losses.mask.weight * error
        if batch.patch is not None and losses.lips.weight:
            terms["lips"] = losses.lips.weight * patch_error(losses.lips, pixels, batch)
        return torch.stack(list(terms.values())).sum(), terms | {
            "psnr": -10 * torch.log10(terms["color"].detach()),
            "samples_per_ray": samples.offsets[-1] / max(1, len(batch.xy)),
        }

    def count(self, batch: Batch, samples: Samples) -> None:
        """Take note of how many samples the batch's rays had."""
        self._counts[batch.patch is not None].put(len(batch.xy), samples.offsets[-1])

    def room(self, batch: Batch) -> int | None:
        """Room for the batch's samples, by what such batches had lately; None where it is counted.

        A ray whose samples do not fit has none, and so no gradient: as if it was not drawn.
        """
        n_rays, n_samples = self._counts[batch.patch is not None].latest()
        if not n_rays or not host_waits(batch.xy.device):
            return None
        spare = SPARE if batch.patch is None else PATCH_SPARE
        return ROOM * max(1, math.ceil(spare * len(batch.xy) * n_samples / n_rays / ROOM))

    @torch.no_grad()
    def observe(self, batch: Batch, out: RenderOutput, samples: Samples) -> None:
        """Tell the occupancy grid what the batch's rays saw."""
        settled = ((out.alpha > 0.9) | ~batch.head).index_select(0, samples.ray)
        self.portrait.head_grid.observe(samples.cell, out.weights.detach(), settled)

    def predict(self, batch: Batch) -> Tensor:
        out, _ = self.portrait.render_head(batch.rays, self.portrait.head_state(batch.conditioning))
        return out.rgb + batch.behind * (1 - out.alpha[:, None])

    @property
    def region_weight(self) -> float:
        """Weight of the face-region regularization now."""
        return self.losses.region.weight * self.progress

    def balance(self) -> None:
        """Draw as many rays next time as make about samples_per_step samples."""
        if self.samples_per_step is None:
            return
        n_rays, n_samples = ranks.totals(*self._counts[False].latest())
        if n_rays == 0:
            return
        wanted = n_rays * self.samples_per_step / max(1, n_samples)
        low, high = self.sampling.n_first_rays, self.sampling.n_rays
        self.data.n_rays = int(min(max(wanted, low), high, 2 * n_rays))


class LipsModule(HeadModule):
    """Goes on from the head stage with every other step on lips patches, the grid frozen."""

    name = "lips"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, grid_every=0, **kwargs)

    def balance(self) -> None:
        """The head stage's number of rays stays."""

    @property
    def region_weight(self) -> float:
        return self.losses.region.weight


def patch_error(error: LipsLoss, pixels: Tensor, batch: Batch) -> Tensor:
    """An error of a batch of patches."""
    assert batch.patch is not None
    height, width = batch.patch
    images = [
        value.view(-1, height, width, 3).permute(0, 3, 1, 2) for value in (pixels, batch.target)
    ]
    return error(images[0], images[1])
