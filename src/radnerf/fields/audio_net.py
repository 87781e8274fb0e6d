"""Audio feature windows to the audio code that moves the face (RAD-NeRF section 3.2).

Letters: F frames, C feature width, D code width.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from radnerf.conventions import ATTENTION_FRAMES
from radnerf.registry import component

ATTENTION_FACTOR = 5.0  # the attention learns so many times faster (public code)
CODE_SCALE = 2.0  # of the codes that stand for mouth shapes
SMOOTHING = 0.35  # fraction of the previous frame's code at test time


def _along_time(
    layers: nn.Sequential, x: Float[Tensor, "n before c"]
) -> Float[Tensor, "n after d"]:
    """Convolutions of width 3, and what is between them, with time before the channels.

    As matrix products: a third faster than convolutions of so few channels, forward and backward.
    """
    for layer in layers:
        if isinstance(layer, nn.Conv1d):
            windows = pad(x, (0, 0, 1, 1)).unfold(1, 3, layer.stride[0])
            x = linear(windows.flatten(2), layer.weight.flatten(1), layer.bias)
        else:
            x = layer(x)
    return x


class WindowNet(nn.Module):
    """One frame's 16 feature steps to a code: four strided convolutions and two layers."""

    def __init__(self, dim: int, code_dim: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        widths = (dim, 32, 32, 64, 64)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv1d(before, after, 3, stride=2, padding=1), nn.LeakyReLU(0.02)]
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(64, 64),
            nn.LeakyReLU(0.02),
            nn.Linear(64, code_dim),
        )

    def forward(self, window: Float[Tensor, "n 16 c"]) -> Float[Tensor, "n d"]:
        return self.head(_along_time(self.convolutions, window).squeeze(1))


class FrameAttention(nn.Module):
    """Weighted mean of the codes of neighbouring frames, for steady lips."""

    def __init__(self, code_dim: int = 64) -> None:
        super().__init__()
        widths = (code_dim, 16, 8, 4, 2, 1)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv1d(before, after, 3, padding=1), nn.LeakyReLU(0.02)]
        self.convolutions = nn.Sequential(*layers)
        self.weights = nn.Linear(ATTENTION_FRAMES, ATTENTION_FRAMES)

    def forward(self, codes: Float[Tensor, "f 8 d"]) -> Float[Tensor, "f d"]:
        scores = self.weights(_along_time(self.convolutions, codes).squeeze(-1))
        return (scores.softmax(-1)[..., None] * codes).sum(1)


@component("audio_net")
class AudioNet(nn.Module):
    """The audio feature extractor: WindowNet on each of 8 frames, then attention over them.

    Without attention, the code is that of the middle frame alone (row 4, the frame itself).
    """

    def __init__(
        self, dim: int, code_dim: int = 64, attention: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dim = dim
        self.code_dim = code_dim
        self.window_net = WindowNet(dim, code_dim, dropout)
        self.attention = FrameAttention(code_dim) if attention else None

    def forward(self, audio: Float[Tensor, "f 8 16 c"]) -> Float[Tensor, "f d"]:
        if self.attention is None:
            return self.window_net(audio[:, ATTENTION_FRAMES // 2])
        codes = self.window_net(audio.flatten(0, 1))
        return self.attention(codes.unflatten(0, audio.shape[:2]))

    def rate_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by the learning rate that they follow: see LearningRates."""
        attention = [] if self.attention is None else list(self.attention.parameters())
        return {"audio": list(self.window_net.parameters()), "attention": attention}


def smooth(
    code: Float[Tensor, " d"], state: Float[Tensor, " d"] | None
) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Lip smoothing at test time: a_t = 0.35 a_(t-1) + 0.65 a_t; the state of frame 0 is None."""
    smoothed = code if state is None else SMOOTHING * state + (1 - SMOOTHING) * code
    return smoothed, smoothed


def smooth_track(codes: Float[Tensor, "t d"]) -> Float[Tensor, "t d"]:
    """Lip smoothing of consecutive frames' codes."""
    state: Tensor | None = None
    rows = []
    for code in codes:
        row, state = smooth(code, state)
        rows.append(row)
    return torch.stack(rows)


def rest_code(
    codes: Float[Tensor, "t d"], opening: Float[Tensor, " t"], fraction: float = 0.1
) -> Float[Tensor, " d"]:
    """The code of a closed mouth: the most typical of the frames that have it most closed.

    Args:
        codes: audio codes of the training frames.
        opening: their mouth openings, in any unit.
        fraction: of the frames that count as closed.
    """
    n_closed = max(1, round(fraction * len(codes)))
    closed = codes[opening.argsort()[:n_closed]]
    return closed[torch.cdist(closed, closed).sum(1).argmin()]


def close_in_pauses(
    codes: Float[Tensor, "t d"], rest: Float[Tensor, " d"], activity: Float[Tensor, " t"]
) -> Float[Tensor, "t d"]:
    """Codes that go to the closed mouth where there is no speech (see audio.speech_activity).

    People keep the mouth half open, or breathe in, in the pauses of a short training video, so an
    audio net cannot learn from it that silence means a closed mouth.
    """
    return rest + activity[:, None] * (codes - rest)


def mouth_codes(mouth: Float[Tensor, "t k"], code_dim: int, seed: int = 0) -> Float[Tensor, "t d"]:
    """Audio codes that stand for mouth shapes: the coefficients in the space of codes.

    By a fixed rotation, drawn from the seed.
    """
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(code_dim, code_dim, generator=generator)
    rotation = torch.linalg.qr(square).Q[: mouth.shape[1]]
    return CODE_SCALE * mouth @ rotation.to(mouth)


def pretrain_audio_net(
    net: AudioNet,
    audio: Callable[[Int[Tensor, " f"]], Float[Tensor, "f 8 16 c"]],
    codes: Float[Tensor, "t d"],
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    n_steps: int = 500,
    lr: float = 2e-3,
    seed: int = 0,
) -> None:
    """Teach a fresh audio net the codes of the training frames' mouth shapes, in seconds.

    On twenty seconds of speech, cut in ten, 250 steps leave 72 % of the mouth shapes of a part that
    was left out unexplained, 500 leave 59 %; from 700 on other speech gets worse. Everything
    stays on the net's device.

    Args:
        audio: windows of some training frames; those of all are too many for wide features.
    """
    device = codes.device
    generator = torch.Generator(device).manual_seed(seed)
    rates = {"audio": lr, "attention": lr * ATTENTION_FACTOR}
    groups = [
        {"params": parameters, "lr": rates[kind]}
        for kind, parameters in net.rate_groups().items()
        if parameters
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 20) * 0.1 ** (step / n_steps)
    )
    for _ in range(n_steps):
        frame = torch.randint(len(codes), (24,), generator=generator, device=device)
        windows = audio(frame) if augment is None else augment(audio(frame), generator)
        loss = (net(windows) - codes[frame]).square().sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
