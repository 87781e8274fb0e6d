"""The whole portrait: head over torso over background, and what drives it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from radnerf.errors import UserError
from radnerf.fields.audio_net import AudioNet
from radnerf.fields.cameras import CameraRefinement
from radnerf.geometry.cameras import rays_through
from radnerf.geometry.rotations import head_pose_vector
from radnerf.heads import Head
from radnerf.registry import build
from radnerf.torsos import Torso
from radnerf.types import Conditioning, Rays, RenderOutput, Samples


class Portrait(nn.Module):
    """Audio net, head and torso of one person, and how they are put together.

    The buffer rest_code is the audio code of the closed mouth, for pauses of driving audio.

    Args:
        config: the nested kwargs that this portrait was built from (kept for the portrait file).
        cameras: moves the training cameras while the head is learned.
    """

    rest_code: Tensor

    def __init__(
        self,
        audio_net: AudioNet,
        head: Head,
        torso: Torso,
        config: dict[str, Any],
        cameras: CameraRefinement | None = None,
    ) -> None:
        super().__init__()
        self.audio_net = audio_net
        self.head = head
        self.torso = torso
        self.config = config
        self.cameras = cameras
        self.register_buffer("rest_code", torch.zeros(audio_net.code_dim))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Portrait:
        """Build from nested kwargs (see conf/model); each part is a component of its name's kind.

        Raises:
            UserError: unknown or ill-fitting parts.
        """
        strange = config.keys() - {"audio_net", "head", "torso", "cameras"}
        if strange or not {"audio_net", "head", "torso"} <= config.keys():
            raise UserError(
                f"A portrait is made of audio_net, head and torso, not of {', '.join(config)}."
            )
        return cls(**{name: build(part, name) for name, part in config.items()}, config=config)

    @torch.no_grad()
    def finalize(self, codes: Float[Tensor, "k d"], eye: Float[Tensor, " k"]) -> None:
        """Make the head ready for frames, once training is over: see Head.finalize."""
        changed = self.head.finalize(codes, eye)
        self.config = self.config | {"head": _merged(self.config["head"], changed)}

    def encode_audio(self, windows: Float[Tensor, "f 8 16 c"]) -> Float[Tensor, "f d"]:
        """Audio codes of frames, from their feature windows."""
        return self.audio_net(windows)

    def head_state(self, driving: Conditioning) -> Any:
        return self.head.state(self.encode_audio(driving.audio), driving.eye, driving.index)

    def torso_state(self, driving: Conditioning) -> Any:
        return self.torso.state(driving.pose, driving.index, driving.torso)

    def refined(self, rays: Rays, driving: Conditioning) -> Rays:
        """Rays of training frames as the refined cameras have them."""
        return rays if self.cameras is None else self.cameras(rays, driving.index)

    def render_pixels(
        self,
        rays: Rays,
        xy: Float[Tensor, "n 2"],
        background: Float[Tensor, "n 3"],
        head_state: Any,
        torso_state: Any,
        jitter: Float[Tensor, " n"] | None = None,
        capacity: int | None = None,
    ) -> tuple[Float[Tensor, "n 3"], RenderOutput, Samples | None]:
        """Finished pixels: head over torso over background."""
        head, samples = self.head.render(rays, head_state, jitter, capacity)
        rgb, alpha = self.torso.render(xy, rays.frame, torso_state)
        behind = rgb * alpha[:, None] + background * (1 - alpha[:, None])
        return head.over(behind), head, samples

    @torch.inference_mode()
    def render(
        self,
        pose: Float[Tensor, "4 4"],
        focal: float,
        centre: tuple[float, float],
        size: tuple[int, int],
        code: Float[Tensor, " d"],
        eye: float,
        background: Float[Tensor, "h w 3"],
        torso_motion: Float[Tensor, " 3"] | None = None,
        with_torso: bool = True,
        chunk: int = 1 << 16,
    ) -> Float[Tensor, "h w 3"]:
        """One frame in [0, 1].

        Args:
            pose: camera-to-world, in memory convention (data/clip.py).
            focal, centre: in pixels of the frame that is rendered.
            size: height and width.
            code: audio code (encode_audio).
            eye: opening of the eyes, 0 shut and 1 open.
            torso_motion: shift and rotation of the torso; predicted from the pose when not given.
            with_torso: else the background is right behind the head.
            chunk: pixels rendered at once, which bounds the memory.
        """
        height, width = size
        device = code.device
        index = torch.full((1,), -1, device=device)
        head_state = self.head.state(code[None], torch.tensor([eye], device=device), index)
        motion = None if torso_motion is None else torso_motion[None].to(device)
        torso_state = self.torso.state(head_pose_vector(pose[None]).to(device), index, motion)
        image = torch.empty(height * width, 3, device=device)
        flat_background = background.reshape(-1, 3).to(device)
        for start in range(0, height * width, chunk):
            pixel = torch.arange(start, min(start + chunk, height * width), device=device)
            uv = torch.stack([pixel % width, pixel // width], -1) + 0.5
            frame = torch.zeros_like(pixel)
            origins, directions = rays_through(pose[None].to(device), frame, uv, focal, centre)
            rays, behind = Rays(origins, directions, frame), flat_background[pixel]
            if not with_torso:
                image[pixel] = self.head.render(rays, head_state)[0].over(behind)
                continue
            xy = uv / torch.tensor([width, height], device=device) * 2 - 1
            image[pixel], _, _ = self.render_pixels(rays, xy, behind, head_state, torso_state)
        return image.view(height, width, 3).clamp(0, 1)


def _merged(config: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """A nested config with some of its values changed."""
    values = {
        key: _merged(config[key], value) if isinstance(value, dict) else value
        for key, value in changed.items()
    }
    return config | values
