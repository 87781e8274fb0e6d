"""Landmarks of rendered frames, and how well the mouth follows."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional import pearson_corrcoef

from radnerf.faces.mesh import FaceTracker
from radnerf.geometry.face68 import MESH_TO_68, MOUTH, mouth_opening
from radnerf.models import FACE_DETECTOR, FACE_MESH, needed

# The detector's network sees the face at 192 px; smaller frames are enlarged first, because its
# face finder misses them otherwise.
MIN_SIDE = 384


class FaceLandmarks:
    """68 landmarks of single frames; no frame influences another, as a metric must not smooth.

    Raises:
        UserError: the networks are not on this machine.
    """

    def __init__(self) -> None:
        networks = needed(FACE_DETECTOR), needed(FACE_MESH)
        self._find = FaceTracker(*networks, most=1, follow=False)

    def __call__(self, frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "68 2"] | None:
        """Landmarks in pixels (x, y) of the frame, or None without a face."""
        height, width = frame.shape[:2]
        scale = MIN_SIDE / min(height, width)
        if scale > 1:
            grown = (round(width * scale), round(height * scale))
            frame = cv2.resize(frame, grown, interpolation=cv2.INTER_CUBIC)
        faces = self._find(frame)
        if not faces:
            return None
        back = np.array([width, height], np.float32) / frame.shape[1::-1]
        return (faces[0][list(MESH_TO_68), :2] * back).astype(np.float32)

    def track(self, frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Float[Tensor, "t 68 2"]:
        """Landmarks of every frame; NaN where there is no face."""
        missing = np.full((68, 2), np.nan, np.float32)
        found = [self(frame) for frame in frames]
        rows = [missing if points is None else points for points in found]
        return torch.from_numpy(np.stack(rows)) if rows else torch.zeros(0, 68, 2)


class LandmarkDistance(Metric):
    """LMD: mean distance in pixels of the 20 mouth landmarks, each set about its own mean.

    Frames with NaN landmarks (no face) do not count; the result is NaN when none counts.
    Chen et al., ECCV 2018, as the talking-portrait papers compute it.
    """

    full_state_update = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, rendered: Float[Tensor, "t 68 2"], true: Float[Tensor, "t 68 2"]) -> None:
        """Add frames."""
        pair = [x[:, MOUTH].double() for x in (rendered, true)]
        first, second = (x - x.mean(1, keepdim=True) for x in pair)
        distance = (first - second).norm(dim=-1).mean(-1)
        counts = distance.isfinite()
        self.total += distance[counts].sum()
        self.count += counts.sum()

    def compute(self) -> Tensor:
        return self.total / self.count


class MouthCorrelation(Metric):
    """Pearson correlation of the mouth opening over time between rendered and true landmarks.

    Frames with NaN landmarks (no face) do not count; NaN with fewer than two frames or a mouth
    that never moves.
    """

    full_state_update = False
    higher_is_better = True
    rendered: list[Tensor]
    true: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rendered", [], dist_reduce_fx="cat")
        self.add_state("true", [], dist_reduce_fx="cat")

    def update(self, rendered: Float[Tensor, "t 68 2"], true: Float[Tensor, "t 68 2"]) -> None:
        """Add frames."""
        pair = [torch.from_numpy(mouth_opening(x.double().cpu().numpy())) for x in (rendered, true)]
        counts = pair[0].isfinite() & pair[1].isfinite()
        self.rendered.append(pair[0][counts])
        self.true.append(pair[1][counts])

    def compute(self) -> Tensor:
        rendered, true = torch.cat(self.rendered), torch.cat(self.true)
        if len(true) < 2 or rendered.std() == 0 or true.std() == 0:
            return torch.tensor(torch.nan, dtype=torch.float64)
        return pearson_corrcoef(rendered, true)
