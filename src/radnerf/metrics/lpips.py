"""LPIPS (AlexNet) without torchvision, from weights that are already on the machine."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as nnf
import torchmetrics
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric

from radnerf.errors import UserError

# The file torchvision's alexnet(weights="IMAGENET1K_V1") leaves in the hub cache.
BACKBONE_FILE = "alexnet-owt-7be5be79.pth"
# ImageNet's mean and deviation, for images in [0, 1].
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# torchvision numbers AlexNet's convolutions among ReLUs and pools: features.<number>.
LAYERS = {"0": (3, 64, 11, 4, 2), "3": (64, 192, 5, 1, 2), "6": (192, 384, 3, 1, 1)}
LAYERS |= {"8": (384, 256, 3, 1, 1), "10": (256, 256, 3, 1, 1)}
POOL_BEFORE = ("3", "6")


class Lpips(nn.Module):
    """Perceptual distance of image batches (Zhang et al., CVPR 2018, version 0.1, AlexNet)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict({k: nn.Conv2d(*sizes) for k, sizes in LAYERS.items()})
        self.weights = nn.ParameterList([torch.ones(1, s[1], 1, 1) for s in LAYERS.values()])
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False
        )
        self.requires_grad_(False)

    def forward(
        self, first: Float[Tensor, "n 3 h w"], second: Float[Tensor, "n 3 h w"]
    ) -> Float[Tensor, " n"]:
        """Distance of each pair of images in [0, 1], at least 32 px wide and high."""
        distance = torch.zeros(len(first), device=first.device)
        pairs = zip(self._activations(first), self._activations(second), strict=True)
        for weight, (a, b) in zip(self.weights, pairs, strict=True):
            unit_a, unit_b = (x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in (a, b))
            distance = distance + (weight * (unit_a - unit_b) ** 2).sum(1).mean((1, 2))
        return distance

    def _activations(self, image: Tensor) -> list[Tensor]:
        x, features = (image - self.mean) / self.deviation, []
        for name, layer in self.features.items():
            if name in POOL_BEFORE:
                x = nnf.max_pool2d(x, 3, 2)
            x = nnf.relu(layer(x))
            features.append(x)
        return features


class PerceptualDistance(Metric):
    """LPIPS: mean distance of pairs of images; NaN without any.

    Args:
        model: see load_lpips.
    """

    full_state_update = False
    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, model: Lpips) -> None:
        super().__init__()
        self.model = model
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, rendered: Float[Tensor, "n 3 h w"], true: Float[Tensor, "n 3 h w"]) -> None:
        """Add images in [0, 1]."""
        self.total += self.model(rendered, true).sum()
        self.count += len(rendered)

    def compute(self) -> Tensor:
        return self.total / self.count


def load_lpips(backbone: str | Path | None = None) -> Lpips:
    """LPIPS with its weights; never downloads.

    Args:
        backbone: torchvision's AlexNet weights; None looks in torch's hub cache.

    Raises:
        UserError: the weights are not on this machine, or are others.
    """
    path = Path(backbone or Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE_FILE)
    if not path.is_file():
        raise UserError(
            f"LPIPS needs torchvision's AlexNet weights at {path}: "
            f"download them from https://download.pytorch.org/models/{BACKBONE_FILE}."
        )
    # The linear layers come with torchmetrics.
    linear = Path(torchmetrics.__file__).parent / "functional/image/lpips_models/alex.pth"
    model = Lpips()
    try:
        convolutions = torch.load(path, map_location="cpu", weights_only=True)
        state = {k: v for k, v in convolutions.items() if k.startswith("features.")}
        heads = torch.load(linear, map_location="cpu", weights_only=True)
        state |= {f"weights.{i}": heads[f"lin{i}.model.1.weight"] for i in range(len(LAYERS))}
        model.load_state_dict(state)
    except (RuntimeError, KeyError, AttributeError, OSError, UnpicklingError) as error:
        raise UserError(f"{path} does not hold torchvision's AlexNet weights.") from error
    return model.eval()
