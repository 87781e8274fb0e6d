"""Figures of frames, or the reason why there are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from radnerf.metrics import frames
from radnerf.metrics.syncnet import SyncNet


class Small(SyncNet):
    """A network that sees brightness and hears loudness."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def see(self, faces: torch.Tensor) -> torch.Tensor:
        return faces.float().mean((1, 2, 3))

    def hear(self, coefficients: torch.Tensor) -> torch.Tensor:
        return coefficients[:, :3].mean(2)


def test_sync_is_measured_on_the_face_cut_out_of_each_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frames, "load_syncnet", lambda path: Small())
    sync = frames.SyncMetric.open("w", np.zeros(16000, np.float32), 25.0, ("full",))
    for gray in range(12):
        sync.update({"full": np.full((60, 60, 3), gray, np.uint8)}, np.array([30.0, 30.0, 10.0]))
    found = sync.compute()
    assert set(found) == {f"full.sync_{x}" for x in ("confidence", "distance", "offset_frames")}
    assert all(np.isfinite(value) for value in found.values())


def test_psnr_of_every_rendering_and_ssim_of_the_full_one() -> None:
    metrics = frames.ImageMetrics()
    truth = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    metrics.update("full", truth, truth)
    metrics.update("head", np.clip(truth, 10, None), truth)
    found = metrics.compute()
    assert set(found) == {"full.ssim", "full.psnr", "head.psnr"}
    assert found["full.ssim"] == pytest.approx(1.0, abs=1e-5)
    assert found["full.psnr"] > found["head.psnr"] > 30


def test_sync_of_other_frame_rates_has_a_reason() -> None:
    found = frames.SyncMetric.open("w", np.zeros(16000, np.float32), 30.0, ("full",)).compute()
    assert found["full.sync_confidence"] is None and "30" in found["full.sync_confidence.reason"]
