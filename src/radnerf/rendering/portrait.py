"""The whole portrait: head over torso over background, and what drives it."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from radnerf.errors import UserError
from radnerf.fields.audio_net import AudioNet
from radnerf.fields.cameras import CameraRefinement
from radnerf.fields.head import HeadField
from radnerf.fields.torso import TorsoField
from radnerf.geometry.cameras import rays_through
from radnerf.geometry.rotations import head_pose_vector
from radnerf.kernels.tensors import HeadState, TorsoState
from radnerf.rendering.head import Marching, render_head
from radnerf.rendering.occupancy import OccupancyGrid
from radnerf.runtime.devices import host_waits
from radnerf.types import Conditioning, Rays, RenderOutput, Samples

# A portrait file names its parts; nothing outside this list is ever imported because of a file.
COMPONENTS = frozenset(
    {
        "radnerf.fields.audio_net.AudioNet",
        "radnerf.fields.cameras.CameraRefinement",
        "radnerf.fields.conditioning.AudioCoordinate",
        "radnerf.fields.conditioning.Concatenation",
        "radnerf.fields.conditioning.RegionAttention",
        "radnerf.fields.encodings.FrequencyEncoding",
        "radnerf.fields.encodings.GridEncoding",
        "radnerf.fields.encodings.TinyCudaEncoding",
        "radnerf.fields.encodings.TriplaneEncoding",
        "radnerf.fields.head.HeadField",
        "radnerf.fields.torso.HeadAnchors",
        "radnerf.fields.torso.TorsoField",
        "radnerf.rendering.head.Marching",
        "radnerf.rendering.occupancy.OccupancyGrid",
        "radnerf.rendering.occupancy.VisibleGrid",
    }
)


def build(config: Any) -> Any:
    """Construct the nested components that a config names, as Hydra would, but only known ones.

    Raises:
        UserError: a `_target_` that is not a component of this project.
    """
    if isinstance(config, list):
        return tuple(build(item) for item in config)  # JSON has no tuples
    if not isinstance(config, dict):
        return config
    values = {key: build(value) for key, value in config.items() if key != "_target_"}
    if "_target_" not in config:
        return values
    target = config["_target_"]
    if target not in COMPONENTS:
        raise UserError(f"A portrait cannot have the part {target!r}: it is none of this project.")
    module, name = target.rsplit(".", 1)
    try:
        return getattr(importlib.import_module(module), name)(**values)
    except TypeError as error:
        raise UserError(
            f"The portrait's part {name} has settings that do not fit: {error}."
        ) from error


class Portrait(nn.Module):
    """Fields, occupancy and audio net of one person, with every way to render them.

    The buffer rest_code is the audio code of the closed mouth, for pauses of driving audio.

    Args:
        config: the nested kwargs that this portrait was built from (kept for the portrait file).
        cameras: moves the training cameras while the head is learned.
    """

    rest_code: Tensor

    def __init__(
        self,
        audio_net: AudioNet,
        head: HeadField,
        torso: TorsoField,
        head_grid: OccupancyGrid,
        torso_grid: OccupancyGrid,
        marching: Marching,
        config: dict[str, Any],
        cameras: CameraRefinement | None = None,
    ) -> None:
        super().__init__()
        self.audio_net = audio_net
        self.head = head
        self.torso = torso
        self.head_grid = head_grid
        self.torso_grid = torso_grid
        self.marching = marching
        self.config = config
        self.cameras = cameras
        self.register_buffer("rest_code", torch.zeros(audio_net.code_dim))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Portrait:
        """Build from nested kwargs (see conf/model).

        Raises:
            UserError: unknown or ill-fitting parts.
        """
        try:
            return cls(**build(config), config=config)
        except TypeError as error:
            raise UserError(f"The portrait's config does not fit this version: {error}.") from error

    @torch.no_grad()
    def refine_head_grid(
        self,
        codes: Float[Tensor, "k d"],
        eye: Float[Tensor, " k"],
        faint: float = 0.02,
        chunk: int = 1 << 17,
    ) -> None:
        """Exchange the head's grid for one twice as fine, without the air around the surface.

        For rendering, once training is over. Training needs the air: a surface may move there.

        Args:
            codes, eye: what drives the head; a cell is needed when any of these needs it.
            faint: alpha of a sample that is not worth a cell.
        """
        step, index = self.marching.step, torch.full((1,), -1, device=codes.device)

        def alpha(points: Tensor, i: int) -> Tensor:
            state = self.head.state(codes[i : i + 1], eye[i : i + 1], index)
            parts = []
            for part in points.split(chunk):
                frame = torch.zeros(len(part), dtype=torch.long, device=part.device)
                parts.append(1 - torch.exp(-self.head.density(part, frame, state)[0] * step))
            return torch.cat(parts)

        generator = torch.Generator(codes.device).manual_seed(0)
        finer = self.head_grid.refined(alpha, len(codes), faint, generator)
        config = self.config["head_grid"] | {"shape": list(finer.shape)}
        self.config = self.config | {"head_grid": config}
        self.head_grid = build(config).to(codes.device)
        self.head_grid.restrict(finer)

    def encode_audio(self, windows: Float[Tensor, "f 8 16 c"]) -> Float[Tensor, "f d"]:
        """Audio codes of frames, from their feature windows."""
        return self.audio_net(windows)

    def head_state(self, driving: Conditioning) -> HeadState:
        return self.head.state(self.encode_audio(driving.audio), driving.eye, driving.index)

    def torso_state(self, driving: Conditioning) -> TorsoState:
        return self.torso.state(driving.pose, driving.index, driving.torso)

    def refined(self, rays: Rays, driving: Conditioning) -> Rays:
        """Rays of training frames as the refined cameras have them."""
        return rays if self.cameras is None else self.cameras(rays, driving.index)

    def render_head(
        self,
        rays: Rays,
        state: HeadState,
        jitter: Float[Tensor, " n"] | None = None,
        room: int | None = None,
    ) -> tuple[RenderOutput, Samples]:
        """The head alone, colours premultiplied by alpha."""
        return render_head(self.head, self.head_grid, rays, state, self.marching, jitter, room)

    def render_torso(
        self, xy: Float[Tensor, "n 2"], frame: Int[Tensor, " n"], state: TorsoState
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
        """RGB (straight) and alpha of the torso at image points, only where its grid says so."""
        needed = self.torso_grid.occupied_at(xy)
        if torch.is_grad_enabled() and host_waits(xy.device):  # to be told how many these are
            rgb, alpha = self.torso(xy, frame, state)
            rgb, alpha = rgb.to(xy.dtype), alpha.to(xy.dtype)
            return torch.where(needed[:, None], rgb, 0), torch.where(needed, alpha, 0)
        rgb, alpha = self.torso(xy[needed], frame[needed], state)
        index = needed.nonzero()
        full_rgb = xy.new_zeros(len(xy), 3).index_put((index[:, 0],), rgb.to(xy.dtype))
        full_alpha = xy.new_zeros(len(xy)).index_put((index[:, 0],), alpha.to(xy.dtype))
        return full_rgb, full_alpha

    def render_pixels(
        self,
        rays: Rays,
        xy: Float[Tensor, "n 2"],
        background: Float[Tensor, "n 3"],
        head_state: HeadState,
        torso_state: TorsoState,
        jitter: Float[Tensor, " n"] | None = None,
        room: int | None = None,
    ) -> tuple[Float[Tensor, "n 3"], RenderOutput, Samples]:
        """Finished pixels: head over torso over background."""
        head, samples = self.render_head(rays, head_state, jitter, room=room)
        rgb, alpha = self.render_torso(xy, rays.frame, torso_state)
        behind = rgb * alpha[:, None] + background * (1 - alpha[:, None])
        return head.rgb + behind * (1 - head.alpha[:, None]), head, samples

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
            eye: eye control, percent of the image area; 0.25 is open.
            torso_motion: shift and turn of the torso; predicted from the pose when not given.
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
                head, _ = self.render_head(rays, head_state)
                image[pixel] = head.rgb + behind * (1 - head.alpha[:, None])
                continue
            xy = uv / torch.tensor([width, height], device=device) * 2 - 1
            image[pixel], _, _ = self.render_pixels(rays, xy, behind, head_state, torso_state)
        return image.view(height, width, 3).clamp(0, 1)
