from __future__ import annotations

import pytest
import torch

from radnerf.fields.audio_net import (
    AudioNet,
    close_in_pauses,
    mouth_codes,
    pretrain_audio_net,
    rest_code,
    smooth,
    smooth_track,
)


@pytest.mark.parametrize("dim", [29, 40, 1024])
def test_a_code_a_frame(dim: int) -> None:
    assert AudioNet(dim)(torch.randn(3, 8, 16, dim)).shape == (3, 64)


def test_the_code_depends_on_neighbours_only_with_attention() -> None:
    torch.manual_seed(0)
    audio = torch.randn(2, 8, 16, 10)
    other = audio.clone()
    other[:, 0] += 1.0
    with_attention, without = AudioNet(10).eval(), AudioNet(10, attention=False).eval()
    assert not torch.allclose(with_attention(audio), with_attention(other))
    assert torch.equal(without(audio), without(other))


def test_attention_is_a_convex_mean_of_the_frames_codes() -> None:
    torch.manual_seed(0)
    net = AudioNet(10).eval()
    assert net.attention is not None
    codes = torch.randn(5, 8, 64)
    mean = net.attention(codes)
    assert torch.all(mean <= codes.max(1).values + 1e-6)
    assert torch.all(mean >= codes.min(1).values - 1e-6)
    same = codes[:, :1].expand(5, 8, 64)
    torch.testing.assert_close(net.attention(same), codes[:, 0])


def test_every_parameter_is_of_the_audio_or_the_attention() -> None:
    net = AudioNet(10)
    groups = net.rate_groups()
    assert groups["audio"] == list(net.window_net.parameters())
    grouped = {p for parameters in groups.values() for p in parameters}
    assert grouped == set(net.parameters()) and groups["attention"]
    assert AudioNet(10, attention=False).rate_groups()["attention"] == []


def test_smoothing_keeps_a_third_of_the_past() -> None:
    codes = torch.tensor([[1.0], [0.0], [0.0]])
    first, state = smooth(codes[0], None)
    second, state = smooth(codes[1], state)
    third, _ = smooth(codes[2], state)
    assert [first.item(), second.item(), third.item()] == pytest.approx([1.0, 0.35, 0.35**2])
    torch.testing.assert_close(smooth_track(codes), torch.stack([first, second, third]))


def test_pretraining_finds_the_mouth_in_unheard_sound() -> None:
    generator = torch.Generator().manual_seed(0)
    audio = torch.rand(400, 8, 16, 6, generator=generator)
    opening = torch.rand(400, generator=generator)
    audio[:, 2:6, :, 2] += 3 * opening[:, None, None]
    mouth = torch.stack([opening - 0.5, 0.5 - opening], 1) / opening.std()
    torch.manual_seed(0)
    net = AudioNet(6)
    codes = mouth_codes(mouth, net.code_dim)
    pretrain_audio_net(net, audio[:300].__getitem__, codes[:300], n_steps=120)
    with torch.no_grad():
        heard = net(audio[300:]) @ torch.linalg.pinv(mouth_codes(torch.eye(2), net.code_dim))
    correlation = torch.corrcoef(torch.stack([heard[:, 0], mouth[300:, 0]]))[0, 1]
    assert correlation > 0.9


def test_codes_of_mouth_shapes_keep_their_distances() -> None:
    mouth = torch.randn(9, 6)
    codes = mouth_codes(mouth, 64)
    torch.testing.assert_close(torch.cdist(codes, codes), 2 * torch.cdist(mouth, mouth))
    assert torch.equal(codes, mouth_codes(mouth, 64))


def test_the_rest_code_is_a_typical_one_of_a_closed_mouth() -> None:
    opening = torch.arange(20.0)
    codes = opening[:, None].repeat(1, 3)
    codes[0] = 50.0  # closed, but unlike the other closed frames
    assert torch.equal(rest_code(codes, opening, fraction=0.25), codes[3])


def test_pauses_get_the_rest_code_and_speech_its_own() -> None:
    codes, rest = torch.randn(3, 64), torch.randn(64)
    out = close_in_pauses(codes, rest, torch.tensor([1.0, 0.5, 0.0]))
    torch.testing.assert_close(out, torch.stack([codes[0], (codes[1] + rest) / 2, rest]))
