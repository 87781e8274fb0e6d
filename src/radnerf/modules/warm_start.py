"""Before anything is rendered: the mouth's shapes, and the space that the head may fill."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from radnerf.data.datamodule import ClipDataModule
from radnerf.fields.audio_net import pretrain_audio_net
from radnerf.geometry.hull import visual_hull
from radnerf.geometry.shell import face_shell
from radnerf.rendering.portrait import Portrait


def teach_mouth(
    portrait: Portrait,
    data: ClipDataModule,
    codes: Float[Tensor, "t d"],
    n_steps: int,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    seed: int = 0,
) -> None:
    """Teach the audio net, and the head, mouth shapes from landmarks alone.

    Args:
        codes: audio codes that stand for the mouth shapes of all frames.
        augment: other voices and rooms, see audio.AudioAugment.
    """
    # Copies, for DDP already listens to gradients of the parameters themselves.
    net, head = copy.deepcopy((portrait.audio_net, portrait.head))
    frames = torch.arange(data.clip.n_train)
    with torch.enable_grad():
        pretrain_audio_net(
            net,
            lambda frame: data.conditioning(frame).audio,
            codes[frames],
            augment,
            n_steps=n_steps,
            seed=seed,
        )
        head.warm_start(codes[frames], data.mouth[frames].to(codes.device))
    portrait.audio_net.load_state_dict(net.state_dict())
    portrait.head.load_state_dict(head.state_dict())


def carve(portrait: Portrait, data: ClipDataModule) -> None:
    """Leave out of the head what is outside its silhouettes or far from its face."""
    poses, masks = data.head_masks(pad=max(2, data.clip.size[1] // 100))
    landmarks = data.face_points()

    def inside(points: Float[Tensor, "n 3"]) -> Bool[Tensor, " n"]:
        hull = visual_hull(points, poses, masks.cpu(), data.clip.focal, data.clip.centre)
        return hull & torch.from_numpy(face_shell(points.numpy(), landmarks))

    portrait.head.carve(inside)
