"""The portrait that is rendered and trained: a file's, or a stand-in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from jaxtyping import Float
from torch import Tensor

from radnerf.audio import MelExtractor
from radnerf.errors import UserError
from radnerf.experiment.build import ClipFacts, portrait_config
from radnerf.geometry.eyes import OPEN_EYE
from radnerf.heads import RadianceHead
from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.performer import load_portrait
from radnerf.inference.tracks import cover
from radnerf.rendering.frame import Image
from radnerf.rendering.portrait import Portrait


@dataclass
class Subject:
    """A portrait and what it takes to show it."""

    name: str
    portrait: Portrait
    poses: Float[Tensor, "t 4 4"]
    eye: Float[Tensor, " t"]
    codes: Float[Tensor, "k d"]
    focal: float
    centre: tuple[float, float]
    size: tuple[int, int]
    background: Image

    @property
    def head(self) -> RadianceHead:
        """What is measured.

        Raises:
            UserError: the portrait's head is of another kind.
        """
        head = self.portrait.head
        if not isinstance(head, RadianceHead):
            kind = type(head).__name__
            raise UserError(f"The benchmark measures radiance fields, and the head is a {kind}.")
        return head

    def view(self, side: int) -> tuple[float, tuple[float, float], tuple[int, int], Image]:
        """Focal length, centre, size and background of square frames, the picture's middle."""
        scale = side / min(self.size)
        height, width = self.size
        left, top = ((scale * length - side) / 2 for length in (width, height))
        centre = self.centre[0] * scale - left, self.centre[1] * scale - top
        size = side, side
        return self.focal * scale, centre, size, cover(self.background, size)


def load_subject(path: Path, device: torch.device) -> Subject:
    """The portrait of a file.

    Raises:
        UserError: it cannot be read.
    """
    bundle = PortraitBundle.load(path)
    portrait = load_portrait(bundle).to(device).eval()
    generator = torch.Generator().manual_seed(0)
    wobble = torch.randn(16, len(portrait.rest_code), generator=generator).to(device)
    codes = portrait.rest_code + 0.3 * wobble
    return Subject(
        path.name,
        portrait,
        bundle.poses,
        bundle.eye,
        codes,
        bundle.focal,
        bundle.centre,
        bundle.size,
        bundle.background.numpy(),
    )


def stand_in(conf: Path, device: torch.device) -> Subject:
    """An untrained portrait of the default configuration whose occupied shell is a head's."""
    with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
        config = compose("train")
    box = ((-0.45, -0.2, -0.35), (0.45, 0.4, 0.35))
    facts = ClipFacts(MelExtractor().dim, 32, box, (0.0, OPEN_EYE))
    torch.manual_seed(0)
    portrait: Any = Portrait.from_config(portrait_config(config, facts)).eval()
    axes = [torch.linspace(-1, 1, n) for n in portrait.head.grid.shape]
    radius = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).norm(dim=-1)
    portrait.head.grid.restrict((radius > 0.8) & (radius < 0.95))
    columns, rows = torch.meshgrid(
        *[torch.linspace(-1, 1, n) for n in portrait.torso.grid.shape], indexing="ij"
    )
    portrait.torso.grid.restrict((rows > 0.45) & (columns.abs() < 0.8))
    with torch.no_grad():  # opaque after a few samples, as a trained head is
        for name, value in portrait.head.named_parameters():
            if name.endswith("table"):
                value.uniform_(-1, 1)
        portrait.head.field.sigma_net.weights[-1][0].abs_().mul_(10)
    angles = torch.linspace(-0.2, 0.2, 32)
    poses = torch.eye(4).repeat(32, 1, 1)
    front = torch.tensor([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    for pose, angle in zip(poses, angles, strict=True):
        cos, sin = angle.cos(), angle.sin()
        rotation = torch.tensor([[1.0, 0, 0], [0, cos, -sin], [0, sin, cos]])
        pose[:3, :3] = rotation @ front
        pose[:3, 3] = rotation @ torch.tensor([0.0, 3.0, 0.0])
    return Subject(
        "a stand-in that nobody trained; --portrait FILE takes a real one",
        portrait.to(device),
        poses,
        torch.ones(32),
        torch.randn(16, portrait.audio_net.code_dim).to(device),
        2.4 * 512,
        (256.0, 256.0),
        (512, 512),
        np.full((512, 512, 3), 128, np.uint8),
    )
