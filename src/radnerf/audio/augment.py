"""Other voices, rooms and microphones, made up during training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class AudioAugment:
    """Changes the log-mel windows of each training frame as another recording would.

    Gain and tilt move the values that are not silence; the warp shifts and stretches the mel axis
    like another vocal tract. Values stay non-negative and silence stays silence.

    Args:
        gain: standard deviation of the level change, in feature units (10 dB for MelExtractor).
        tilt: standard deviation of the change from low to high bands, in feature units.
        warp: standard deviation of the stretch of the mel axis.
    """

    def __init__(self, gain: float = 0.4, tilt: float = 0.3, warp: float = 0.03) -> None:
        self.gain = gain
        self.tilt = tilt
        self.warp = warp

    def __call__(
        self, audio: Float[Tensor, "f 8 16 c"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "f 8 16 c"]:
        """Augmented copy; the generator lives on the audio's device."""
        n_bands = audio.shape[-1]
        draw = torch.randn(len(audio), 4, generator=generator, device=audio.device)
        gain, tilt, stretch, shift = draw[:, :, None].unbind(1)

        axis = torch.linspace(-1, 1, n_bands, device=audio.device)
        bands = torch.arange(n_bands, device=audio.device)
        source = bands * (1 + self.warp * stretch) + 0.2 * self.warp * n_bands * shift
        source = source.clamp(0, n_bands - 1)
        low = source.floor().long().clamp(max=max(0, n_bands - 2))
        weight = (source - low)[:, None, None]
        index = low[:, None, None].expand_as(audio)
        upper = (index + 1).clamp(max=n_bands - 1)
        warped = audio.gather(-1, index) * (1 - weight) + audio.gather(-1, upper) * weight

        change = (self.gain * gain + self.tilt * tilt * axis)[:, None, None]
        return torch.where(warped > 0, warped + change, 0.0).clamp(min=0.0)


class ChannelMask:
    """Leaves out some of a frame's feature channels, the same at all of its times.

    The audio net of a short clip otherwise trusts a few channels that happen to fit it. What is
    left is scaled up, as dropout does.

    Args:
        fraction: of the channels that are left out.
    """

    def __init__(self, fraction: float = 0.5) -> None:
        self.fraction = fraction

    def __call__(
        self, audio: Float[Tensor, "f 8 16 c"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "f 8 16 c"]:
        """Masked copy; the generator lives on the audio's device."""
        shape = len(audio), 1, 1, audio.shape[-1]
        kept = torch.rand(shape, generator=generator, device=audio.device) >= self.fraction
        return audio * kept / (1 - self.fraction)
