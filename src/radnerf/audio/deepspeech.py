"""Characters recognised by DeepSpeech 2, from checkpoints of deepspeech.pytorch, versions 2 and 3.

The network is built anew with the names that its checkpoints have, so that they load without that
package and without running code of theirs (https://github.com/SeanNaren/deepspeech.pytorch, MIT).

Letters: B spectrogram bins, K spectrogram frames (100 a second), S feature steps (50 a second),
H hidden width, C characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from radnerf.audio.chunks import Sound
from radnerf.audio.extractors import Recorded
from radnerf.audio.loudness import Pieces
from radnerf.audio.model_files import reason
from radnerf.audio.neural import NeuralExtractor, Steps
from radnerf.conventions import HOP, SAMPLE_RATE
from radnerf.errors import UserError
from radnerf.registry import component

PARTS = ("conv.", "rnns.", "fc.")  # of a checkpoint's names; losses and decoders have no weights
CHANNELS = 32  # of the convolutions
USUAL = 0.07, 0.2  # mean and deviation of the log magnitudes of speech at SPEECH_LEVEL_DB
WINDOWS: dict[str, Callable[..., Tensor]] = {
    "hamming": torch.hamming_window,
    "hann": torch.hann_window,
    "blackman": torch.blackman_window,
    "bartlett": torch.bartlett_window,
}
# Rows of a recurrent layer's weights for each hidden unit.
RECURRENT: dict[int, Callable[..., nn.RNNBase]] = {1: nn.RNN, 3: nn.GRU, 4: nn.LSTM}

Spectrogram = Float[Tensor, "bins frames"]


class DeepSpeech(nn.Module):
    """Two convolutions, recurrent layers whose directions are added, one layer to characters."""

    def __init__(
        self,
        n_bins: int,
        n_layers: int,
        hidden: int,
        n_characters: int,
        recurrent: Callable[..., nn.RNNBase] = nn.LSTM,
    ) -> None:
        super().__init__()
        layers = [
            nn.Conv2d(1, CHANNELS, (41, 11), stride=(2, 2), padding=(20, 5)),
            nn.BatchNorm2d(CHANNELS),
            nn.Hardtanh(0, 20),
            nn.Conv2d(CHANNELS, CHANNELS, (21, 11), stride=(2, 1), padding=(10, 5)),
            nn.BatchNorm2d(CHANNELS),
            nn.Hardtanh(0, 20),
        ]
        widths = [CHANNELS * convolved_bins(n_bins)] + [hidden] * (n_layers - 1)
        self.conv = nn.ModuleDict({"seq_module": nn.Sequential(*layers)})
        self.rnns = nn.ModuleList(
            BothDirections(recurrent, width, hidden, normalised=i > 0)
            for i, width in enumerate(widths)
        )
        characters = nn.Linear(hidden, n_characters, bias=False)
        last = nn.Sequential(nn.BatchNorm1d(hidden), characters)
        self.fc = nn.Sequential(nn.ModuleDict({"module": last}))

    def forward(self, spectrogram: Spectrogram) -> Steps:
        """Log-probabilities of the characters, one step for two frames."""
        x = self.conv["seq_module"](spectrogram[None, None])
        x = x[0].flatten(0, 1).T
        for layer in self.rnns:
            x = layer(x)
        return self.fc[0]["module"](x).log_softmax(-1)  # type: ignore[index]


class BothDirections(nn.Module):
    """A recurrent layer over the steps and back, added."""

    def __init__(
        self, recurrent: Callable[..., nn.RNNBase], width: int, hidden: int, normalised: bool
    ) -> None:
        super().__init__()
        if normalised:
            self.batch_norm = nn.ModuleDict({"module": nn.BatchNorm1d(width)})
        self.normalised = normalised
        self.rnn = recurrent(width, hidden, bidirectional=True)

    def forward(self, x: Float[Tensor, "steps c"]) -> Float[Tensor, "steps h"]:
        if self.normalised:
            x = self.batch_norm["module"](x)
        return self.rnn(x)[0].unflatten(-1, (2, -1)).sum(1)


def convolved_bins(n_bins: int) -> int:
    """Bins after both convolutions."""
    for kernel, padding in ((41, 20), (21, 10)):
        n_bins = (n_bins + 2 * padding - kernel) // 2 + 1
    return n_bins


@dataclass(frozen=True)
class SpectrogramSettings:
    """How a checkpoint's spectrograms are made."""

    window: str = "hamming"
    window_size: float = 0.02  # seconds
    window_stride: float = 0.01
    sample_rate: int = SAMPLE_RATE
    periodic: bool = True  # version 2 had symmetric windows

    @property
    def n_fft(self) -> int:
        return int(self.sample_rate * self.window_size)

    def spectrogram(self, sound: Float[Tensor, " samples"]) -> Spectrogram:
        """Log magnitudes; frame k is centred on the sample n_fft/2 + 160 k."""
        taper = WINDOWS[self.window](self.n_fft, periodic=self.periodic, device=sound.device)
        hop = int(self.sample_rate * self.window_stride)
        spectrum = torch.stft(
            sound, self.n_fft, hop, window=taper, center=False, return_complex=True
        )
        return spectrum.abs().log1p()


@component("extractor", "deepspeech")
@dataclass(frozen=True, kw_only=True)
class DeepSpeechExtractor(NeuralExtractor):
    """Log-probabilities of 29 characters.

    Args:
        checkpoint: a .pth of version 2 or a .ckpt of version 3.
        backend: rebuilt, or package for the network of the package deepspeech-pytorch, which
            unpickles the checkpoint with all code in it.
    """

    checkpoint: str
    backend: str = "rebuilt"

    kind: ClassVar[str] = "deepspeech"
    place: ClassVar[str] = "checkpoint"
    local: ClassVar[frozenset[str]] = frozenset({"device", "backend"})

    @property
    def weight_files(self) -> list[Path]:
        path = Path(self.checkpoint).expanduser()
        if not path.is_file():
            raise UserError(
                f"There is no DeepSpeech checkpoint {path}: give a file of deepspeech.pytorch "
                "(train.py: audio.extractor.checkpoint=FILE, render.py: extractor.checkpoint=FILE)."
            )
        return [path]

    @cached_property
    def parts(self) -> tuple[dict[str, Tensor], SpectrogramSettings]:
        return read_checkpoint(self.weight_files[0])

    @property
    def dim(self) -> int:
        return len(self.parts[0]["fc.0.module.1.weight"])

    @property
    def edges(self) -> tuple[int, int]:
        # Frame 2i, on which step i is centred, then has the middle of the step as its own.
        before = (self.parts[1].n_fft - HOP) // 2
        return before, self.parts[1].n_fft - HOP - before + HOP // 2

    @property
    def activation_bytes(self) -> int:
        chunk, margin = self.plan
        bins, hidden = self.parts[1].n_fft // 2, self.parts[0]["rnns.0.rnn.weight_hh_l0"].shape[1]
        return 4 * (chunk + 2 * margin) * (3 * CHANNELS * bins // 2 + 12 * hidden)

    def release(self) -> None:
        super().release()
        self.__dict__.pop("parts", None)

    def load(self) -> nn.Module:
        if self.backend == "rebuilt":
            return rebuilt(self.parts[0], self.parts[1].n_fft // 2 + 1)
        if self.backend == "package":
            return _of_the_package(self.weight_files[0])
        raise UserError(f"backend={self.backend} is not rebuilt or package.")

    def runner(self, recorded: Recorded | None) -> Callable[[Sound], Steps]:
        network, settings = self.network, self.parts[1]
        device = next(network.parameters()).device

        def frames(sound: Sound) -> Spectrogram:
            return settings.spectrogram(torch.from_numpy(sound.astype(np.float32)).to(device))

        if recorded is not None:
            moments = Moments()
            for sound in _overlapping(recorded(), settings.n_fft):
                moments = moments.with_values(frames(sound))
            return lambda sound: network(moments.normalised(frames(sound)))

        def run(sound: Sound) -> Steps:
            values = frames(sound)
            return network(Moments.usual(values.numel()).with_values(values).normalised(values))

        return run


@dataclass(frozen=True)
class Moments:
    """Mean and deviation of a recording's spectrogram: the networks want them to be 0 and 1."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def usual(cls, count: int) -> Moments:
        """As if so many values of speech at SPEECH_LEVEL_DB were known.

        The sound at hand alone would not do where nothing is known of the rest: the hiss of a
        pause would become as loud as speech.
        """
        mean, deviation = USUAL
        return cls(count, count * mean, count * (mean**2 + deviation**2))

    def with_values(self, values: Spectrogram) -> Moments:
        """Those of more values."""
        more = values.double()
        return Moments(
            self.count + more.numel(),
            self.total + float(more.sum()),
            self.squares + float(more.square().sum()),
        )

    def normalised(self, values: Spectrogram) -> Spectrogram:
        """The values with mean 0 and deviation 1, when they are those that were counted."""
        mean = self.total / max(1, self.count)
        variance = (self.squares - self.count * mean**2) / max(1, self.count - 1)
        return (values - mean) / max(variance, 1e-10) ** 0.5


def _overlapping(pieces: Pieces, n_fft: int) -> Iterator[Float[np.ndarray, " _"]]:
    """Sounds that have each of a recording's spectrogram frames once; silence fills the first."""
    hop = HOP // 2
    rest, first = np.zeros(0, np.float32), True
    for piece in pieces:
        rest = np.concatenate([rest, piece])
        n_frames = (len(rest) - n_fft) // hop + 1
        if n_frames > 0:
            yield rest[: (n_frames - 1) * hop + n_fft]
            rest, first = rest[n_frames * hop :], False
    if first:
        yield np.pad(rest, (0, n_fft - len(rest)))


def rebuilt(weights: dict[str, Tensor], n_bins: int) -> DeepSpeech:
    """The network that the weights of a checkpoint belong to.

    Raises:
        UserError: they do not fit together.
    """
    rows, hidden = weights["rnns.0.rnn.weight_hh_l0"].shape
    n_layers = sum(bool(re.fullmatch(r"rnns\.\d+\.rnn\.weight_ih_l0", name)) for name in weights)
    n_characters = len(weights["fc.0.module.1.weight"])
    try:
        network = DeepSpeech(n_bins, n_layers, hidden, n_characters, RECURRENT[rows // hidden])
        network.load_state_dict(weights)
    except (RuntimeError, KeyError) as error:
        line = str(error).splitlines()[-1].strip()
        raise UserError(f"The weights of the DeepSpeech checkpoint do not fit ({line}).") from error
    return network


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], SpectrogramSettings]:
    """Weights, and how sound comes to them, from a .pth of version 2 or a .ckpt of version 3.

    No code in the file is run: what is no tensor or plain value is read as an inert record.

    Raises:
        UserError: not such a file, or one whose network is another.
    """
    try:
        content = _read_inert(path)
    # Damaged files raise errors of pickle, zip, torch or any that broken records lead to.
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a DeepSpeech checkpoint ({reason(error)})."
        ) from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise UserError(f"{path} is no DeepSpeech checkpoint: it holds no state_dict.")
    state = {str(name).removeprefix("module."): value for name, value in state.items()}
    if "conv.0.weight" in state:
        raise UserError(f"{path} is of deepspeech.pytorch 1: give one of version 2 or 3.")
    if "rnns.0.rnn.weight_hh_l0_reverse" not in state or "fc.0.module.1.weight" not in state:
        raise UserError(f"{path} is no network that runs in both directions: give another one.")
    weights = {
        name: value
        for name, value in state.items()
        if name.startswith(PARTS) and isinstance(value, Tensor)
    }
    return weights, _spectrogram_settings(content, path)


def _spectrogram_settings(content: dict[str, Any], path: Path) -> SpectrogramSettings:
    """How the spectrograms are made, from a checkpoint's hyperparameters where it has them."""
    version_2 = "audio_conf" in content
    told = content["audio_conf"] if version_2 else content.get("hyper_parameters", {})
    told = _plain(told)
    if isinstance(told, dict) and isinstance(told.get("spect_cfg"), dict):
        told = told["spect_cfg"]
    names = ("window", "window_size", "window_stride", "sample_rate")
    known = {name: told[name] for name in names if isinstance(told, dict) and name in told}
    settings = SpectrogramSettings(**known, periodic=not version_2)
    steps = (settings.sample_rate, round(2 * settings.sample_rate * settings.window_stride))
    if steps != (SAMPLE_RATE, HOP) or settings.window not in WINDOWS:
        raise UserError(
            f"{path} takes {settings}: only networks of {SAMPLE_RATE} Hz with 100 frames a second "
            "can be used."
        )
    return settings


class Inert:
    """Stands for an object of any class in a file: what it was made from, without its code."""

    def __new__(cls, *args: Any) -> Inert:
        inert = super().__new__(cls)
        inert.args, inert.state = args, {}
        return inert

    def __init__(self, *args: Any) -> None:
        self.args: tuple[Any, ...]
        self.state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _read_inert(path: Path) -> Any:
    """Contents of a file that torch.save wrote, with every object of an unknown class inert."""
    try:
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except ValueError:  # the format before torch 1.6, whose checkpoints hold plain values
        unknown = []
    with torch.serialization.safe_globals([(Inert, name) for name in unknown]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _plain(value: Any) -> Any:
    """Values of config objects: of omegaconf's containers and nodes, enumerations, dataclasses."""
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    if not isinstance(value, Inert):
        return value
    for name in ("_content", "_val"):
        if isinstance(value.state, dict) and name in value.state:
            return _plain(value.state[name])
    # A member of an enumeration: its value or, from Python 3.11.0 to 3.11.3, its class and name.
    return _plain(value.args[-1]) if value.args else _plain(value.state)


def _of_the_package(path: Path) -> nn.Module:
    try:
        from deepspeech_pytorch.model import DeepSpeech as Original
    except ImportError as error:
        raise UserError(
            "backend=package needs deepspeech-pytorch, which no package index carries: install it "
            "from github.com/SeanNaren/deepspeech.pytorch, or leave backend=rebuilt."
        ) from error

    class Adapter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.original = Original.load_from_checkpoint(str(path), map_location="cpu")

        def forward(self, spectrogram: Spectrogram) -> Steps:
            n_frames = torch.tensor([spectrogram.shape[1]])
            return self.original(spectrogram[None, None], n_frames)[0][0].log()

    return Adapter()
