import numpy as np
import pytest
import torch

from radnerf.metrics import psnr, ssim


def test_psnr_is_the_mean_over_frames():
    true = torch.zeros(2, 3, 16, 16)
    rendered = true.clone()
    rendered[0] += 0.1  # 20 dB
    rendered[1] += 0.01  # 40 dB
    metric = psnr()
    for a, b in zip(rendered, true, strict=True):
        metric.update(a[None], b[None])
    assert metric.compute() == pytest.approx(30, abs=1e-3)


def test_ssim_of_flat_images_by_hand():
    # Without structure only the luminance term is left.
    a, b, c1 = 0.5, 0.3, 0.01**2
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    flat = torch.ones(1, 3, 32, 32)
    assert ssim()(flat * a, flat * b) == pytest.approx(expected, abs=1e-4)


def test_ssim_falls_with_noise():
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.uniform(0, 1, (1, 3, 64, 64))).float()
    noise = torch.from_numpy(rng.normal(0, 1, image.shape)).float()
    values = [float(ssim()((image + s * noise).clamp(0, 1), image)) for s in (0.0, 0.05, 0.2)]
    assert values[0] == pytest.approx(1) and values[0] > values[1] > values[2]
