"""The stages that learn the head: the head alone, and the lips, which sharpens the mouth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from radnerf.fields.audio_net import mouth_codes
from radnerf.losses import Rendering
from radnerf.modules.rays import SampleCounts
from radnerf.modules.stage import StageModule
from radnerf.modules.warm_start import carve, teach_mouth
from radnerf.runtime import ranks
from radnerf.types import Batch, Rays


class HeadStage(StageModule):
    """What the stages that learn the head share; drawn over the true torso and the background.

    Args:
        landmark_driven: fractions of the steps, at the stage's start and end, that are driven by
            the mouth as the landmarks show it instead of by the audio. What the audio net gets
            wrong is noise to the head: without it, it learns to speak several times faster.
        eyes_elsewhere: rays outside the eyes' rectangle are driven by the eyes of other frames, so
            that nothing but the eyes learns to follow them; the mouth opens in many a blink.
        update_every: steps between two calls of Head.before_step; 0 leaves it as it is.
    """

    def __init__(
        self,
        *args: Any,
        landmark_driven: Sequence[float] = (0.0, 0.0),
        eyes_elsewhere: bool = False,
        update_every: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.landmark_driven = tuple(landmark_driven)
        self.eyes_elsewhere = eyes_elsewhere
        self.update_every = update_every
        self.counts = SampleCounts()

    @property
    def trained_parts(self) -> list[nn.Module]:
        parts = [self.portrait.head, self.portrait.audio_net, self.portrait.cameras]
        return [part for part in parts if part is not None]

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        if self.update_every and self.global_step % self.update_every == 0:
            with torch.no_grad():
                self.portrait.head.before_step(self.head_state(batch), self.generator(0))

    def head_state(self, batch: Batch) -> Any:
        """What drives the head in this step: landmarks, or the audio."""
        driving = batch.conditioning
        if self.chance(2) < self.landmark_driven_fraction:
            codes = self.landmark_codes[driving.index]
        else:
            codes = self.portrait.encode_audio(driving.audio)
        return self.portrait.head.state(codes, driving.eye, driving.index)

    @property
    def landmark_driven_fraction(self) -> float:
        """Fraction of the steps that are driven by mouth shapes now."""
        first, last = self.landmark_driven
        return first + (last - first) * self.phase

    @cached_property
    def landmark_codes(self) -> Float[Tensor, "t d"]:
        """Codes of the mouth shapes of all frames."""
        return mouth_codes(self.data.mouth, self.portrait.audio_net.code_dim).to(self.device)

    def jitter(self, batch: Batch) -> Float[Tensor, " n"]:
        """By how much of a step each ray's samples are moved."""
        generator = self.generator(1, own=True)
        return torch.rand(len(batch.xy), generator=generator, device=batch.xy.device)

    def with_other_eyes(self, rays: Rays, eyes: Bool[Tensor, " n"], state: Any) -> tuple[Rays, Any]:
        """Rays that miss the eyes get the eye control of other frames: see eyes_elsewhere.

        The other frames' rows follow the frames' own, in the same order.
        """
        shuffled = torch.randperm(len(state.eye), generator=self.host_generator(3))
        order = shuffled.to(rays.frame.device, non_blocking=True)
        doubled = twice(state, replace(state, eye=state.eye[order]))
        return replace(rays, frame=rays.frame + len(order) * ~eyes), doubled

    def render(self, batch: Batch) -> Rendering:
        batch = replace(batch, rays=self.portrait.refined(batch.rays, batch.conditioning))
        rays, state = batch.rays, self.head_state(batch)
        if self.eyes_elsewhere:
            rays, state = self.with_other_eyes(rays, batch.eyes, state)
        capacity = self.counts.capacity(batch)
        out, samples = self.portrait.head.render(rays, state, self.jitter(batch), capacity)
        self.counts.note(batch, samples)
        return Rendering(
            batch=batch,
            pixels=out.over(batch.behind),
            target=batch.target,
            alpha=out.alpha,
            coverage=batch.head.float(),
            progress=self.phase,
            head=out,
            samples=samples,
        )

    def notes(self, rendering: Rendering) -> dict[str, Tensor]:
        samples, n_rays = rendering.samples, max(1, len(rendering.pixels))
        more = {} if samples is None else {"samples_per_ray": samples.offsets[-1] / n_rays}
        return super().notes(rendering) | more

    def predict(self, batch: Batch) -> Tensor:
        state = self.portrait.head_state(batch.conditioning)
        return self.portrait.head.render(batch.rays, state)[0].over(batch.behind)


class HeadModule(HeadStage):
    """Learns head and audio net from nothing.

    Args:
        samples_per_step: batches grow or shrink towards this many samples, so that a step costs
            the same while the occupancy grid tightens; None keeps sampling.n_rays.
        warm_start_steps: steps in which the audio net first learns the mouth's shape from
            landmarks alone; it takes seconds and generalises far better from a short video.
        hull: the head starts inside the visual hull of its silhouettes.
        augment: other voices and rooms for the warm start, see audio.AudioAugment.
    """

    name = "head"

    def __init__(
        self,
        *args: Any,
        samples_per_step: int | None = None,
        warm_start_steps: int = 0,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
        hull: bool = True,
        update_every: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, update_every=update_every, **kwargs)
        self.samples_per_step = samples_per_step
        self.warm_start_steps = warm_start_steps
        self.augment = augment
        self.hull = hull

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.global_step == 0 and not self.budget.extra and ranks.rank() == 0:
            if self.hull:
                carve(self.portrait, self.data)
            if self.warm_start_steps:
                teach_mouth(
                    self.portrait,
                    self.data,
                    self.landmark_codes,
                    self.warm_start_steps,
                    self.augment,
                    self.seed,
                )
        ranks.broadcast(self.portrait)

    def render(self, batch: Batch) -> Rendering:
        rendering = super().render(batch)
        if self.update_every and rendering.head is not None:
            with torch.no_grad():
                settled = (rendering.alpha > 0.9) | ~batch.head
                self.portrait.head.after_render(rendering.head, rendering.samples, settled)
        self.balance()
        return rendering

    def balance(self) -> None:
        """Draw as many rays next time as make about samples_per_step samples."""
        if self.samples_per_step is None:
            return
        low, high = self.sampling.n_first_rays, self.sampling.n_rays
        n_rays = self.counts.rays_for(self.samples_per_step, low, high)
        if n_rays is not None:
            self.data.n_rays = n_rays


class LipsModule(HeadStage):
    """Goes on from the head stage with every other step on lips patches, the grid frozen."""

    name = "lips"


def twice(first: Any, second: Any) -> Any:
    """The rows of a state, then those of another of its kind."""
    rows = {
        field.name: torch.cat([getattr(first, field.name), getattr(second, field.name)])
        for field in fields(first)
    }
    return type(first)(**rows)
