"""Parsers of one frame at a time: class maps that are known, and networks with drawn weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from preprocess.parsing.test_selfie import COAT, SIDE, drawn_person, overlap
from torch import Tensor

from radnerf.conventions import BACKGROUND, HEAD, NECK, TORSO
from radnerf.errors import UserError
from radnerf.preprocess.parsing import parsers
from radnerf.preprocess.parsing.bisenet import BiSeNet, load_bisenet
from radnerf.preprocess.parsing.parsers import BisenetParser, FrameParser, SelfieMulticlassParser


@dataclass(frozen=True)
class KnownParser(FrameParser):
    """A parser that has been told the labels, seen through a coarse and unsure net."""

    maps: list[np.ndarray] = field(default_factory=list, compare=False)

    def parse(self, frame: np.ndarray, points: np.ndarray) -> np.ndarray:
        labels = self.maps[int(frame[0, 0, 0])]
        sure = np.stack([labels == k for k in range(4)]).astype(np.float32)
        soft = np.stack([cv2.blur(cv2.resize(p, (80, 80)), (3, 3)) for p in sure])
        full = np.stack([cv2.resize(p, (SIDE, SIDE)) for p in soft])
        return (0.8 * full + 0.05) / (0.8 * full + 0.05).sum(0)


def parse(maps: list[np.ndarray]) -> list[np.ndarray]:
    frame, _, points = drawn_person()
    frames = [frame.copy() for _ in maps]
    for i, numbered in enumerate(frames):
        numbered[0, 0, 0] = i
    landmarks = np.stack([points] * len(maps))
    results = KnownParser(maps=maps).labels(lambda i: frames[i], landmarks)
    return [labels for _, labels, _ in results]


def test_labels_follow_the_parser_and_edges_the_frame() -> None:
    _, truth, _ = drawn_person()
    labels = parse([truth] * 5)[2]
    for label, least in ((HEAD, 0.97), (TORSO, 0.97), (NECK, 0.9)):
        assert overlap(labels == label, truth == label) > least
    assert overlap(labels != BACKGROUND, truth != BACKGROUND) > 0.98


def test_one_wrong_frame_does_not_flicker() -> None:
    _, truth, _ = drawn_person()
    wrong = truth.copy()
    wrong[50:80, 50:110] = TORSO
    middle = parse([truth, truth, truth, wrong, truth, truth, truth])[3]
    assert overlap(middle == HEAD, truth == HEAD) > 0.95


def test_a_shoulder_taken_for_a_head_and_a_hand_for_a_neck_are_torso() -> None:
    _, truth, _ = drawn_person()
    wrong = truth.copy()
    wrong[130:150, 15:45] = HEAD
    wrong[130:150, 120:145] = NECK
    labels = parse([wrong] * 3)[1]
    assert (labels[133:147, 18:42] == TORSO).all()
    assert (labels[133:147, 123:142] == TORSO).all()


# The public systems' own table: which color each of the 19 classes gets.
PUBLIC = {
    HEAD: [*range(1, 14), 17, 18],
    NECK: [14, 15],
    TORSO: [16],
    BACKGROUND: [0],
}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """A state dict of drawn numbers in which no two layers are alike."""
    torch.manual_seed(0)
    network = BiSeNet()
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif ("bn" in name or ".downsample.1." in name) and value.is_floating_point():
            value.normal_(0.3, 0.3)
    return network.state_dict()


def evaluated(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """The published network, written out from its state dict."""

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        kernel = w[f"{name}.weight"]
        return F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    def bn(name: str, x: Tensor) -> Tensor:
        statistics = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return F.batch_norm(x, *statistics, w[f"{name}.weight"], w[f"{name}.bias"])

    def cbr(name: str, x: Tensor) -> Tensor:
        return bn(f"{name}.bn", conv(f"{name}.conv", x)).relu()

    def block(name: str, x: Tensor, stride: int) -> Tensor:
        y = bn(f"{name}.bn1", conv(f"{name}.conv1", x, stride)).relu()
        y = bn(f"{name}.bn2", conv(f"{name}.conv2", y))
        if f"{name}.downsample.0.weight" in w:
            x = bn(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride))
        return (x + y).relu()

    def refined(name: str, x: Tensor) -> Tensor:
        x = cbr(f"{name}.conv", x)
        return (
            x * bn(f"{name}.bn_atten", conv(f"{name}.conv_atten", x.mean((2, 3), True))).sigmoid()
        )

    def twice(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    base = "cp.resnet"
    y = bn(f"{base}.bn1", conv(f"{base}.conv1", x, 2)).relu()
    y = F.max_pool2d(y, 3, 2, 1)
    features = []
    for layer, stride in ((1, 1), (2, 2), (3, 2), (4, 2)):
        y = block(f"{base}.layer{layer}.0", y, stride)
        y = block(f"{base}.layer{layer}.1", y, 1)
        features.append(y)
    _, at_8, at_16, at_32 = features
    deep = refined("cp.arm32", at_32) + cbr("cp.conv_avg", at_32.mean((2, 3), True))
    deep = refined("cp.arm16", at_16) + cbr("cp.conv_head32", twice(deep))
    fused = cbr("ffm.convblk", torch.cat([at_8, cbr("cp.conv_head16", twice(deep))], 1))
    gate = conv("ffm.conv2", conv("ffm.conv1", fused.mean((2, 3), True)).relu()).sigmoid()
    scores = conv("conv_out.conv_out", cbr("conv_out.conv", fused + fused * gate))
    return F.interpolate(scores, x.shape[2:], mode="bilinear", align_corners=True)


def test_bisenet_computes_what_was_published(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "79999_iter.pth")
    network = load_bisenet(tmp_path / "79999_iter.pth", torch.device("cpu"))
    picture = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found, wanted = network(picture), evaluated(weights, picture)
    assert found.shape == (1, 19, 64, 96) and float(wanted.std()) > 0.01
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_names_and_shapes_are_those_of_the_public_weights(weights: dict[str, Tensor]) -> None:
    for name, shape in {
        "cp.resnet.conv1.weight": (64, 3, 7, 7),
        "cp.resnet.layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "cp.resnet.layer4.1.bn2.running_mean": (512,),
        "cp.arm16.conv.conv.weight": (128, 256, 3, 3),
        "cp.arm32.bn_atten.weight": (128,),
        "cp.conv_head16.bn.num_batches_tracked": (),
        "cp.conv_avg.conv.weight": (128, 512, 1, 1),
        "ffm.convblk.conv.weight": (256, 256, 1, 1),
        "ffm.conv1.weight": (64, 256, 1, 1),
        "conv_out.conv_out.weight": (19, 256, 1, 1),
        "conv_out16.conv.conv.weight": (64, 128, 3, 3),
        "conv_out32.conv_out.weight": (19, 64, 1, 1),
    }.items():
        assert tuple(weights[name].shape) == shape
    # Counted from the published modules: 20 convolutions with norms in the ResNet, 11 around it,
    # and 5 without.
    convolutions = [name for name, value in weights.items() if value.dim() == 4]
    norms = [name for name in weights if name.endswith("running_mean")]
    assert (len(convolutions), len(norms)) == (36, 31)
    assert len(weights) == len(convolutions) + 5 * len(norms)


def test_bisenet_parses_frames(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "79999_iter.pth"
    torch.save(weights, path)
    frame, _, points = drawn_person()
    wide = np.concatenate([frame, frame[:, :40]], 1)
    parser = BisenetParser(path=str(path), side=64, device="cpu")
    parser.check()
    assert parser.input_size((160, 200)) == (64, 64) and parser.input_size((100, 200)) == (32, 64)
    parts = parser.parse(wide, points)
    assert parts.shape == (4, 160, 200)
    assert parts.sum(0) == pytest.approx(1, abs=1e-4)
    # By hand: ImageNet's colors, the classes' probabilities, and the public table.
    small = F.interpolate(
        torch.from_numpy(wide).permute(2, 0, 1)[None] / 255,
        (64, 64),
        mode="bilinear",
        antialias=True,
    )
    colors = (small - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    with torch.no_grad():
        classes = evaluated(weights, colors).softmax(1)
    classes = F.interpolate(classes, (160, 200), mode="bilinear")[0].numpy()
    for label, members in PUBLIC.items():
        assert parts[label] == pytest.approx(classes[members].sum(0), abs=1e-3)


class Touches:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def test_weights_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv.weight": torch.zeros(3)}, "other.pth")
    torch.save({"x": Touches()}, "code.pth")
    Path("text.pth").write_text("no weights")
    for name in ("other.pth", "code.pth", "text.pth"):
        with pytest.raises(UserError, match=f"{name} cannot be loaded as BiSeNet's") as error:
            BisenetParser(path=name).check()
        assert ". " not in str(error.value).removesuffix(".")
    assert not Path("ran").exists()


def segmenter_of(class_map: np.ndarray) -> Any:
    """MediaPipe with a segmenter that sees this map of classes, at half its size."""
    small = class_map[::2, ::2]
    masks = [
        SimpleNamespace(numpy_view=lambda k=k: (small == k).astype(np.float32)) for k in range(6)
    ]
    vision = SimpleNamespace(
        ImageSegmenter=SimpleNamespace(
            create_from_options=lambda options: SimpleNamespace(
                segment=lambda image: SimpleNamespace(confidence_masks=masks)
            )
        ),
        ImageSegmenterOptions=lambda **options: options,
    )
    return SimpleNamespace(
        tasks=SimpleNamespace(vision=vision, BaseOptions=lambda model_asset_path: model_asset_path),
        Image=lambda image_format, data: data,
        ImageFormat=SimpleNamespace(SRGB=1),
    )


def test_selfie_multiclass_by_its_classes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frame, truth, points = drawn_person()
    hair, body, face, clothes, others = range(1, 6)
    classes = np.select([truth == HEAD, truth == NECK, truth == TORSO], [face, body, clothes], 0)
    classes[:40][truth[:40] == HEAD] = hair
    classes[60:68, 56:104] = others  # glasses
    classes[140:152, 60:100] = others  # something held
    monkeypatch.setattr(parsers, "load_mediapipe", lambda: segmenter_of(classes))
    path = tmp_path / "selfie_multiclass_256x256.tflite"
    path.touch()
    parser = SelfieMulticlassParser(path=str(path))
    parser.check()
    parts = parser.parse(frame, points)
    found = parts.argmax(0)
    wanted = truth.copy()
    wanted[140:152, 60:100] = TORSO
    for label in (HEAD, NECK, TORSO, BACKGROUND):
        assert overlap(found == label, wanted == label) > 0.85
    assert parts.sum(0) == pytest.approx(1, abs=1e-5)
    assert (frame[150, 30] > np.array(COAT) - 20).all()
    labels = [labels for _, labels, _ in parser.labels(lambda i: frame, np.stack([points] * 3))]
    assert overlap(labels[1] == HEAD, truth == HEAD) > 0.95


def test_a_file_that_is_no_segmentation_model(tmp_path: Path) -> None:
    pytest.importorskip("mediapipe", reason="no MediaPipe for this Python")
    path = tmp_path / "selfie_multiclass_256x256.tflite"
    path.write_text("no model")
    frame, _, points = drawn_person()
    parser = SelfieMulticlassParser(path=str(path))
    with pytest.raises(UserError, match="cannot be loaded as a segmentation model"):
        parser.parse(frame, points)
