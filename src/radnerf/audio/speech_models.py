"""Features from pretrained speech models of the transformers package.

Weights are read without code: safetensors, else pickles through torch's restricted unpickler. Only
the package's own model classes are built, never code from a hub.

Letters: S feature steps, C feature width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from radnerf.audio.chunks import Sound
from radnerf.audio.extractors import Recorded
from radnerf.audio.loudness import SPEECH_LEVEL_DB
from radnerf.audio.model_files import (
    BY_PATH,
    SETTINGS,
    load_transformers,
    model_folder,
    read_json,
    reason,
    weight_files,
)
from radnerf.audio.neural import NeuralExtractor, Steps
from radnerf.conventions import FEATURE_RATE, HOP, SAMPLE_RATE
from radnerf.errors import UserError
from radnerf.registry import component

# The models were trained on recordings of unit variance; speech comes at SPEECH_LEVEL_DB.
UNIT_VARIANCE = 10 ** (-SPEECH_LEVEL_DB / 20)


@dataclass(frozen=True, kw_only=True)
class SpeechModel(NeuralExtractor):
    """A model of transformers.

    Args:
        model: a folder with a saved model, or its name on the hub.
        layer: hidden layer whose states are the features, 0 (below the first) to the number of
            layers; None for the output.
    """

    model: str
    layer: int | None = None

    place: ClassVar[str] = "model"
    config_class: ClassVar[str]  # in transformers

    @cached_property
    def folder(self) -> Path:
        folder = model_folder(self.model)
        if not weight_files(folder):
            raise UserError(f"{folder} holds no model.safetensors: {BY_PATH}.")
        return folder

    @property
    def weight_files(self) -> list[Path]:
        return weight_files(self.folder)

    @property
    def setting_files(self) -> list[Path]:
        return [self.folder / name for name in SETTINGS if (self.folder / name).is_file()]

    @cached_property
    def config(self) -> Any:
        """The model's configuration.

        Raises:
            UserError: it is missing, or that of another kind of model.
        """
        path = self.folder / "config.json"
        kind = read_json(path).get("model_type")
        if kind != self.kind:
            raise UserError(f"{self.folder} holds a model of type {kind}, not {self.kind}.")
        try:
            config = getattr(load_transformers(), self.config_class).from_pretrained(self.folder)
        except (TypeError, ValueError) as error:
            raise UserError(f"{path} has unusable settings ({reason(error)}).") from error
        n_layers = config.num_hidden_layers
        if self.layer not in (None, *range(n_layers + 1)):
            raise UserError(f"layer={self.layer} is not in {self.model}: choose 0 to {n_layers}.")
        return config

    def pretrained(self, class_name: str, unneeded: tuple[str, ...] = ()) -> Any:
        """A model of transformers with all its weights from the folder.

        Raises:
            UserError: the files are damaged, or lack weights that are needed.
        """
        package, kind = load_transformers(), self.config.model_type
        try:
            with _quiet(package):
                model, report = getattr(package, class_name).from_pretrained(
                    self.folder, local_files_only=True, output_loading_info=True
                )
        # Damaged files raise errors of json, safetensors, pickle, torch or transformers.
        except Exception as error:
            why = reason(error)
            raise UserError(f"{self.folder} cannot be loaded as {kind} ({why}).") from error
        # Only training masks spectrograms.
        ignored = (*unneeded, "masked_spec_embed")
        missing = [k for k in report["missing_keys"] if not any(part in k for part in ignored)]
        if missing:
            lacks_head = all(key.startswith("lm_head") for key in missing)
            advice = (
                "it has no CTC head: give layer=N for a hidden layer" if lacks_head else BY_PATH
            )
            raise UserError(f"{self.folder} lacks weights of {kind}, {missing[0]}: {advice}.")
        return model

    @abstractmethod
    def run(self, network: nn.Module, sound: Sound) -> Steps:
        """Features of the steps of a sound."""

    def runner(self, recorded: Recorded | None) -> Callable[[Sound], Steps]:
        return partial(self.run, self.network)

    def chosen(self, last: Tensor, hidden: tuple[Tensor, ...] | None) -> Tensor:
        """The states of `layer`; the last are those after the final normalisation."""
        if self.layer is None or self.layer == self.config.num_hidden_layers:
            return last
        assert hidden is not None
        return hidden[self.layer]

    @property
    def wants_hidden(self) -> bool:
        return self.layer is not None and self.layer < self.config.num_hidden_layers


@dataclass(frozen=True, kw_only=True)
class WaveModel(SpeechModel):
    """A model that convolves the waveform itself."""

    encoder_class: ClassVar[str]

    @property
    def dim(self) -> int:
        return int(self.config.hidden_size)

    @cached_property
    def window(self) -> tuple[int, int]:
        """Samples that a state of the model sees before attention, and between two states."""
        field, hop = 1, 1
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            field, hop = field + (kernel - 1) * hop, hop * stride
        return field, hop

    @property
    def edges(self) -> tuple[int, int]:
        # The first state is centred on the first step.
        field, hop = self.window
        before = (field - HOP) // 2
        return before, field - HOP - before + (0 if hop == HOP else hop)

    @property
    def activation_bytes(self) -> int:
        chunk, margin = self.plan
        steps, config = chunk + 2 * margin, self.config
        first = steps * HOP // config.conv_stride[0] * config.conv_dim[0]
        attention = config.num_attention_heads * steps**2
        return 4 * (3 * first + attention + 8 * steps * config.intermediate_size)

    @cached_property
    def scale(self) -> float:
        """What brings speech to the loudness that the model was trained with."""
        path = self.folder / "preprocessor_config.json"
        settings = read_json(path) if path.is_file() else {}
        return UNIT_VARIANCE if settings.get("do_normalize", True) else 1.0

    def load(self) -> nn.Module:
        network: nn.Module = self.pretrained(self.encoder_class)
        return network

    def run(self, network: nn.Module, sound: Sound) -> Steps:
        scaled = torch.from_numpy(sound.astype(np.float32) * np.float32(self.scale))
        scaled = scaled.to(next(network.parameters()).device)[None]
        states = self.states(network, scaled)[0]
        hop = self.window[1]
        if hop == HOP:
            return states
        n_steps = (len(sound) - sum(self.edges)) // HOP
        return resampled(states, HOP / hop, n_steps)

    def states(
        self, network: nn.Module, sound: Float[Tensor, "1 samples"]
    ) -> Float[Tensor, "1 steps c"]:
        output = network(sound, output_hidden_states=self.wants_hidden)
        return self.chosen(output.last_hidden_state, output.hidden_states)


@component("extractor", "hubert")
@dataclass(frozen=True, kw_only=True)
class HubertExtractor(WaveModel):
    """Hidden states of HuBERT."""

    kind: ClassVar[str] = "hubert"
    config_class: ClassVar[str] = "HubertConfig"
    encoder_class: ClassVar[str] = "HubertModel"


@component("extractor", "wav2vec2")
@dataclass(frozen=True, kw_only=True)
class Wav2Vec2Extractor(WaveModel):
    """Logits of the characters that wav2vec2 recognises (CTC), or the hidden states of a layer."""

    kind: ClassVar[str] = "wav2vec2"
    config_class: ClassVar[str] = "Wav2Vec2Config"
    encoder_class: ClassVar[str] = "Wav2Vec2Model"

    @property
    def dim(self) -> int:
        return int(self.config.vocab_size if self.layer is None else self.config.hidden_size)

    def load(self) -> nn.Module:
        return super().load() if self.layer is not None else self.pretrained("Wav2Vec2ForCTC")

    def states(
        self, network: nn.Module, sound: Float[Tensor, "1 samples"]
    ) -> Float[Tensor, "1 steps c"]:
        return network(sound).logits if self.layer is None else super().states(network, sound)


@component("extractor", "whisper")
@dataclass(frozen=True, kw_only=True)
class WhisperExtractor(SpeechModel):
    """States of Whisper's encoder, which takes windows of 30 s; shorter sounds end in silence."""

    kind: ClassVar[str] = "whisper"
    config_class: ClassVar[str] = "WhisperConfig"

    @property
    def dim(self) -> int:
        return int(self.config.d_model)

    @property
    def plan(self) -> tuple[int, int]:
        chunk, margin = super().plan
        window = self.config.max_source_positions
        margin = min(margin, window // 4)
        return min(chunk, window - 2 * margin), margin

    @property
    def edges(self) -> tuple[int, int]:
        # States are centred on the first sample of each hop, steps on their middle.
        return -HOP // 2, HOP // 2

    @property
    def activation_bytes(self) -> int:
        config, steps = self.config, self.config.max_source_positions
        attention = config.encoder_attention_heads * steps**2
        return 4 * (attention + 8 * steps * config.encoder_ffn_dim)

    @cached_property
    def spectrogram(self) -> Any:
        """Log-mel spectrogram of a whole window, as the model was trained with."""
        seconds = self.config.max_source_positions // FEATURE_RATE
        return load_transformers().WhisperFeatureExtractor(
            feature_size=self.config.num_mel_bins, chunk_length=seconds
        )

    def load(self) -> nn.Module:
        # The class that has the encoder alone: the decoder is most of a large model.
        model = self.pretrained("WhisperForAudioClassification", ("projector", "classifier"))
        return model.encoder

    def run(self, network: nn.Module, sound: Sound) -> Steps:
        mel = self.spectrogram(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        mel = mel.input_features.to(next(network.parameters()).device)
        output = network(mel, output_hidden_states=self.wants_hidden)
        return self.chosen(output.last_hidden_state, output.hidden_states)[0, : len(sound) // HOP]


def resampled(states: Float[Tensor, "states c"], ratio: float, n_steps: int) -> Steps:
    """States at the times 0, ratio, 2 ratio ... in states, interpolated linearly."""
    at = torch.arange(n_steps, device=states.device) * ratio
    low = at.floor().long().clamp(max=len(states) - 2)
    return torch.lerp(states[low], states[low + 1], (at - low)[:, None].to(states.dtype))


@contextmanager
def _quiet(package: Any) -> Iterator[None]:
    """Without the package's progress bars and advice."""
    log = package.utils.logging
    level, bar = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bar:
            log.enable_progress_bar()
