"""What is measured of frames, one at a time: figures by name, or the reason why there are none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchmetrics import Metric

from radnerf.errors import UserError
from radnerf.geometry.face68 import mouth_opening
from radnerf.metrics.image import psnr, ssim
from radnerf.metrics.landmarks import FaceLandmarks, LandmarkDistance, MouthCorrelation
from radnerf.metrics.lpips import PerceptualDistance, load_lpips
from radnerf.metrics.offset import AudioOffset, MouthOffset
from radnerf.metrics.syncnet import FPS as SYNCNET_FPS
from radnerf.metrics.syncnet import SyncConfidence, SyncNet, crop_face, load_syncnet

Frame = UInt8[np.ndarray, "h w 3"]


class ImageMetrics:
    """PSNR of several renderings, and SSIM of the full one."""

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {"full.ssim": ssim()}

    def update(self, name: str, rendered: Frame, truth: Frame) -> None:
        self.metrics.setdefault(f"{name}.psnr", psnr())
        for key, metric in self.metrics.items():
            if key.rpartition(".")[0] == name:
                metric.update(_image(rendered), _image(truth))

    def compute(self) -> dict[str, float]:
        return {key: float(metric.compute()) for key, metric in self.metrics.items()}


@dataclass
class MouthMetrics:
    """Landmark distance and mouth correlation of several renderings; nothing without a detector.

    Of the rendering named full also how late its mouth is, against the true one and the sound.
    """

    detector: FaceLandmarks | None
    wave: Float[np.ndarray, " samples"]
    fps: float
    reason: str = ""
    distance: dict[str, LandmarkDistance] = field(default_factory=dict)
    correlation: dict[str, MouthCorrelation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.offset = MouthOffset(self.fps)
        self.audio_offsets = {name: AudioOffset(self.wave, self.fps) for name in ("full", "truth")}

    @classmethod
    def open(cls, wave: Float[np.ndarray, " samples"], fps: float) -> MouthMetrics:
        try:
            return cls(FaceLandmarks(), wave, fps)
        except UserError as error:
            return cls(None, wave, fps, str(error))

    def update(self, rendered: dict[str, Frame], truth: Frame) -> None:
        """Add a frame."""
        true = None if self.detector is None else self.detector.track([truth])
        for name, frame in rendered.items():
            distance = self.distance.setdefault(name, LandmarkDistance())
            correlation = self.correlation.setdefault(name, MouthCorrelation())
            if self.detector is not None and true is not None:
                found = self.detector.track([frame])
                distance.update(found, true)
                correlation.update(found, true)
                if name == "full":
                    opened, truly = (
                        torch.from_numpy(mouth_opening(x.numpy())) for x in (found, true)
                    )
                    self.offset.update(opened, truly)
                    self.audio_offsets["full"].update(opened)
                    self.audio_offsets["truth"].update(truly)

    def compute(self) -> dict[str, Any]:
        if self.detector is None:
            names = [f"{name}.lmd" for name in self.distance] + ["full.offset_ms"]
            return dict.fromkeys(names) | {f"{name}.reason": self.reason for name in names}
        distance = {
            f"{name}.lmd": float(metric.compute()) for name, metric in self.distance.items()
        }
        correlation = {
            f"{name}.mouth_correlation": float(metric.compute())
            for name, metric in self.correlation.items()
        }
        values = distance | correlation | {"full.offset_ms": float(self.offset.compute())}
        for name, metric in self.audio_offsets.items():
            values |= audio_offset_values(name, metric)
        return values


def audio_offset_values(name: str, metric: AudioOffset) -> dict[str, Any]:
    """Figures of a mouth against its sound, with the reason where there are none."""
    values: dict[str, Any] = {f"{name}.audio_{k}": float(v) for k, v in metric.compute().items()}
    if np.isnan(values[f"{name}.audio_offset_ms"]):
        reason = "Less than 4 seconds, or a mouth or sound that never changes."
        values[f"{name}.audio_offset_ms.reason"] = reason
    return values


@dataclass
class PerceptualMetric:
    """LPIPS of the full rendering, or nothing with the reason."""

    metric: PerceptualDistance | None
    reason: str = ""

    @classmethod
    def open(cls, backbone: str | None) -> PerceptualMetric:
        try:
            return cls(PerceptualDistance(load_lpips(backbone)))
        except UserError as error:
            return cls(None, str(error))

    def update(self, rendered: Frame, truth: Frame) -> None:
        """Add a frame."""
        if self.metric is not None:
            self.metric.update(_image(rendered), _image(truth))

    def compute(self) -> dict[str, Any]:
        if self.metric is None:
            return {"full.lpips": None, "full.lpips.reason": self.reason}
        return {"full.lpips": float(self.metric.compute())}


@dataclass
class SyncMetric:
    """SyncNet's confidence in several videos with the same sound, or nothing with the reason."""

    metrics: dict[str, SyncConfidence]
    names: tuple[str, ...]
    reason: str = ""

    @classmethod
    def open(
        cls,
        weights: str | None,
        wave: Float[np.ndarray, " samples"],
        fps: float,
        names: tuple[str, ...],
    ) -> SyncMetric:
        if fps != SYNCNET_FPS:
            return cls({}, names, f"SyncNet judges 25 frames a second, and the clip has {fps:g}.")
        try:
            model: SyncNet = load_syncnet(weights)
        except UserError as error:
            return cls({}, names, str(error))
        return cls({name: SyncConfidence(model, wave) for name in names}, names)

    def update(self, frames: dict[str, Frame], box: Float[np.ndarray, " 3"]) -> None:
        """Add a frame of each video, the face in the same place."""
        for name, metric in self.metrics.items():
            metric.update(torch.from_numpy(crop_face(frames[name], box))[None])

    def compute(self) -> dict[str, Any]:
        if not self.metrics:
            name = f"{self.names[0]}.sync_confidence"
            return {name: None, f"{name}.reason": self.reason}
        return {
            f"{name}.sync_{key}": float(value)
            for name, metric in self.metrics.items()
            for key, value in metric.compute().items()
        }


def _image(frame: Frame) -> Float[Tensor, "1 3 h w"]:
    return torch.tensor(frame).permute(2, 0, 1)[None].float() / 255
