import pytest
import torch

from radnerf.errors import UserError
from radnerf.metrics import Lpips, load_lpips
from radnerf.metrics.lpips import BACKBONE_FILE


@pytest.fixture
def backbone(tmp_path):
    """AlexNet's weights file as torchvision writes it, with random numbers in it."""
    torch.manual_seed(0)
    state = {k: v for k, v in Lpips().state_dict().items() if k.startswith("features.")}
    state |= {"classifier.1.weight": torch.zeros(2, 2)}
    torch.save(state, tmp_path / BACKBONE_FILE)
    return tmp_path / BACKBONE_FILE


def test_distance_of_images(backbone):
    model = load_lpips(backbone)
    a, b = torch.rand(2, 2, 3, 64, 64).unbind(0)
    assert model(a, a).tolist() == [0, 0]
    assert torch.allclose(model(a, b), model(b, a)) and (model(a, b) > 0).all()
    nearer = model(a, a + 0.1 * (b - a))
    assert (nearer < model(a, b)).all()


def test_distance_adds_the_layers_by_hand():
    """With one channel of the first layer weighted, the distance is that channel's alone."""
    torch.manual_seed(0)
    model = Lpips()
    for weight in model.weights:
        weight.zero_()
    model.weights[0][0, 3] = 2.0
    a, b = torch.rand(2, 1, 3, 48, 48).unbind(0)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    maps = [model.features["0"]((x - mean) / deviation).clamp_min(0) for x in (a, b)]
    units = [m[0, 3] / m[0].square().sum(0).sqrt() for m in maps]
    assert model(a, b)[0] == pytest.approx(
        float(2 * (units[0] - units[1]).square().mean()), rel=1e-4
    )


def test_gradient_reaches_the_image_and_no_weight(backbone):
    model = load_lpips(backbone)
    image = torch.rand(1, 3, 40, 40, requires_grad=True)
    model(image, torch.rand(1, 3, 40, 40)).sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in model.parameters())


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="AlexNet weights at"):
        load_lpips(tmp_path / "none.pth")


def test_hub_cache_is_looked_into(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(UserError, match="hub"):
        load_lpips()
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    backbone.rename(tmp_path / "hub/checkpoints" / BACKBONE_FILE)
    assert isinstance(load_lpips(), Lpips)


@pytest.mark.parametrize("content", [{"a": torch.ones(2)}, [1, 2], b"no torch file"])
def test_other_weights(tmp_path, content):
    path = tmp_path / BACKBONE_FILE
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match="does not hold"):
        load_lpips(path)
