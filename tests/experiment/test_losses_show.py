"""What each loss is for, seen on what is missing without it: held-out frames of a small demo."""

from __future__ import annotations

import pytest
import torch
from experiment.conftest import BARE
from experiment.training import trained
from torch import Tensor

from radnerf.data.datamodule import ClipDataModule
from radnerf.fields.audio_net import mouth_codes
from radnerf.losses import alpha_entropy, structural_error
from radnerf.rendering.portrait import Portrait
from radnerf.types import Batch, RenderOutput

# The head stage goes on from where it was.
ONWARD = ("model.stages.head.warm_start_steps=0",)
LIPS = ("model.stages.lips.sampling.n_rays=1000", "model.stages.lips.sampling.n_frames=8")


@pytest.fixture(scope="module")
def bare(data: ClipDataModule, head: Portrait) -> Portrait:
    return trained(data, head, "head", 80, *BARE, *ONWARD)


@torch.no_grad()
def rendered(
    portrait: Portrait, data: ClipDataModule, frame: int, mouth_of: int
) -> tuple[RenderOutput, Batch]:
    """A held-out frame with the mouth of another."""
    batch = data.whole_frame(frame)
    code = mouth_codes(data.mouth, portrait.audio_net.code_dim)[[mouth_of]]
    driving = batch.conditioning
    state = portrait.head.state(code, driving.eye, driving.index)
    return portrait.head.render(batch.rays, state)[0], batch


def held_out(data: ClipDataModule) -> range:
    return range(data.clip.n_train, len(data.clip))


def coordinate_outside(portrait: Portrait, data: ClipDataModule) -> tuple[float, float]:
    """Outside the face: the audio coordinate's size, and how far it moves from mouth to mouth."""
    shut, wide = int(data.mouth_opening.argmin()), int(data.mouth_opening.argmax())
    size, motion = [], []
    for i in held_out(data)[::3]:
        (first, batch), (second, _) = (rendered(portrait, data, i, m) for m in (shut, wide))
        outside = ~batch.face & (first.alpha > 0.5)
        size.append(first.ambient[outside].mean())
        motion.append((first.ambient - second.ambient)[outside].abs().mean())
    return float(torch.stack(size).mean()), float(torch.stack(motion).mean())


def test_without_region_regularization_the_coordinate_moves_outside_the_face(
    data: ClipDataModule, head: Portrait, bare: Portrait
) -> None:
    regular = trained(
        data, head, "head", 80, "loss.region.weight=1", "loss.entropy.weight=0", *ONWARD
    )
    size, motion = coordinate_outside(bare, data)
    size_with, motion_with = coordinate_outside(regular, data)
    assert size > 4 * size_with
    assert motion > 4 * motion_with and motion > 0.1


def test_without_entropy_pixels_are_neither_head_nor_not(
    data: ClipDataModule, head: Portrait, bare: Portrait
) -> None:
    crisp = trained(
        data, head, "head", 80, "loss.region.weight=0", "loss.entropy.weight=0.02", *ONWARD
    )

    def entropy(portrait: Portrait) -> float:
        bits = [alpha_entropy(rendered(portrait, data, i, i)[0].alpha) for i in held_out(data)[::3]]
        return float(torch.stack(bits).mean())

    assert entropy(crisp) < 0.6 * entropy(bare)


def lips_error(portrait: Portrait, data: ClipDataModule) -> float:
    """Structural error of held-out lips, driven by the mouths as they are."""
    errors = []
    for i in held_out(data):
        out, batch = rendered(portrait, data, i, i)
        pixels = out.rgb + batch.behind * (1 - out.alpha[:, None])
        top, bottom, left, right = data.frames.lips[i].tolist()

        def lips(image: Tensor, t=top, b=bottom, l=left, r=right) -> Tensor:  # noqa: E741
            return image.view(*data.clip.size, 3)[t:b, l:r].permute(2, 0, 1)[None]

        errors.append(structural_error(lips(pixels), lips(batch.target)))
    return float(torch.stack(errors).mean())


def test_lips_fine_tuning_improves_held_out_lips(data: ClipDataModule, head: Portrait) -> None:
    tuned, without = (
        trained(data, head, "lips", 60, *LIPS, f"loss.lips.weight={weight}") for weight in (0.3, 0)
    )
    before, after = lips_error(head, data), lips_error(tuned, data)
    assert after < 0.97 * before
    assert after < 0.95 * lips_error(without, data)
