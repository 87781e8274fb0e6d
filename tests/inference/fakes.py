"""A portrait with the interface of radnerf.rendering.portrait.Portrait and nothing to learn."""

import torch
from torch import nn

from radnerf.audio import MelExtractor
from radnerf.inference.bundle import PortraitBundle


class FakePortrait(nn.Module):
    """Grey background; the lower half lights up with the sound, the top left shows the eye."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def encode_audio(self, windows):
        return windows[:, 4, 8].mean(-1, keepdim=True).repeat(1, 64)

    def render(self, pose, focal, centre, size, code, eye, background):
        self.calls.append((pose, focal, centre, size, float(code[0]), eye))
        image = background.clone()
        height, width = size
        image[height // 2 :] = code[0].clamp(0, 5) / 5
        image[: height // 4, : width // 4] = eye
        return image


def turned(degrees):
    """A pose 3 units in front of the head, turned about the vertical axis."""
    angle = torch.deg2rad(torch.tensor(float(degrees)))
    # OpenCV camera axes in the world (up, towards the camera, right).
    front = torch.tensor([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    c, s = angle.cos(), angle.sin()
    about_up = torch.tensor([[1.0, 0, 0], [0, c, -s], [0, s, c]])
    pose = torch.eye(4)
    pose[:3, :3] = about_up @ front
    pose[:3, 3] = about_up @ torch.tensor([0.0, 3.0, 0.0])
    return pose


def make_bundle(n_frames=11, size=(40, 30), **changes):
    values = {
        "id": "fake",
        "portrait": {"audio_net": {"_target_": "radnerf.fields.audio_net.AudioNet", "dim": 40}},
        "weights": {"a.b": torch.arange(6.0).view(2, 3), "grid": torch.ones(4, dtype=torch.bool)},
        "extractor": {"name": "mel", "dim": MelExtractor().dim},
        "poses": torch.stack([turned(d) for d in range(n_frames)]),
        "eye": torch.linspace(0.05, 0.25, n_frames),
        "focal": 72.0,
        "centre": (15.0, 20.0),
        "size": size,
        "fps": 25.0,
        "background": torch.full((*size, 3), 128, dtype=torch.uint8),
        "n_train": 10,
    }
    return PortraitBundle(**{**values, **changes})
