"""What makes a portrait of trained parts: the code of rest, a head ready for frames, the file."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from radnerf.data.clip import read_consent
from radnerf.data.datamodule import ClipDataModule
from radnerf.experiment.evaluate import encode
from radnerf.fields.audio_net import mouth_codes, rest_code, smooth_track
from radnerf.inference.bundle import PortraitBundle
from radnerf.rendering.portrait import Portrait


@torch.no_grad()
def remember_rest(portrait: Portrait, data: ClipDataModule, taught: bool) -> None:
    """Give the portrait the audio code of its closed mouth.

    Args:
        taught: the codes stand for mouth shapes (see mouth_codes), so that no audio is needed.
    """
    portrait.eval()
    frames = torch.arange(data.clip.n_train)
    if taught:
        codes = mouth_codes(data.mouth[frames], portrait.audio_net.code_dim)
    else:
        codes = encode(portrait, data, frames)
    portrait.rest_code.copy_(rest_code(codes, data.mouth_opening[frames].to(codes.device)))


@torch.no_grad()
def finalize(portrait: Portrait, data: ClipDataModule, n_codes: int = 16) -> None:
    """Make the head ready for frames, by mouths and eyes far from each other."""
    portrait.eval()
    codes = smooth_track(encode(portrait, data, torch.arange(data.clip.n_train)))
    eye = torch.linspace(float(data.eye.min()), float(data.eye.max()), n_codes)
    shuffle = torch.randperm(n_codes, generator=torch.Generator().manual_seed(0))
    portrait.finalize(codes[farthest_points(codes, n_codes)], eye[shuffle].to(codes.device))


def farthest_points(points: Float[Tensor, "n d"], count: int) -> Int[Tensor, " count"]:
    """Indices of points of which each is as far as possible from those before it."""
    chosen = [(points - points.mean(0)).norm(dim=1).argmin()]
    distance = (points - points[chosen[0]]).norm(dim=1)
    for _ in range(count - 1):
        chosen.append(distance.argmax())
        distance = distance.minimum((points - points[chosen[-1]]).norm(dim=1))
    return torch.stack(chosen)


def portrait_file(clip_id: str, data: ClipDataModule, portrait: Portrait) -> PortraitBundle:
    """What the file of a portrait holds: its weights, and the tracks of its clip."""
    return PortraitBundle(
        id=clip_id,
        portrait=portrait.config,
        weights=portrait.state_dict(),
        extractor=data.extractor.settings,
        poses=data.poses if portrait.cameras is None else portrait.cameras.poses(data.poses),
        eye=data.eye,
        torso_motion=data.frames.torso_motion,
        focal=data.clip.focal,
        centre=data.clip.centre,
        size=data.clip.size,
        fps=data.clip.fps,
        background=data.frames.background,
        n_train=data.clip.n_train,
        audio_offset=data.audio_offset,
        consent=read_consent(data.clip.root) or None,
    )
