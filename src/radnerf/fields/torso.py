"""The torso: a 2D field deformed by the head pose (RAD-NeRF section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from radnerf.fields.encodings import Encoding, GridEncoding
from radnerf.fields.mlp import MLP, columns
from radnerf.geometry.rotations import rotation_from_euler, turned
from radnerf.kernels.dispatch import Unsupported
from radnerf.kernels.encodings import frequency_encode
from radnerf.kernels.tensors import TorsoState, TorsoTensors
from radnerf.registry import component

# Where the anchors start (up, towards the camera, right of the head): two cheeks and the brow.
ANCHORS = ((-0.1, 0.1, -0.1), (-0.1, 0.1, 0.1), (0.1, 0.1, 0.0))


@component("anchors")
class HeadAnchors(nn.Module):
    """Three points of the head, learned, where the camera sees them (ER-NeRF's adaptive pose).

    Their places in the image say what the pose says, in the units that the torso is drawn in.

    Args:
        points: where they start, in world units.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, points: Sequence[Sequence[float]] = ANCHORS) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.tensor(points, dtype=torch.float32))
        self.register_buffer("mean", torch.zeros(self.points.shape[0] * 2))
        self.register_buffer("scale", torch.ones(self.points.shape[0] * 2))

    @torch.no_grad()
    def normalise(self, pose: Float[Tensor, "t 6"]) -> None:
        """From now on, places are in standard deviations of what these poses give."""
        places = self.places(pose)
        self.mean.copy_(places.mean(0))
        self.scale.copy_(places.std(0).clamp_min(1e-4))

    def places(self, pose: Float[Tensor, "f 6"]) -> Float[Tensor, "f n"]:
        """Places in the image (x, y of each) at a focal length of 1 and about its centre."""
        from_world = rotation_from_euler(pose[:, :3]).mT
        camera = turned(from_world[:, None], self.points - pose[:, None, 3:])
        return (camera[..., :2] / camera[..., 2:].clamp_min(1e-3)).flatten(1)

    def forward(self, pose: Float[Tensor, "f 6"]) -> Float[Tensor, "f n"]:
        return (self.places(pose) - self.mean) / self.scale


@component("field")
class TorsoField(nn.Module):
    """Color and coverage of image points, one sample a pixel.

    Args:
        grid: encoder of the deformed image plane.
        n_frames: number of training frames, each with an individual code.
        shrink: image coordinates are shrunk so that the deformation can reach past the border.
        pose_octaves: of the frequency encoding of the head pose, or of the anchors.
        code_dim: width of the individual codes; 0 for none.
        normalise_pose: the pose is seen in standard deviations of the training frames; the paper
            takes it raw.
        deforms: what it sees is bent by the head pose; else only moved as one piece.
        anchors: drive the deformation in place of the pose vector.
        tracked: the torso is moved as one piece before it is deformed; the paper does not.
        test_code: training frame whose code is used at test; None for the zero code.
    """

    motion_map: Tensor
    pose_mean: Tensor
    pose_scale: Tensor

    def __init__(
        self,
        grid: Encoding,
        n_frames: int,
        shrink: float = 0.8,
        point_octaves: int = 10,
        pose_octaves: int = 4,
        code_dim: int = 8,
        deform_hidden: int = 64,
        hidden: int = 32,
        normalise_pose: bool = False,
        anchors: HeadAnchors | None = None,
        deforms: bool = True,
        tracked: bool = True,
        test_code: int | None = None,
    ) -> None:
        super().__init__()
        self.test_code = test_code
        self.grid = grid
        self.shrink = shrink
        self.point_octaves = point_octaves
        self.pose_octaves = pose_octaves
        self.tracked = tracked
        self.deforms = deforms
        self.normalise_pose = normalise_pose
        point_dim = 2 * (1 + 2 * point_octaves)
        pose_dim = 6 if anchors is None else anchors.points.shape[0] * 2
        frame_dim = pose_dim * (1 + 2 * pose_octaves) + code_dim
        self.deform_net = MLP(point_dim, [deform_hidden, deform_hidden, 2], frame_dim=frame_dim)
        self.torso_net = MLP(grid.width + point_dim, [hidden, hidden, 4], frame_dim=frame_dim)
        self.codes = nn.Parameter(0.1 * torch.randn(n_frames, code_dim))
        self.anchors = anchors
        self.register_buffer("motion_map", torch.zeros(7, 3))
        self.register_buffer("pose_mean", torch.zeros(6))
        self.register_buffer("pose_scale", torch.ones(6))

    @torch.no_grad()
    def fit(self, pose: Float[Tensor, "t 6"], motion: Float[Tensor, "t 3"]) -> None:
        """Remember, of the training frames, how poses spread, and how the torso moves with them.

        The latter by a ridge regression.
        """
        if self.normalise_pose:
            self.pose_mean.copy_(pose.mean(0))
            self.pose_scale.copy_(pose.std(0).clamp_min(1e-3))
            if self.anchors is not None:
                self.anchors.normalise(pose)
        if not self.tracked:
            return
        x = self._affine((pose - self.pose_mean) / self.pose_scale).double()
        penalty = 0.01 * len(x) * torch.eye(7, dtype=x.dtype, device=x.device)
        self.motion_map.copy_(torch.linalg.solve(x.T @ x + penalty, x.T @ motion.double()))

    def predicted_motion(self, pose: Float[Tensor, "f 6"]) -> Float[Tensor, "f 3"]:
        """Where the torso is for a head pose alone."""
        affine = self._affine((pose - self.pose_mean) / self.pose_scale)
        # No matrix product, which autocast would round to 16 bits.
        return (affine[..., None] * self.motion_map).sum(-2)

    @staticmethod
    def _affine(pose: Float[Tensor, "f 6"]) -> Float[Tensor, "f 7"]:
        return torch.cat([pose, torch.ones_like(pose[:, :1])], -1)

    def state(
        self,
        pose: Float[Tensor, "f 6"],
        index: Int[Tensor, " f"],
        motion: Float[Tensor, "f 3"] | None = None,
    ) -> TorsoState:
        """Encode head poses; index -1 takes the code of test.

        Args:
            motion: shift and rotation of the torso (geometry/motion.py); predicted when not given.
        """
        if motion is None or not self.tracked:
            motion = self.predicted_motion(pose)
        if self.anchors is None:
            pose = (pose - self.pose_mean) / self.pose_scale
        else:
            pose = self.anchors(pose)
        if self.test_code is not None:
            index = torch.where(index < 0, self.test_code, index)
        code = self.codes[index.clamp_min(0)] * (index >= 0)[:, None]
        features = torch.cat([frequency_encode(pose, self.pose_octaves), code], -1)
        return TorsoState(features, motion)

    def forward(
        self, xy: Float[Tensor, "n 2"], frame: Int[Tensor, " n"], state: TorsoState
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, " n"]]:
        """RGB (straight) and alpha of image points in [-1, 1]^2; frame is each point's row."""
        shift, angle = state.motion[frame, :2], state.motion[frame, 2]
        x, y = (xy - shift).unbind(-1)
        cos, sin = angle.cos(), angle.sin()
        xy = torch.stack([cos * x + sin * y, cos * y - sin * x], -1) * self.shrink
        encoded = frequency_encode(xy, self.point_octaves)
        offset = self.deforms * self.deform_net(encoded, state.features, frame)
        warped = (xy + offset).clamp(-1, 1)
        features = torch.cat([self.grid((warped + 1) / 2), encoded], -1)
        out = torch.sigmoid(self.torso_net(features, state.features, frame))
        return out[:, 1:], out[:, 0]

    def tensors(self) -> TorsoTensors | Unsupported:
        """All of it, for operators that compute it at once."""
        if not isinstance(self.grid, GridEncoding):
            return Unsupported("the torso encoder is no grid")
        deform_first, deform_hidden, offset = self.deform_net.weights
        torso_first, torso_hidden, color = self.torso_net.weights
        point_dim = self.deform_net.point_dim
        deform_of_point, deform_of_frame = columns(deform_first, point_dim)
        of_grid, of_point, of_frame = columns(torso_first, self.grid.width, point_dim)
        return TorsoTensors(
            grid=self.grid.tensors(),
            deform_of_point=deform_of_point,
            deform_of_frame=deform_of_frame,
            deform_hidden=deform_hidden,
            offset=offset * self.deforms,
            torso_of_grid=of_grid,
            torso_of_point=of_point,
            torso_of_frame=of_frame,
            torso_hidden=torso_hidden,
            color=color,
            shrink=self.shrink,
            point_octaves=self.point_octaves,
            tracked=self.tracked,
        )
