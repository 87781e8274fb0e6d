"""What all extractors with weights share: chunks, cache keys, settings that a portrait keeps.

Recurrent layers and self-attention see a whole chunk, so that features of a long recording depend,
weakly, on where its chunks begin. The margin leaves every step some seconds of sound on both sides.

Letters: S feature steps, C feature width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from radnerf.audio.chunks import Features, FeatureStream, Sound
from radnerf.audio.extractors import Extractor, Recorded
from radnerf.audio.model_files import content_hash, short_hash
from radnerf.conventions import FEATURE_RATE, HOP
from radnerf.errors import UserError
from radnerf.runtime.devices import choose_device

Steps = Float[Tensor, "steps c"]


@dataclass(frozen=True, kw_only=True)
class NeuralExtractor(Extractor):
    """An extractor with weights, which are loaded when they are first needed.

    Args:
        chunk_s: seconds of a recording that go through the network at once, beside the margins.
        margin_s: more seconds on either side, whose features are thrown away.
        weights: content hash that the model's files must have; None for any.
        device: cpu, cuda, cuda:1 ..., or auto.
    """

    chunk_s: float = 20.0
    margin_s: float = 3.0
    weights: str | None = None
    device: str = "auto"

    kind: ClassVar[str]  # the audio=... that chooses it
    place: ClassVar[str]  # the setting that says where the weights are
    local: ClassVar[frozenset[str]] = frozenset({"device"})  # what a portrait must not choose
    live_chunk: ClassVar[int] = FEATURE_RATE // 5  # each costs the margins once more

    @property
    @abstractmethod
    def edges(self) -> tuple[int, int]:
        """Samples that the network needs around the steps it is asked for, see in_chunks."""

    @property
    @abstractmethod
    def weight_files(self) -> list[Path]: ...

    @property
    def setting_files(self) -> list[Path]:
        """Files beside the weights that change the features."""
        return []

    @property
    @abstractmethod
    def activation_bytes(self) -> int:
        """Roughly what a chunk needs at once, beside the weights."""

    @abstractmethod
    def load(self) -> nn.Module:
        """The network with its weights."""

    @abstractmethod
    def runner(self, recorded: Recorded | None) -> Callable[[Sound], Steps]:
        """What turns parts of a recording, whole steps and the edges, into features.

        Args:
            recorded: see stream().
        """

    @property
    def name(self) -> str:
        return f"{self.kind}_{short_hash(self.fingerprint)}"

    @property
    def plan(self) -> tuple[int, int]:
        """Steps of a chunk and of a margin."""
        chunk, margin = (round(s * FEATURE_RATE) for s in (self.chunk_s, self.margin_s))
        return max(1, chunk), max(0, margin)

    @property
    def live_lookahead(self) -> int:
        """Steps after a chunk that its features wait for in sound that is yet to come."""
        return self.plan[1]

    @property
    def context(self) -> int:
        return self.plan[1] * HOP + max(self.edges)

    @property
    def choices(self) -> dict[str, Any]:
        """The settings of the network itself that change features, beside the weights."""
        others = {"chunk_s", "margin_s", "weights", self.place} | self.local
        return {k: v for k, v in asdict(self).items() if k not in others}

    @property
    def fingerprint(self) -> str:
        return repr((self.kind, self.choices, self.plan, self.content))

    @property
    def settings(self) -> dict[str, Any]:
        place = Path(getattr(self, self.place)).expanduser()
        return {
            "name": self.kind,
            self.place: str(place.resolve()) if place.exists() else getattr(self, self.place),
            **self.choices,
            "chunk_s": self.chunk_s,
            "margin_s": self.margin_s,
            "weights": self.content,
        }

    @property
    def summary(self) -> str:
        weights = sum(file.stat().st_size for file in self.weight_files)
        memory = weights + self.activation_bytes
        return (
            f"{self.kind}, {self.dim} values at {FEATURE_RATE} steps a second, "
            f"{getattr(self, self.place)} ({weights / 1e6:.0f} MB of weights, about "
            f"{memory / 1e9:.1f} GB of memory), {choose_device(self.device)}"
        )

    @cached_property
    def content(self) -> str:
        """Content hash of the model's files.

        Raises:
            UserError: it is not the one that `weights` asks for.
        """
        content = content_hash([*self.setting_files, *self.weight_files])
        if self.weights not in (None, content):
            raise UserError(
                f"{getattr(self, self.place)} is not the speech model that the portrait learned "
                f"from (its files are others): give that one with extractor.{self.place}=/path."
            )
        return content

    @cached_property
    def network(self) -> nn.Module:
        _ = self.content  # another model than the expected one is found before it is loaded
        return self.load().float().eval().requires_grad_(False).to(choose_device(self.device))

    def release(self) -> None:
        self.__dict__.pop("network", None)

    def __call__(self, wave: Sound) -> Features:
        """Features of the steps of a recording of any length."""
        stream = self.stream(lambda: [wave])
        return np.concatenate([stream.push(wave), stream.end()])

    def stream(self, recorded: Recorded | None = None) -> FeatureStream:
        run = self.runner(recorded)

        @torch.inference_mode()
        def features_of(sound: Sound) -> Features:
            return run(sound).float().cpu().numpy()

        chunk, margin = self.plan
        after = margin
        if recorded is None:
            chunk, after = min(self.live_chunk, chunk), self.live_lookahead
        return FeatureStream(features_of, self.dim, chunk, (margin, after), self.edges)
