"""The smallest speech models of the real classes, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
WAVE = {
    **WIDE,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "num_codevector_groups": 2,
}


def save_hubert(folder: Path, seed: int = 0, **changes: Any) -> Path:
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(seed)
    HubertModel(HubertConfig(**{**WAVE, **changes})).save_pretrained(folder)
    return folder


def save_wav2vec2(folder: Path, head: bool = True) -> Path:
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC, Wav2Vec2Model

    torch.manual_seed(0)
    config = Wav2Vec2Config(**WAVE, vocab_size=11)
    (Wav2Vec2ForCTC if head else Wav2Vec2Model)(config).save_pretrained(folder)
    return folder


def save_whisper(folder: Path) -> Path:
    """Its windows are one second long."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    sizes = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in WHISPER.items()}
    tokens = ("pad", "bos", "eos", "decoder_start")
    config = WhisperConfig(
        d_model=16,
        max_source_positions=50,
        max_target_positions=8,
        vocab_size=20,
        **sizes,
        **{f"{name}_token_id": 0 for name in tokens},
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    return folder


WHISPER = {"layers": 2, "attention_heads": 2, "ffn_dim": 32}
