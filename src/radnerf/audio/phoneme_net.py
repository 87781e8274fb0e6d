"""The phoneme recogniser whose weights come in the package hama, as a torch module.

A Conformer of four blocks, 144 wide, over log-mel features: one state every 20 ms. Written from the
names and shapes in the weight file; tests hold its answers against the package's own engine.

Letters: S steps of 20 ms, C = 144.
"""

from __future__ import annotations

import math
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import (
    conv1d,
    gelu,
    glu,
    layer_norm,
    linear,
    scaled_dot_product_attention,
    silu,
)

from radnerf.audio.model_files import reason
from radnerf.errors import UserError

PACKAGE, FILE = "hama", Path("assets", "asr_waveform.hama")
N_BLOCKS, WIDTH, HEADS = 4, 144, 4
# Samples before and after S steps of HOP samples that their states are computed from.
EDGES = (200, 200)

_MAGIC, _ALIGNMENT, _MAX_BYTES = b"HAMAPK", 16, 64 << 20
_DTYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}
_MAX_DIMENSIONS = 4
_HOP = 160  # samples, of the spectrogram
_FLOOR = 1e-10  # power below which a mel band is silent


class PhonemeNet(nn.Module):
    """Sound to the states after some of the blocks, or to log-probabilities of phonemes.

    Args:
        tensors: of the weight file, see read_weights().

    Raises:
        UserError: they are not those of this network.
    """

    filters: Tensor
    fourier: Tensor
    stem: Tensor
    stem_bias: Tensor
    phonemes: Tensor
    phonemes_bias: Tensor

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        try:
            self.register_buffer("filters", tensors["mel_fb"].T)
            kernels = [tensors[f"stft_{part}_kernel"] for part in ("real", "imag")]
            self.register_buffer("fourier", torch.cat(kernels))
            self.register_buffer("stem", tensors["onnx::Conv_801"])
            self.register_buffer("stem_bias", tensors["onnx::Conv_802"])
            blocks = [_Block(tensors, i) for i in range(N_BLOCKS)]
            self.register_buffer("phonemes", tensors["acoustic_model.model.proj.weight"][..., 0])
            self.register_buffer("phonemes_bias", tensors["acoustic_model.model.proj.bias"])
        except KeyError as error:
            raise UserError(f"The phoneme recogniser's weights lack {error}.") from error
        self.blocks = nn.ModuleList(blocks)

    def forward(self, sound: Float[Tensor, " samples"], n_blocks: int) -> Float[Tensor, "s c"]:
        """States after the first n_blocks, each normalised over its C numbers.

        Step i is centred at sample i HOP + HOP / 2 of the sound behind its first edge. The learned
        scale and shift of the last normalisation are left out: so all speakers' states have about
        the same size without any statistics of speakers.
        """
        x = self._before_norm(self.log_mel(sound), n_blocks)
        return layer_norm(x, (WIDTH,))

    def log_mel(self, sound: Float[Tensor, " samples"]) -> Float[Tensor, "80 frames"]:
        """Of the windows of 25 ms, every 10 ms, that fit into the sound."""
        re, im = conv1d(sound[None, None], self.fourier, stride=_HOP)[0].chunk(2)
        return torch.log(self.filters @ (re**2 + im**2) + _FLOOR)

    def log_probabilities(self, mel: Float[Tensor, "80 frames"]) -> Float[Tensor, "s phonemes"]:
        """Of the recogniser's 191 tokens, the last of them the blank."""
        last = self.blocks[-1]
        assert isinstance(last, _Block)
        x = last.normalised(self._before_norm(mel, N_BLOCKS))
        return linear(x, self.phonemes, self.phonemes_bias).log_softmax(-1)

    def _before_norm(self, mel: Tensor, n_blocks: int) -> Tensor:
        x = gelu(conv1d(mel[None], self.stem, self.stem_bias, stride=2))[0].T
        for i in range(n_blocks):
            block = self.blocks[i]
            assert isinstance(block, _Block)
            x = block(x)
            if i < n_blocks - 1:
                x = block.normalised(x)
        return x


class _Block(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward (Gulati et al. 2020)."""

    def __init__(self, tensors: dict[str, Tensor], number: int) -> None:
        super().__init__()
        name = f"acoustic_model.model.blocks.{number}."
        matrix, kernel = 829 + 9 * number, 804 + 3 * number  # what the export calls them

        def keep(own: str, tensor: Tensor) -> None:
            self.register_buffer(own, tensor.contiguous())

        for part, first in (("ffn1", matrix), ("ffn2", matrix + 7)):
            keep(f"{part}_in", tensors[f"onnx::MatMul_{first}"].T)
            keep(f"{part}_out", tensors[f"onnx::MatMul_{first + 1}"].T)
            keep(f"{part}_in_bias", tensors[f"{name}{part}.fc1.bias"])
            keep(f"{part}_out_bias", tensors[f"{name}{part}.fc2.bias"])
        keep("attention_in", tensors[f"onnx::MatMul_{matrix + 2}"].T)
        keep("attention_out", tensors[f"onnx::MatMul_{matrix + 6}"].T)
        keep("attention_in_bias", tensors[f"{name}attn.in_proj_bias"])
        keep("attention_out_bias", tensors[f"{name}attn.out_proj.bias"])
        for part in ("pointwise1", "pointwise2"):
            keep(f"{part}_weight", tensors[f"{name}conv.{part}.weight"])
            keep(f"{part}_bias", tensors[f"{name}conv.{part}.bias"])
        keep("depthwise_weight", tensors[f"onnx::Conv_{kernel}"])
        keep("depthwise_bias", tensors[f"onnx::Conv_{kernel + 1}"])
        for part in ("ffn1.norm", "attn_norm", "conv.norm", "ffn2.norm", "norm"):
            own = part.replace(".", "_")
            keep(f"{own}_weight", tensors[f"{name}{part}.weight"])
            keep(f"{own}_bias", tensors[f"{name}{part}.bias"])

    def forward(self, x: Float[Tensor, "s c"]) -> Float[Tensor, "s c"]:
        """The block without its last normalisation."""
        x = x + self._feed_forward(x, "ffn1") / 2
        x = x + self._attention(self._norm(x, "attn_norm"))
        x = x + self._convolution(self._norm(x, "conv_norm"))
        return x + self._feed_forward(x, "ffn2") / 2

    def normalised(self, x: Float[Tensor, "s c"]) -> Float[Tensor, "s c"]:
        return self._norm(x, "norm")

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return layer_norm(x, (WIDTH,), self._of(f"{name}_weight"), self._of(f"{name}_bias"))

    def _feed_forward(self, x: Tensor, name: str) -> Tensor:
        x = self._norm(x, f"{name}_norm")
        x = silu(linear(x, self._of(f"{name}_in"), self._of(f"{name}_in_bias")))
        return linear(x, self._of(f"{name}_out"), self._of(f"{name}_out_bias"))

    def _attention(self, x: Tensor) -> Tensor:
        joint = linear(x, self._of("attention_in"), self._of("attention_in_bias"))
        q, k, v = joint.view(len(x), 3, HEADS, WIDTH // HEADS).permute(1, 2, 0, 3)
        heads = scaled_dot_product_attention(q[None], k[None], v[None])[0]
        x = heads.transpose(0, 1).reshape(len(x), WIDTH)
        return linear(x, self._of("attention_out"), self._of("attention_out_bias"))

    def _convolution(self, x: Tensor) -> Tensor:
        kernel = self._of("depthwise_weight")
        y = conv1d(x.T[None], self._of("pointwise1_weight"), self._of("pointwise1_bias"))
        y = conv1d(
            glu(y, 1), kernel, self._of("depthwise_bias"), padding=kernel.shape[-1] // 2,
            groups=WIDTH,
        )  # fmt: skip
        y = conv1d(silu(y), self._of("pointwise2_weight"), self._of("pointwise2_bias"))
        return y[0].T

    def _of(self, name: str) -> Tensor:
        tensor = getattr(self, name)
        assert isinstance(tensor, Tensor)
        return tensor


def weight_file(place: str) -> Path:
    """The weight file: that of the package by its name, which is not imported, or a path.

    Raises:
        UserError: it is not there.
    """
    if place == PACKAGE:
        found = find_spec(PACKAGE)
        if found is None or not found.submodule_search_locations:
            raise UserError(
                f"audio=phonemes needs the package {PACKAGE}: pip install {PACKAGE}, or give its "
                "weight file asr_waveform.hama (audio.extractor.model=/path), or choose audio=mel."
            )
        return Path(found.submodule_search_locations[0]) / FILE
    path = Path(place).expanduser()
    if not path.is_file():
        raise UserError(f"There is no weight file {path}: give {PACKAGE}, or a path to it.")
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a weight file by name, as float32.

    A header of the format's name, two bytes and the number of tensors; for each the length of its
    name, the name, its kind (0 is float32, 1 float16), its dimensions, and where its bytes lie
    behind the header.

    Raises:
        UserError: not such a file, or cut short.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        data = path.read_bytes()
        return _parsed(data)
    except (OSError, ValueError, struct.error, KeyError) as error:
        raise UserError(
            f"{path} is no weight file of the package {PACKAGE} ({reason(error)})."
        ) from error


def _parsed(data: bytes) -> dict[str, Tensor]:
    if not data.startswith(_MAGIC):
        raise ValueError("it does not begin as one")
    (count,) = struct.unpack_from("<I", data, 8)
    at, entries = 12, []
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        kind, n_dimensions = struct.unpack_from("<BB", data, at + 2 + length)
        if n_dimensions > _MAX_DIMENSIONS:
            raise ValueError(f"{name} has {n_dimensions} dimensions")
        at += 4 + length
        shape = struct.unpack_from(f"<{n_dimensions}I", data, at)
        offset, size = struct.unpack_from("<QQ", data, at + 4 * n_dimensions)
        at += 4 * n_dimensions + 16
        entries.append((name, _DTYPES[kind], shape, offset, size))
    start = -(-at // _ALIGNMENT) * _ALIGNMENT
    tensors = {}
    for name, dtype, shape, offset, size in entries:
        if size != math.prod(shape) * dtype.itemsize or start + offset + size > len(data):
            raise ValueError(f"{name} is cut short")
        values = np.frombuffer(data, dtype, math.prod(shape), start + offset).reshape(shape)
        tensors[name] = torch.from_numpy(values.astype(np.float32))
    return tensors
