import math

import pytest
import torch

from radnerf.losses import (
    PerceptualLips,
    alpha_entropy,
    color_error,
    eye_error,
    outside_motion,
    structural_error,
)
from radnerf.losses.structural import ssim
from radnerf.metrics.lpips import Lpips


def test_color_error_by_hand() -> None:
    assert color_error(torch.zeros(2, 3), torch.full((2, 3), 0.5)).item() == pytest.approx(0.25)


def test_entropy_is_one_bit_at_a_half_and_nothing_at_the_ends() -> None:
    assert alpha_entropy(torch.tensor([0.5])).item() == pytest.approx(1.0)
    assert alpha_entropy(torch.tensor([0.0, 1.0])).item() < 1e-3
    quarter = -0.25 * math.log2(0.25) - 0.75 * math.log2(0.75)
    assert alpha_entropy(torch.tensor([0.25])).item() == pytest.approx(quarter, rel=1e-4)


def test_only_rays_outside_the_face_are_held_still() -> None:
    ambient = torch.tensor([3.0, 5.0], requires_grad=True)
    loss = outside_motion(ambient, torch.tensor([True, False]))
    loss.backward()
    assert loss.item() == pytest.approx(2.5)
    assert ambient.grad is not None and ambient.grad.tolist() == [0.0, 0.5]


def test_rays_at_shut_eyes_count_as_they_are_shut() -> None:
    target = torch.zeros(4, 3)
    prediction = torch.tensor([[0.3] * 3, [0.6] * 3, [0.6] * 3, [0.9] * 3])
    eyes = torch.tensor([True, True, True, False])
    closed = torch.tensor([0.0, 0.5, 1.0, 1.0])
    expected = (0.5 * 0.36 + 1.0 * 0.36) / 4
    assert eye_error(prediction, target, eyes, closed).item() == pytest.approx(expected)


def test_lpips_takes_patches_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("radnerf.losses.lips.load_lpips", lambda backbone: Lpips())
    error = PerceptualLips(backbone="random weights")
    for size in ((11, 11), (80, 70)):
        patch, other = torch.rand(2, 2, 3, *size).unbind(0)
        patch.requires_grad_(True)
        error.error(patch, other).backward()
        assert patch.grad is not None and patch.grad.abs().sum() > 0
        assert error.error(other, other).item() == 0


def test_ssim_agrees_with_a_plain_loop() -> None:
    x, y = torch.rand(2, 1, 1, 9, 8, dtype=torch.float64)
    values = []
    for i in range(3):
        for j in range(2):
            a, b = (t[0, 0, i : i + 7, j : j + 7] for t in (x, y))
            cov = ((a - a.mean()) * (b - b.mean())).mean()
            top = (2 * a.mean() * b.mean() + 1e-4) * (2 * cov + 9e-4)
            var = a.var(unbiased=False) + b.var(unbiased=False)
            values.append(top / ((a.mean() ** 2 + b.mean() ** 2 + 1e-4) * (var + 9e-4)))
    assert torch.allclose(ssim(x, y), torch.stack(values).mean())


def test_structural_error_punishes_blur_more_than_brightness() -> None:
    generator = torch.Generator().manual_seed(0)
    sharp = (torch.rand(1, 3, 32, 32, generator=generator) > 0.5).float()
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, 1, 1)
    assert structural_error(sharp, sharp).item() == pytest.approx(0.0, abs=1e-6)
    # The same mean squared error, spent on brightness instead of structure.
    error = torch.mean((blurred - sharp) ** 2).sqrt()
    brighter = sharp + error
    assert structural_error(blurred, sharp) > 2 * structural_error(brighter, sharp)
