from __future__ import annotations

import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from audio import tiny_models
from inference.fakes import FakePortrait, make_bundle, write_wav

from radnerf.audio import clip_features, make_extractor, model_files
from radnerf.audio.neural import NeuralExtractor
from radnerf.audio.speech_models import HubertExtractor, Wav2Vec2Extractor, WhisperExtractor
from radnerf.conventions import HOP
from radnerf.errors import UserError
from radnerf.inference.file_driver import FileDriver

transformers = pytest.importorskip(
    "transformers", reason="transformers is missing: pip install 'radnerf[speech]'"
)

UNIT = 10 ** (26 / 20)  # speech comes at -26 dB, the models want unit variance
CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tiny_models.save_hubert(root / "hubert")
    tiny_models.save_wav2vec2(root / "wav2vec2")
    tiny_models.save_whisper(root / "whisper")
    return root


def speech(samples: int, seed: int = 0) -> np.ndarray:
    wave = np.random.default_rng(seed).standard_normal(samples)
    return ((wave - wave.mean()) / max(wave.std(), 1e-9) / UNIT).astype(np.float32)


def extractor(models: Path, kind: str, **settings: object) -> NeuralExtractor:
    classes = {
        "hubert": HubertExtractor,
        "wav2vec2": Wav2Vec2Extractor,
        "whisper": WhisperExtractor,
    }
    return classes[kind](model=str(models / kind), **CPU, **settings)


@pytest.mark.parametrize(("kind", "dim"), [("hubert", 16), ("wav2vec2", 11), ("whisper", 16)])
def test_fifty_steps_a_second_of_the_declared_width(models: Path, kind: str, dim: int) -> None:
    made = extractor(models, kind, chunk_s=0.5, margin_s=0.1)
    for samples in (1, HOP, HOP + 1, 33_333):
        features = made(speech(samples))
        assert features.shape == (-(-samples // HOP), dim) and features.dtype == np.float32
        assert np.isfinite(features).all()
    assert made.dim == dim
    assert kind in made.summary and f"{dim} values at 50 steps a second" in made.summary
    assert "cpu" in made.summary and "\n" not in made.summary


@pytest.mark.parametrize("layer", [None, 0, 1, 2])
def test_hubert_is_the_packages_own(models: Path, layer: int | None) -> None:
    wave = speech(16_000)
    normalised = transformers.Wav2Vec2FeatureExtractor()(wave, sampling_rate=16_000).input_values[0]
    model = transformers.HubertModel.from_pretrained(models / "hubert").eval()
    # A state sees 400 samples, 40 more on either side than its step has.
    sound = torch.from_numpy(np.pad(normalised, 40))[None]
    with torch.no_grad():
        output = model(sound, output_hidden_states=True)
    states = output.last_hidden_state if layer in (None, 2) else output.hidden_states[layer]
    features = extractor(models, "hubert", layer=layer)(wave)
    np.testing.assert_allclose(features, states[0].numpy(), atol=1e-4)


def test_wav2vec2_gives_the_packages_logits_or_states(models: Path) -> None:
    wave = speech(16_000)
    sound = torch.from_numpy(np.pad(wave * np.float32(UNIT), 40))[None]
    model = transformers.Wav2Vec2ForCTC.from_pretrained(models / "wav2vec2").eval()
    with torch.no_grad():
        output = model(sound, output_hidden_states=True)
    logits = extractor(models, "wav2vec2")(wave)
    np.testing.assert_allclose(logits, output.logits[0].numpy(), atol=1e-4)
    states = extractor(models, "wav2vec2", layer=1)(wave)
    np.testing.assert_allclose(states, output.hidden_states[1][0].numpy(), atol=1e-4)


def test_whisper_gives_the_packages_encoder_states(models: Path) -> None:
    wave = speech(16_000)
    # A state is centred on the first sample of 320, a step on the middle of its own.
    shifted = np.pad(wave[160:], (0, 160))
    spectrogram = transformers.WhisperFeatureExtractor(chunk_length=1)
    mel = spectrogram(shifted, sampling_rate=16_000, return_tensors="pt").input_features
    model = transformers.WhisperModel.from_pretrained(models / "whisper").eval()
    with torch.no_grad():
        states = model.get_encoder()(mel).last_hidden_state[0].numpy()
    made = extractor(models, "whisper")
    assert made.plan == (26, 12), "at most half of a window of 50 steps is margin"
    np.testing.assert_allclose(made.run(made.network, shifted).numpy(), states, atol=1e-4)


def test_chunks_of_a_local_model_are_the_whole(tmp_path: Path) -> None:
    # Without attention and with layer norms, a state sees 8 steps to either side.
    changes = {"num_hidden_layers": 0, "feat_extract_norm": "layer"}
    folder = str(tiny_models.save_hubert(tmp_path / "hubert", **changes))
    wave = speech(100 * HOP + 7)
    whole = HubertExtractor(model=folder, **CPU)(wave)
    chunked = HubertExtractor(model=folder, chunk_s=0.3, margin_s=0.2, **CPU)(wave)
    np.testing.assert_allclose(chunked, whole, atol=1e-5)


def test_chunks_of_attention_keep_the_length_and_nearly_the_features(models: Path) -> None:
    wave = speech(300 * HOP)
    whole = extractor(models, "wav2vec2")(wave)
    chunked = extractor(models, "wav2vec2", chunk_s=2.0, margin_s=1.0)(wave)
    assert chunked.shape == whole.shape
    # Random weights attend to everything alike, which a trained model does not.
    assert np.abs(chunked - whole).mean() < 0.1 * whole.std()


def test_a_model_of_another_rate_comes_at_ours(tmp_path: Path) -> None:
    changes = {"conv_stride": (5, 2, 2, 2, 2, 2, 1)}
    folder = tiny_models.save_hubert(tmp_path / "hubert", **changes)
    made = HubertExtractor(model=str(folder), **CPU)
    field, hop = made.window
    assert hop == 160
    wave = speech(20 * HOP)
    before = (field - HOP) // 2
    model = transformers.HubertModel.from_pretrained(folder).eval()
    sound = np.pad(wave * np.float32(UNIT), (before, field - HOP - before + hop))
    with torch.no_grad():
        states = model(torch.from_numpy(sound)[None]).last_hidden_state[0].numpy()
    assert len(states) == 40
    np.testing.assert_allclose(made(wave), states[::2], atol=1e-4)


def test_features_are_kept_until_the_weights_change(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(models / "hubert", tmp_path / "hubert")
    write_wav(tmp_path / "aud.wav", 0.5, 16_000)
    first = HubertExtractor(model=str(folder), **CPU)
    features = clip_features(tmp_path, first, 12)
    assert "network" not in first.__dict__, "its memory was given back"
    with monkeypatch.context() as patch:
        patch.setattr(HubertExtractor, "load", lambda self: pytest.fail("loaded"))
        again = clip_features(tmp_path, HubertExtractor(model=str(folder), **CPU), 12)
    assert np.array_equal(again, features)

    tiny_models.save_hubert(folder, seed=1)
    other = HubertExtractor(model=str(folder), **CPU)
    assert other.name != first.name
    assert not np.allclose(clip_features(tmp_path, other, 12), features)
    with pytest.raises(UserError, match="not the speech model that the portrait learned"):
        HubertExtractor(model=str(folder), weights=first.content, **CPU)(speech(HOP))


def test_a_model_in_shards_is_one_model(models: Path, tmp_path: Path) -> None:
    model = transformers.HubertModel.from_pretrained(models / "hubert")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    made = HubertExtractor(model=str(tmp_path), **CPU)
    assert len(made.weight_files) > 1
    whole = extractor(models, "hubert")(speech(5 * HOP))
    np.testing.assert_allclose(made(speech(5 * HOP)), whole, atol=1e-6)
    made.weight_files[-1].unlink()
    with pytest.raises(UserError, match=r"safetensors cannot be read .*copy it again"):
        HubertExtractor(model=str(tmp_path), **CPU)(speech(HOP))


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def test_pickled_weights_load_but_run_no_code(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hubert"
    model = transformers.HubertModel.from_pretrained(models / "hubert")
    folder.mkdir()
    shutil.copy(models / "hubert" / "config.json", folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    features = HubertExtractor(model=str(folder), **CPU)(speech(5 * HOP))
    np.testing.assert_allclose(features, extractor(models, "hubert")(speech(5 * HOP)), atol=1e-5)
    torch.save({**model.state_dict(), "x": Bomb(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded as hubert"):
        HubertExtractor(model=str(folder), **CPU)(speech(HOP))
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran")))
    assert (tmp_path / "ran").exists(), "the bomb is one"


def test_models_that_cannot_be_used_are_refused_in_a_sentence(models: Path, tmp_path: Path) -> None:
    def refused(made: NeuralExtractor, words: str) -> None:
        with pytest.raises(UserError, match=words) as caught:
            made(speech(HOP))
        assert "\n" not in str(caught.value)

    headless = tiny_models.save_wav2vec2(tmp_path / "headless", head=False)
    refused(Wav2Vec2Extractor(model=str(headless), **CPU), "no CTC head: give layer=N")
    assert Wav2Vec2Extractor(model=str(headless), layer=2, **CPU)(speech(HOP)).shape == (1, 16)
    refused(HubertExtractor(model=str(models / "whisper"), **CPU), "of type whisper, not hubert")
    refused(extractor(models, "hubert", layer=3), "layer=3 is not in .*: choose 0 to 2")
    refused(HubertExtractor(model=str(tmp_path / "no"), **CPU), "no speech model .*model=/path")
    strange = shutil.copytree(models / "hubert", tmp_path / "strange")
    (strange / "preprocessor_config.json").write_text("{")
    refused(HubertExtractor(model=str(strange), **CPU), "preprocessor_config.json cannot be read")
    (tmp_path / "empty").mkdir()
    refused(HubertExtractor(model=str(tmp_path / "empty"), **CPU), "holds no model.safetensors")
    damaged = shutil.copytree(models / "hubert", tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"x" * 1000)
    refused(HubertExtractor(model=str(damaged), **CPU), "cannot be loaded as hubert")


def test_without_a_network_the_error_names_the_way_by_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"cannot be downloaded .*audio\.extractor\.model=/path"):
        _ = HubertExtractor(model="facebook/hubert-base-ls960").dim


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'radnerf\[speech\]'"):
        model_files.load_transformers()


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2", "whisper"])
def test_a_portrait_keeps_what_rebuilds_its_extractor(models: Path, kind: str) -> None:
    made = extractor(models, kind, layer=1, chunk_s=3)
    stored = json.loads(json.dumps(made.settings))
    assert "device" not in stored
    again = make_extractor(stored, device="cpu")
    assert again.fingerprint == made.fingerprint and again.dim == made.dim == 16


def test_a_portrait_speaks_again_when_its_model_moved(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakePortrait()
    fake.stand_in(monkeypatch)
    old = shutil.copytree(models / "hubert", tmp_path / "old")
    settings = HubertExtractor(model=str(old), **CPU).settings
    bundle = make_bundle(extractor=settings, portrait={"audio_net": {"dim": 16}})
    wav = write_wav(tmp_path / "a.wav", 0.4, 16_000)
    expected = list(FileDriver(bundle, wav, device="cpu").codes())
    assert len(expected) == 10

    old.rename(tmp_path / "new")
    with pytest.raises(UserError, match=r"There is no speech model .*old.*extractor\.model=/path"):
        FileDriver(bundle, wav, device="cpu")
    moved = FileDriver(bundle, wav, device="cpu", extractor={"model": str(tmp_path / "new")})
    assert torch.equal(torch.stack(list(moved.codes())), torch.stack(expected))
    narrow = make_bundle(extractor=settings, portrait={"audio_net": {"dim": 40}})
    with pytest.raises(UserError, match="16 wide and the portrait learned from 40"):
        FileDriver(narrow, wav, device="cpu", extractor={"model": str(tmp_path / "new")})


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2", "whisper"])
@pytest.mark.parametrize("recorded", [True, False])
def test_streamed_features_do_not_depend_on_the_pieces(
    models: Path, kind: str, recorded: bool
) -> None:
    made = extractor(models, kind, chunk_s=0.3, margin_s=0.1)
    wave = speech(2 * 16_000 + 99)
    prototype = made.stream((lambda: [wave]) if recorded else None)
    streamed = []
    for length in (1000, 12_345, len(wave)):
        stream = prototype.fresh()
        parts = [stream.push(wave[i : i + length]) for i in range(0, len(wave), length)]
        streamed.append(np.concatenate([*parts, stream.end()]))
    assert all(np.array_equal(other, streamed[0]) for other in streamed)
    assert streamed[0].shape == (101, made.dim)
    if recorded:
        assert np.array_equal(streamed[0], made(wave)), "those of the whole recording"
    # A live stream gives the steps of 0.2 s when the margin and the edge after them are known.
    assert prototype.needed(0) == (15 if recorded else 10) * HOP + 5 * HOP + made.edges[1]
