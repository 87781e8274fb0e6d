from __future__ import annotations

import pytest
import torch

from radnerf.audio import AudioAugment, ChannelMask


@pytest.fixture
def audio() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    values = 3 * torch.rand(6, 8, 16, 20, generator=generator) + 1
    values[:, :2] = 0.0  # two silent frames
    return values


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_seed_decides(audio: torch.Tensor) -> None:
    augment = AudioAugment()
    assert torch.equal(augment(audio, seeded(1)), augment(audio, seeded(1)))
    assert not torch.equal(augment(audio, seeded(1)), augment(audio, seeded(2)))


def test_silence_stays_silence_and_nothing_turns_negative(audio: torch.Tensor) -> None:
    out = AudioAugment(gain=3.0, tilt=3.0, warp=0.2)(audio, seeded(0))
    assert torch.all(out[:, :2] == 0)
    assert torch.all(out >= 0)


def test_gain_is_one_level_a_frame_of_the_asked_spread(audio: torch.Tensor) -> None:
    loud = audio[:1, 2:3].expand(2000, 8, 16, 20) + 10
    change = AudioAugment(gain=0.4, tilt=0.0, warp=0.0)(loud, seeded(0)) - loud
    per_frame = change[:, 0, 0, 0]
    torch.testing.assert_close(
        change, per_frame[:, None, None, None].expand_as(change), atol=1e-4, rtol=0
    )
    assert per_frame.std().item() == pytest.approx(0.4, rel=0.1)


def test_the_warp_moves_a_peak_along_the_mel_axis_and_keeps_its_height() -> None:
    bands = torch.arange(40.0)
    hill = (3 - (bands - 20).abs() / 5).clamp(min=0).expand(200, 8, 16, 40)
    out = AudioAugment(gain=0.0, tilt=0.0, warp=0.1)(hill, seeded(0))
    peak = out[:, 0, 0].argmax(-1)
    assert 1 < peak.float().std() < 6
    assert out.amax(-1).min() > 2.8
    assert torch.equal(AudioAugment(0.0, 0.0, 0.0)(hill, seeded(0)), hill)


def test_a_mask_is_the_same_at_all_times_of_a_frame_and_keeps_the_mean() -> None:
    ones = torch.ones(2000, 8, 16, 12)
    masked = ChannelMask(0.75)(ones, seeded(0))
    assert set(masked.unique().tolist()) == {0.0, 4.0}
    assert torch.equal(masked, masked[:, :1, :1].expand_as(masked))
    assert not torch.equal(masked[0], masked[1])
    assert masked.mean() == pytest.approx(1.0, abs=0.03)
