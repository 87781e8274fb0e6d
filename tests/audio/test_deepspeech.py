from __future__ import annotations

import enum
import json
import sys
import types
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy.signal import correlate2d, get_window

from radnerf.audio import make_extractor
from radnerf.audio.deepspeech import DeepSpeechExtractor, read_checkpoint
from radnerf.conventions import HOP
from radnerf.errors import UserError

HIDDEN, N_LAYERS, N_CHARACTERS = 3, 2, 29
CPU = {"device": "cpu"}


def public_weights(gates: int = 4, seed: int = 0) -> OrderedDict[str, torch.Tensor]:
    """Weights with the names and shapes of public checkpoints, but few hidden units."""
    generator = torch.Generator().manual_seed(seed)
    weights: OrderedDict[str, torch.Tensor] = OrderedDict()

    def normalisation(name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean"):
            weights[f"{name}.{part}"] = 0.3 * torch.randn(width, generator=generator)
        weights[f"{name}.running_var"] = 0.5 + torch.rand(width, generator=generator)
        weights[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def values(name: str, *shape: int, scale: float = 0.3) -> None:
        weights[name] = scale * torch.randn(*shape, generator=generator)

    values("conv.seq_module.0.weight", 32, 1, 41, 11, scale=0.05)
    values("conv.seq_module.0.bias", 32)
    normalisation("conv.seq_module.1", 32)
    values("conv.seq_module.3.weight", 32, 32, 21, 11, scale=0.02)
    values("conv.seq_module.3.bias", 32)
    normalisation("conv.seq_module.4", 32)
    width = 32 * 41
    for i in range(N_LAYERS):
        if i:
            normalisation(f"rnns.{i}.batch_norm.module", width)
        for side in ("", "_reverse"):
            values(f"rnns.{i}.rnn.weight_ih_l0{side}", gates * HIDDEN, width, scale=0.05)
            values(f"rnns.{i}.rnn.weight_hh_l0{side}", gates * HIDDEN, HIDDEN)
            values(f"rnns.{i}.rnn.bias_ih_l0{side}", gates * HIDDEN)
            values(f"rnns.{i}.rnn.bias_hh_l0{side}", gates * HIDDEN)
        width = HIDDEN
    normalisation("fc.0.module.0", HIDDEN)
    values("fc.0.module.1.weight", N_CHARACTERS, HIDDEN)
    return weights


def slow_network(w: dict[str, np.ndarray], spectrogram: np.ndarray) -> np.ndarray:
    """DeepSpeech 2 by its formulas: [bins, frames] to log-probabilities [steps, characters]."""

    def normalised(x: np.ndarray, name: str) -> np.ndarray:
        scale = w[f"{name}.weight"] / np.sqrt(w[f"{name}.running_var"] + 1e-5)
        return (x - w[f"{name}.running_mean"]) * scale + w[f"{name}.bias"]

    def convolved(x: np.ndarray, i: int, pad: int, stride: int) -> np.ndarray:
        kernels = w[f"conv.seq_module.{i}.weight"]
        x = np.pad(x, ((0, 0), (pad, pad), (5, 5)))
        planes = [
            sum(correlate2d(plane, k, "valid") for plane, k in zip(x, kernel, strict=True))
            for kernel in kernels
        ]
        y = np.stack(planes)[:, ::2, ::stride] + w[f"conv.seq_module.{i}.bias"][:, None, None]
        y = normalised(y.transpose(1, 2, 0), f"conv.seq_module.{i + 1}").transpose(2, 0, 1)
        return y.clip(0, 20)

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    def recurrent(x: np.ndarray, i: int, side: str) -> np.ndarray:
        weight_x, weight_h, bias_x, bias_h = (
            w[f"rnns.{i}.rnn.{name}_l0{side}"]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        h = c = np.zeros(HIDDEN)
        out = []
        for step in x[::-1] if side else x:
            enter, forget, new, leave = np.split(
                weight_x @ step + bias_x + weight_h @ h + bias_h, 4
            )
            c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(new)
            h = sigmoid(leave) * np.tanh(c)
            out.append(h)
        return np.stack(out[::-1] if side else out)

    x = convolved(convolved(spectrogram[None], 0, 20, 2), 3, 10, 1)
    x = np.stack([x[:, :, t].ravel() for t in range(x.shape[2])])
    for i in range(N_LAYERS):
        if i:
            x = normalised(x, f"rnns.{i}.batch_norm.module")
        x = recurrent(x, i, "") + recurrent(x, i, "_reverse")
    x = normalised(x, "fc.0.module.0") @ w["fc.0.module.1.weight"].T
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def slow_spectrogram(wave: np.ndarray, symmetric: bool) -> np.ndarray:
    """20 ms Hamming windows every 10 ms, log magnitudes of mean 0 and deviation 1."""
    taper = get_window("hamming", 320, fftbins=not symmetric)
    n_frames = 2 * -(-len(wave) // HOP)
    padded = np.pad(wave, (0, 160 * n_frames + 160 - len(wave)))
    frames = [padded[160 * k : 160 * k + 320] * taper for k in range(n_frames)]
    values = np.log1p(np.abs(np.fft.rfft(frames, axis=1))).T
    whole = values[:, : (len(wave) - 320) // 160 + 1]
    return (values - whole.mean()) / whole.std(ddof=1)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as version 2 wrote them, in torch's format of then."""
    path = tmp_path_factory.mktemp("deepspeech") / "an4_pretrained_v2.pth"
    package = {
        "version": "0.0.1",
        "hidden_size": HIDDEN,
        "hidden_layers": N_LAYERS,
        "rnn_type": "lstm",
        "audio_conf": {
            "sample_rate": 16_000,
            "window_size": 0.02,
            "window_stride": 0.01,
            "window": "hamming",
            "noise_dir": None,
        },
        "labels": "_'ABCDEFGHIJKLMNOPQRSTUVWXYZ ",
        "bidirectional": True,
        "state_dict": public_weights(),
    }
    torch.save(package, path, _use_new_zipfile_serialization=False)
    return path


def test_the_network_is_deepspeech_2(old: Path) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal(10 * HOP).astype(np.float32)
    extractor = DeepSpeechExtractor(checkpoint=str(old), **CPU)
    weights = {name: value.double().numpy() for name, value in public_weights().items()}
    expected = slow_network(weights, slow_spectrogram(wave.astype(np.float64), symmetric=True))
    features = extractor(wave)
    assert features.shape == (10, 29) and extractor.dim == 29
    assert np.ptp(expected, axis=0).max() > 0.01, "the sound matters"
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_a_step_stands_where_its_sound_is(old: Path) -> None:
    extractor = DeepSpeechExtractor(checkpoint=str(old), **CPU)
    for samples in (1, HOP, HOP + 1, 20_000):
        assert extractor(np.ones(samples, np.float32)).shape == (-(-samples // HOP), 29)
    # Without the recurrent layers, a click reaches as far back as ahead.
    network = extractor.network
    frames = torch.zeros(161, 60)
    frames[:, 30] = 1.0  # of step 15 alone, and its middle
    with torch.no_grad():
        moved = network.conv["seq_module"](frames[None, None]) - network.conv["seq_module"](
            0 * frames[None, None]
        )
    steps = moved[0].abs().sum((0, 1)).nonzero().ravel()
    assert steps.float().mean() == 15
    assert extractor.edges == (0, 160)


def test_chunks_have_the_length_and_loudness_of_the_whole(old: Path) -> None:
    wave = 0.1 * np.random.default_rng(1).standard_normal(200 * HOP).astype(np.float32)
    wave[: 100 * HOP] *= 0.1  # its spectrogram must not be normalised chunk by chunk
    whole = DeepSpeechExtractor(checkpoint=str(old), **CPU)(wave)
    chunked = DeepSpeechExtractor(checkpoint=str(old), chunk_s=1.0, margin_s=1.0, **CPU)(wave)
    assert chunked.shape == whole.shape
    np.testing.assert_allclose(chunked, whole, atol=1e-3)


def lightning_checkpoint(path: Path, window: str, by_name: bool) -> None:
    """A checkpoint as version 3 wrote them: its settings are objects of the package's classes.

    Enumeration members are pickled by value, or by class and name as Python 3.11.0 to 3.11.3 does.
    """
    module = types.ModuleType("deepspeech_pytorch.configs.train_config")
    source = {"module": module.__name__}

    class SpectrogramWindow(enum.Enum):
        hamming = "hamming"
        hann = "hann"

        def __reduce_ex__(self, _protocol: int) -> tuple:
            return (getattr, (type(self), self.name)) if by_name else (type(self), (self.value,))

    @dataclass
    class SpectConfig:
        sample_rate: int = 16_000
        window_size: float = 0.02
        window_stride: float = 0.01
        window: SpectrogramWindow = SpectrogramWindow.hamming

    for made in (SpectrogramWindow, SpectConfig):
        made.__module__, made.__qualname__ = source["module"], made.__name__
        setattr(module, made.__name__, made)
    packages = ("deepspeech_pytorch", "deepspeech_pytorch.configs", module.__name__)
    SpectConfig.__annotations__["window"] = SpectrogramWindow
    SpectConfig.__annotations__ |= {"sample_rate": int, "window_size": float}
    SpectConfig.__annotations__["window_stride"] = float
    sys.modules |= dict.fromkeys(packages, module)
    for field in SpectConfig.__dataclass_fields__.values():
        field.type = SpectConfig.__annotations__[field.name]
    try:
        config = OmegaConf.structured(SpectConfig(window=SpectrogramWindow[window]))
        hyperparameters = {"labels": list("_'ABC"), "spect_cfg": config}
        weights = {**public_weights(), "criterion.weight": torch.ones(1)}
        torch.save({"epoch": 3, "state_dict": weights, "hyper_parameters": hyperparameters}, path)
    finally:
        for name in packages:
            del sys.modules[name]


@pytest.mark.parametrize("by_name", [False, True])
def test_version_3_tells_its_settings_without_its_package(
    tmp_path: Path, old: Path, by_name: bool
) -> None:
    lightning_checkpoint(tmp_path / "v3.ckpt", "hann", by_name)
    weights, settings = read_checkpoint(tmp_path / "v3.ckpt")
    assert (settings.window, settings.periodic, settings.n_fft) == ("hann", True, 320)
    assert weights.keys() == public_weights().keys()
    wave = 0.1 * np.random.default_rng(0).standard_normal(HOP).astype(np.float32)
    features = DeepSpeechExtractor(checkpoint=str(tmp_path / "v3.ckpt"), **CPU)(wave)
    assert features.shape == (1, 29)
    assert read_checkpoint(old)[1].periodic is False


@pytest.mark.parametrize("gates", [1, 3, 4])
def test_the_kind_of_recurrent_layer_is_seen_in_the_weights(tmp_path: Path, gates: int) -> None:
    torch.save({"state_dict": public_weights(gates)}, tmp_path / "a.pth")
    extractor = DeepSpeechExtractor(checkpoint=str(tmp_path / "a.pth"), **CPU)
    assert extractor(np.ones(5 * HOP, np.float32)).shape == (5, 29)
    assert extractor.network.rnns[0].rnn.mode in ("RNN_TANH", "GRU", "LSTM")


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_of_a_checkpoint_runs(tmp_path: Path, zipped: bool) -> None:
    path, mark = tmp_path / "a.pth", tmp_path / "ran"
    content = {"state_dict": public_weights(), "extra": Bomb(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    if zipped:
        assert read_checkpoint(path)[0].keys() == public_weights().keys(), "the rest is inert"
    else:
        with pytest.raises(UserError, match="cannot be read as a DeepSpeech checkpoint"):
            read_checkpoint(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists(), "the bomb is one"


def test_checkpoints_that_cannot_be_used_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"

    def refused(content: object, words: str) -> None:
        torch.save(content, path)
        with pytest.raises(UserError, match=words) as caught:
            DeepSpeechExtractor(checkpoint=str(path), **CPU)(np.ones(HOP, np.float32))
        assert "\n" not in str(caught.value)

    weights = public_weights()
    refused({"weights": 1}, "holds no state_dict")
    refused({"state_dict": {"conv.0.weight": torch.ones(1)}}, "deepspeech.pytorch 1")
    one_way = {k: v for k, v in weights.items() if "reverse" not in k}
    refused({"state_dict": one_way}, "both directions")
    lacking = {k: v for k, v in weights.items() if k != "conv.seq_module.3.bias"}
    refused({"state_dict": lacking}, "do not fit .*conv.seq_module.3.bias")
    conf = {"sample_rate": 8000, "window_size": 0.02, "window_stride": 0.01, "window": "hamming"}
    refused({"state_dict": weights, "audio_conf": conf}, "only networks of 16000 Hz")
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="cannot be read"):
        read_checkpoint(path)
    with pytest.raises(UserError, match=r"no DeepSpeech checkpoint .*extractor\.checkpoint=FILE"):
        _ = DeepSpeechExtractor(checkpoint=str(tmp_path / "no.pth")).dim


def test_a_portrait_keeps_the_place_but_never_the_backend(old: Path) -> None:
    made = DeepSpeechExtractor(checkpoint=str(old), backend="package", **CPU)
    stored = json.loads(json.dumps(made.settings))
    assert stored["checkpoint"] == str(old) and stored.keys().isdisjoint({"backend", "device"})
    assert make_extractor(stored, device="cpu").fingerprint == made.fingerprint
    with pytest.raises(UserError, match="unusable settings"):
        make_extractor({**stored, "backend": "package"})
    with pytest.raises(UserError, match=r"backend=package needs deepspeech-pytorch"):
        made(np.ones(HOP, np.float32))


def test_the_packages_own_network_can_be_used(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Original(torch.nn.Linear):
        @classmethod
        def load_from_checkpoint(cls, path: str, map_location: str) -> Original:
            assert (path, map_location) == (str(old), "cpu")
            return cls(1, 1)

        def forward(self, frames: torch.Tensor, n_frames: torch.Tensor) -> tuple:
            assert frames.shape[:3] == (1, 1, 161) and n_frames.tolist() == [frames.shape[3]]
            return torch.full((1, frames.shape[3] // 2, 29), 1 / 29), n_frames

    package = types.ModuleType("deepspeech_pytorch.model")
    package.DeepSpeech = Original  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "deepspeech_pytorch", package)
    monkeypatch.setitem(sys.modules, "deepspeech_pytorch.model", package)
    made = DeepSpeechExtractor(checkpoint=str(old), backend="package", **CPU)
    np.testing.assert_allclose(made(np.ones(4 * HOP, np.float32)), -np.log(29), rtol=1e-5)
