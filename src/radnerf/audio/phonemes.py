"""Features that know speech: states of a small phoneme recogniser whose weights come with pip.

Letters: S feature steps, C feature width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from radnerf.audio.chunks import Sound
from radnerf.audio.extractors import Recorded
from radnerf.audio.neural import NeuralExtractor, Steps
from radnerf.audio.phoneme_net import (
    EDGES,
    N_BLOCKS,
    PACKAGE,
    WIDTH,
    PhonemeNet,
    read_weights,
    weight_file,
)
from radnerf.conventions import FEATURE_RATE
from radnerf.errors import UserError
from radnerf.registry import component


@component("extractor", "phonemes")
@dataclass(frozen=True, kw_only=True)
class PhonemeExtractor(NeuralExtractor):
    """Hidden states of the phoneme recogniser of the package hama, for any language.

    Args:
        model: hama for the installed package, or the path of its asr_waveform.hama.
        layer: blocks of the recogniser that sound goes through, 1 to 4. Later ones know letters
            and forget mouths.
        margin_s: seconds of sound before a chunk that its states know. Shorter ones hear less.
        lookahead_s: and after it, in sound that is yet to come; whole recordings have the margin.
    """

    model: str = PACKAGE
    layer: int = 2
    chunk_s: float = 8.0
    margin_s: float = 1.92
    lookahead_s: float = 0.32

    kind: ClassVar[str] = "phonemes"
    place: ClassVar[str] = "model"
    dim: ClassVar[int] = WIDTH
    edges: ClassVar[tuple[int, int]] = EDGES
    activation_bytes: ClassVar[int] = 50_000_000

    def __post_init__(self) -> None:
        if self.layer not in range(1, N_BLOCKS + 1):
            raise UserError(
                f"audio.extractor.layer={self.layer} is none of the phoneme recogniser's: choose 1 "
                f"to {N_BLOCKS}."
            )

    @property
    def settings(self) -> dict[str, Any]:
        # A folder that happens to have the package's name is not meant.
        return super().settings | ({"model": PACKAGE} if self.model == PACKAGE else {})

    @property
    def weight_files(self) -> list[Path]:
        return [weight_file(self.model)]

    def load(self) -> nn.Module:
        return PhonemeNet(read_weights(weight_file(self.model)))

    @property
    def live_lookahead(self) -> int:
        return round(self.lookahead_s * FEATURE_RATE)

    def runner(self, recorded: Recorded | None) -> Callable[[Sound], Steps]:
        def states(sound: Sound) -> Steps:
            device = next(self.network.buffers()).device
            return self.network(torch.from_numpy(sound).float().to(device), self.layer)

        return states
