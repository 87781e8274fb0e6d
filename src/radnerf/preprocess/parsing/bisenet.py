"""The face-parsing network of the public talking-head systems, rebuilt so that its weights load.

BiSeNet on a ResNet-18 whose features at 1/8 of the picture stand in for the spatial path, as
published with weights for the 19 classes of CelebAMask-HQ
(https://github.com/zllrunning/face-parsing.PyTorch, MIT). Names and shapes are those of its
`79999_iter.pth`.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from radnerf.audio.model_files import reason
from radnerf.conventions import BACKGROUND, HEAD, NECK, TORSO
from radnerf.errors import UserError

# Class of the weights -> label of the clip.
LABELS: dict[str, int] = {
    "background": BACKGROUND,
    "skin": HEAD,
    "left brow": HEAD,
    "right brow": HEAD,
    "left eye": HEAD,
    "right eye": HEAD,
    "glasses": HEAD,
    "left ear": HEAD,
    "right ear": HEAD,
    "earring": HEAD,
    "nose": HEAD,
    "mouth": HEAD,
    "upper lip": HEAD,
    "lower lip": HEAD,
    "neck": NECK,
    "necklace": NECK,
    "cloth": TORSO,
    "hair": HEAD,
    "hat": HEAD,
}
STRIDE = 32  # of the deepest features
# Of the pictures that the weights were trained on (ImageNet's), RGB.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Features = Float[Tensor, "_ _ _ _"]  # pictures, channels, rows, columns


class ConvBNReLU(nn.Module):
    def __init__(self, wide: int, out: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(wide, out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Features) -> Features:
        return F.relu(self.bn(self.conv(x)))


class BasicBlock(nn.Module):
    def __init__(self, wide: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(wide, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if wide != out or stride != 1:
            narrow = nn.Conv2d(wide, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(narrow, nn.BatchNorm2d(out))

    def forward(self, x: Features) -> Features:
        changed = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(changed + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """Features at 1/8, 1/16 and 1/32 of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))

    def forward(self, x: Features) -> tuple[Features, Features, Features]:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        at_8 = self.layer2(self.layer1(x))
        at_16 = self.layer3(at_8)
        return at_8, at_16, self.layer4(at_16)


class AttentionRefinement(nn.Module):
    """Channels weighed by what the whole picture shows."""

    def __init__(self, wide: int, out: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(wide, out)
        self.conv_atten = nn.Conv2d(out, out, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(out)

    def forward(self, x: Features) -> Features:
        x = self.conv(x)
        whole = self.bn_atten(self.conv_atten(F.adaptive_avg_pool2d(x, 1)))
        return x * whole.sigmoid()


class ContextPath(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.resnet = ResNet18()
        self.arm16 = AttentionRefinement(256, 128)
        self.arm32 = AttentionRefinement(512, 128)
        self.conv_head32 = ConvBNReLU(128, 128)
        self.conv_head16 = ConvBNReLU(128, 128)
        self.conv_avg = ConvBNReLU(512, 128, kernel=1)

    def forward(self, x: Features) -> tuple[Features, Features]:
        """The backbone's features and the context, both at 1/8."""
        at_8, at_16, at_32 = self.resnet(x)
        whole = self.conv_avg(F.adaptive_avg_pool2d(at_32, 1))
        deep = F.interpolate(self.arm32(at_32) + whole, at_16.shape[2:])
        deep = F.interpolate(self.arm16(at_16) + self.conv_head32(deep), at_8.shape[2:])
        return at_8, self.conv_head16(deep)


class FeatureFusion(nn.Module):
    def __init__(self, wide: int) -> None:
        super().__init__()
        self.convblk = ConvBNReLU(wide, wide, kernel=1)
        self.conv1 = nn.Conv2d(wide, wide // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(wide // 4, wide, 1, bias=False)

    def forward(self, near: Features, far: Features) -> Features:
        x = self.convblk(torch.cat([near, far], 1))
        whole = self.conv2(F.relu(self.conv1(F.adaptive_avg_pool2d(x, 1))))
        return x + x * whole.sigmoid()


class Classes(nn.Module):
    def __init__(self, wide: int, middle: int, n_classes: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(wide, middle)
        self.conv_out = nn.Conv2d(middle, n_classes, 1, bias=False)

    def forward(self, x: Features) -> Features:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """Class scores of every pixel; pictures are a multiple of STRIDE high and wide."""

    def __init__(self, n_classes: int = len(LABELS)) -> None:
        super().__init__()
        self.cp = ContextPath()
        self.ffm = FeatureFusion(256)
        self.conv_out = Classes(256, 256, n_classes)
        # Only trained with; here so that the weights load whole.
        self.conv_out16 = Classes(128, 64, n_classes)
        self.conv_out32 = Classes(128, 64, n_classes)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        scores = self.conv_out(self.ffm(*self.cp(x)))
        return F.interpolate(scores, x.shape[2:], mode="bilinear", align_corners=True)


def load_bisenet(path: Path, device: torch.device) -> BiSeNet:
    """The network with weights from a file, which is read without running code of it.

    Raises:
        UserError: the file cannot be read, or is of another network.
    """
    network = BiSeNet()
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    # Damaged files raise errors of zip, pickle or torch.
    except Exception as error:
        raise UserError(
            f"parser.path={path} cannot be loaded as BiSeNet's 19-class face-parsing weights "
            f"({reason(error).rstrip(':.')}): give the public 79999_iter.pth."
        ) from error
    return network.eval().to(device)
