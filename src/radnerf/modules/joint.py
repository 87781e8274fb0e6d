"""The joint stage, which makes the seam between head and torso disappear."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from radnerf.losses import Rendering
from radnerf.modules.head import HeadStage, twice
from radnerf.types import Batch


class JointModule(HeadStage):
    """Trains head and torso on the finished composite, so that they agree at the seam.

    Every `patch_every`-th step (see Sampling) is a lips patch, so that the lips stay sharp.
    """

    name = "joint"

    @property
    def trained_parts(self) -> list[nn.Module]:
        return [self.portrait.head, self.portrait.audio_net, self.portrait.torso]

    def render(self, batch: Batch) -> Rendering:
        portrait = self.portrait
        batch = replace(batch, rays=portrait.refined(batch.rays, batch.conditioning))
        rays, head_state = batch.rays, self.head_state(batch)
        torso_state = portrait.torso_state(batch.conditioning)
        if self.eyes_elsewhere:
            rays, head_state = self.with_other_eyes(rays, batch.eyes, head_state)
            torso_state = twice(torso_state, torso_state)  # a row for each of the head's
        pixels, head, samples = portrait.render_pixels(
            rays,
            batch.xy,
            batch.background,
            head_state,
            torso_state,
            self.jitter(batch),
            self.counts.capacity(batch),
        )
        self.counts.note(batch, samples)
        return Rendering(
            batch=batch,
            pixels=pixels,
            target=batch.target,
            alpha=head.alpha,
            coverage=batch.head.float(),
            progress=self.phase,
            head=head,
            samples=samples,
        )

    def predict(self, batch: Batch) -> Tensor:
        driving = batch.conditioning
        return self.portrait.render_pixels(
            batch.rays,
            batch.xy,
            batch.background,
            self.portrait.head_state(driving),
            self.portrait.torso_state(driving),
        )[0]
