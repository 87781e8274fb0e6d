"""Portraits with nothing to learn, and sound for them."""

import wave

import numpy as np
import torch
from torch import nn

from radnerf.audio import MelExtractor
from radnerf.inference import file_driver, performer, stream_driver
from radnerf.inference.bundle import PortraitBundle
from radnerf.rendering.portrait import Portrait


class FakePortrait(Portrait):
    """A portrait without fields.

    Over the background, the lower half lights up with the sound and the top left with the eyes.
    """

    def __init__(self):
        nn.Module.__init__(self)
        self.calls = []
        self.register_buffer("rest_code", torch.full((64,), -1.0))

    def encode_audio(self, windows):
        return windows[:, 4, 8].mean(-1, keepdim=True).repeat(1, 64)

    def stand_in(self, monkeypatch):
        """Be what drivers load and performers draw."""
        for module in (file_driver, stream_driver):
            monkeypatch.setattr(module, "load_portrait", lambda bundle: self)
        monkeypatch.setattr(performer, "frame_renderer", self.renderer)

    @staticmethod
    def renderer(portrait, focal, centre, size, background):
        """Stands in for rendering.frame.frame_renderer."""

        def draw(pose, code, eye, torso_motion=None):
            portrait.calls.append((pose, focal, centre, size, float(code[0]), eye))
            image = background.copy()
            height, width = size
            image[height // 2 :] = round(float(code[0].clamp(0, 5)) * 51)
            image[: height // 4, : width // 4] = round(255 * eye)
            return image

        return draw


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
        "eye": torch.linspace(0.2, 1.0, n_frames),
        "torso_motion": torch.zeros(n_frames, 3),
        "focal": 72.0,
        "centre": (15.0, 20.0),
        "size": size,
        "fps": 25.0,
        "background": torch.full((*size, 3), 128, dtype=torch.uint8),
        "n_train": 10,
        "audio_offset": 0.1,
    }
    return PortraitBundle(**{**values, **changes})


def make_portrait_config():
    """Settings of the smallest real portrait."""
    fields = "radnerf.fields"
    box = [[-0.4, -0.35, -0.35], [0.45, 0.35, 0.35]]

    def grid(dim):
        sizes = {"n_levels": 2, "finest_resolution": 32, "log2_table_size": 10}
        return {"_target_": f"{fields}.encodings.GridEncoding", "dim": dim, **sizes}

    def cells(box, shape):
        target = f"{fields}.occupancy.OccupancyGrid"
        return {"_target_": target, "box": box, "shape": shape, "threshold": 0.01}

    return {
        "audio_net": {"_target_": f"{fields}.audio_net.AudioNet", "dim": MelExtractor().dim},
        "head": {
            "_target_": "radnerf.heads.radiance.RadianceHead",
            "field": {
                "_target_": f"{fields}.head.HeadField",
                "spatial": grid(3),
                "conditioning": {
                    "_target_": f"{fields}.conditioning.AudioCoordinate",
                    "ambient": grid(2),
                    "eye_product": 0.5,
                },
                "box": box,
                "n_frames": 10,
            },
            "grid": cells(box, [8, 8, 8]),
            "marching": {"_target_": "radnerf.heads.marching.Marching", "step": 0.05},
        },
        "torso": {
            "_target_": "radnerf.torsos.planar.PlanarTorso",
            "field": {"_target_": f"{fields}.torso.TorsoField", "grid": grid(2), "n_frames": 10},
            "grid": cells([[-1.0, -1.0], [1.0, 1.0]], [8, 8]),
        },
    }


def write_wav(path, seconds, rate, channels=1, hz=440.0, silence=0.0):
    """A tone of amplitude 0.4, then silence."""
    time = np.arange(round(seconds * rate)) / rate
    tone = (0.4 * np.sin(2 * np.pi * hz * time) * 32767).astype("<i2")
    tone = np.pad(tone, (0, round(silence * rate)))
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.repeat(tone, channels).tobytes())
    return path
