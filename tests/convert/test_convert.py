"""From a file to a portrait file, and what is refused."""

import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from convert import public

from radnerf.convert.__main__ import main
from radnerf.convert.checkpoint import read_checkpoint
from radnerf.convert.portrait import extractor_settings
from radnerf.errors import UserError
from radnerf.inference.bundle import PortraitBundle
from radnerf.inference.performer import load_portrait
from radnerf.rendering.frame import PlainFrameRenderer, frame_renderer


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint as the public code writes it: statistics, optimiser and all."""
    state = public.state_dict()
    # A filled ball, so that there is something to see.
    axis = (torch.arange(128) + 0.5) / 64 - 1
    ball = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < 0.16).nonzero()
    bits = np.zeros(128**3, np.uint8)
    index = [
        sum((int(c) >> k & 1) << (3 * k + a) for a, c in enumerate(cell) for k in range(7))
        for cell in ball[::1]
    ]
    bits[index] = 1
    state["density_bitfield"] = torch.from_numpy(np.packbits(bits, bitorder="little"))
    path = tmp_path_factory.mktemp("public") / "ngp_ep0028.pth"
    model = OrderedDict(state)
    model._metadata = OrderedDict({"": {"version": 1}})  # as Module.state_dict has it
    content = {
        "epoch": 28,
        "global_step": 200_000,
        "stats": {"loss": [0.1], "results": [np.float64(-31.5), np.float32(1)], "best": None},
        "mean_count": 7,
        "mean_density": 3.0,
        "mean_density_torso": 0.005,
        "ema": {"decay": 0.95, "num_updates": 3, "shadow_params": [torch.zeros(2)]},
        "model": model,
    }
    torch.save(content, path)
    return path


@pytest.fixture
def clip(tiny_clip):
    """A clip with features of the checkpoint's width, 30 frames of them."""
    windows = np.random.default_rng(0).normal(size=(30, 16, 44)).astype(np.float32)
    np.save(tiny_clip / "aud_eo.npy", windows)
    return tiny_clip


def frame(portrait, bundle, renderer):
    draw = renderer(portrait, bundle.focal, bundle.centre, bundle.size, bundle.background.numpy())
    return draw(bundle.poses[0], portrait.rest_code, 0.25, torch.zeros(3))


def test_a_whole_checkpoint(checkpoint, clip, tmp_path, capsys):
    out = tmp_path / "portrait.safetensors"
    assert main([str(checkpoint), "--clip", str(clip), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.count("\n") == 1 and not said.err
    for part in ("head, torso and audio net", "step 200000", "32 x 24", "44 wide", "wav2vec2"):
        assert part in said.out
    bundle = PortraitBundle.load(out)
    assert (bundle.n_train, len(bundle.poses), bundle.audio_offset) == (20, 22, 0.0)
    assert bundle.extractor["model"] == "cpierse/wav2vec2-large-xlsr-53-esperanto"
    portrait = load_portrait(bundle).eval()
    plain = frame(portrait, bundle, PlainFrameRenderer)
    fast = frame(portrait, bundle, frame_renderer)
    background = bundle.background.numpy()
    changed = (np.abs(plain.astype(int) - background) > 8).any(-1)
    assert changed.mean() > 0.1
    # Random tables jump from cell to cell, and the fast renderer rounds them to 8 bits.
    assert np.abs(plain.astype(int) - fast).mean() < 8


def test_rest_is_the_code_of_a_closed_mouth(checkpoint, clip, tmp_path):
    landmarks = np.loadtxt(clip / "ori_imgs" / "7.lms")
    landmarks[[65, 66, 67], 1] = landmarks[[63, 62, 61], 1]  # lips together in two frames
    for i in (7, 8):
        np.savetxt(clip / "ori_imgs" / f"{i}.lms", landmarks)
    out = tmp_path / "portrait.safetensors"
    assert main([str(checkpoint), "--clip", str(clip), "--out", str(out)]) == 0
    state = read_checkpoint(checkpoint).model
    windows = np.load(clip / "aud_eo.npy").astype(np.float64)
    codes = np.array([public.audio_code(state, windows[i - 4 : i + 4]) for i in (7, 8)])
    rest = PortraitBundle.load(out).weights["rest_code"].numpy()
    assert np.abs(codes - rest).max(1).min() < 1e-3


def test_head_alone_with_poses_alone(checkpoint, clip, tmp_path, capsys):
    content = torch.load(checkpoint, weights_only=False)
    content["model"] = {k: v for k, v in content["model"].items() if "torso" not in k}
    del content["model"]["step_counter"]
    torch.save(content["model"], tmp_path / "head.pth")  # a bare state dict
    out = tmp_path / "portrait.safetensors"
    poses = clip / "transforms_train.json"
    assert main([str(tmp_path / "head.pth"), "--clip", str(poses), "--out", str(out)]) == 0
    assert "head alone" in capsys.readouterr().err
    bundle = PortraitBundle.load(out)
    assert bundle.size == (24, 32) and bool((bundle.background == 255).all())
    portrait = load_portrait(bundle).eval()
    image = frame(portrait, bundle, PlainFrameRenderer)
    assert (image[0, 0] == 255).all()  # no torso, no head
    assert (image < 250).any()


def test_code_in_a_checkpoint_never_runs(tmp_path, capsys, clip):
    marker = tmp_path / "ran"
    path = tmp_path / "evil.pth"
    torch.save({"model": {"a": torch.zeros(1)}, "stats": Bomb(marker)}, path)
    out = tmp_path / "portrait.safetensors"
    assert main([str(path), "--clip", str(clip), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert "open" in error and error.count("\n") == 1
    assert not marker.exists() and not out.exists()


def test_what_is_no_checkpoint(tmp_path, checkpoint):
    text = tmp_path / "a.pth"
    text.write_text("<html>quota exceeded</html>")
    cut = tmp_path / "cut.pth"
    cut.write_bytes(checkpoint.read_bytes()[:100_000])
    for path in (text, cut):
        with pytest.raises(UserError, match="download complete"):
            read_checkpoint(path)
    for content in ([1, 2], {"model": {"a": 1}}, {"model": {}}, torch.zeros(2)):
        torch.save(content, text)
        with pytest.raises(UserError, match="no state dict"):
            read_checkpoint(text)
    with pytest.raises(UserError, match="no checkpoint"):
        read_checkpoint(tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("encoder_xy.embeddings", "ER-NeRF"),
        ("aud_ch_att_net.net.0.weight", "ER-NeRF"),
        ("embedding.weight", "--emb"),
    ],
)
def test_other_networks(tmp_path, name, message):
    path = tmp_path / "other.pth"
    torch.save({"model": {name: torch.zeros(2, 2)}}, path)
    with pytest.raises(UserError, match=message):
        read_checkpoint(path)


def test_extractors():
    assert extractor_settings(None, 1024)["name"] == "hubert"
    assert extractor_settings(None, 29) == {"name": "features"}
    assert extractor_settings(None, 7) == {"name": "features"}
    assert extractor_settings("deepspeech", 29) == {"name": "deepspeech"}
    assert extractor_settings("wav2vec2", 32)["model"].startswith("facebook/")
    with pytest.raises(UserError, match=r"44 wide.*1024: choose --extractor wav2vec2"):
        extractor_settings("hubert", 44)
    with pytest.raises(UserError, match="no extractor magic"):
        extractor_settings("magic", 44)


def test_a_failure_leaves_the_old_file(checkpoint, clip, tmp_path, capsys):
    out = tmp_path / "portrait.safetensors"
    out.write_text("old")
    for arguments, message in (
        ([], "--clip DIR"),
        (["--clip", str(tmp_path / "nowhere")], "no clip"),
        (["--clip", str(clip), "--extractor", "hubert"], "44 wide"),
        (["--clip", str(clip), "--extract", "a", "--strange"], "--strange"),
    ):
        assert main([str(checkpoint), "--out", str(out), *arguments]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert main([str(checkpoint), "--clip", str(clip), "--out", str(checkpoint)]) == 1
    assert "replace" in capsys.readouterr().err
    assert out.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["portrait.safetensors", "tiny"]


def test_poses_that_are_none(checkpoint, tmp_path, capsys):
    path = tmp_path / "poses.json"
    good = {
        "focal_len": 80,
        "cx": 16,
        "cy": 12,
        "frames": [{"transform_matrix": np.eye(4).tolist()}],
    }
    for content in (
        [],
        {**good, "frames": []},
        {**good, "focal_len": 0},
        {**good, "cx": None},
        {**good, "cx": 1e9},
        {**good, "cy": float("nan")},
    ):
        path.write_text(json.dumps(content))
        out = str(tmp_path / "portrait.safetensors")
        assert main([str(checkpoint), "--clip", str(path), "--out", out]) == 1
        assert str(path) in capsys.readouterr().err
