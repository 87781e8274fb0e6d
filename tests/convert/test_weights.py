"""The converted network against a slow evaluation of the public one."""

import numpy as np
import pytest
import torch
from convert import public

from radnerf import kernels
from radnerf.convert.checkpoint import Checkpoint
from radnerf.convert.weights import to_portrait
from radnerf.errors import UserError

SIZE = (40, 40)


def converted(state, size=SIZE):
    return to_portrait(Checkpoint(state, None, None), size, n_frames=20).double()


@pytest.fixture(autouse=True)
def _double_precision():
    """Random tables jump from cell to cell: rounded places would be other places."""
    before = kernels.get_backend()
    kernels.set_backend("reference")
    yield
    kernels.set_backend(before)


@pytest.fixture(scope="module")
def state():
    return public.state_dict()


@pytest.fixture(scope="module")
def portrait(state):
    return converted(state)


def head_values(portrait, points, directions, code, eye):
    head = portrait.head.field
    state = head.state(torch.tensor(code)[None], torch.tensor([eye]).double(), torch.tensor([-1]))
    frame = torch.zeros(len(points), dtype=torch.long)
    with torch.no_grad():
        return head(torch.tensor(points), torch.tensor(directions), frame, state)


def inputs(seed, n=12):
    rng = np.random.default_rng(seed)
    points = rng.uniform([-1, -0.5, -1], [1, 0.5, 1], (n, 3))
    directions = rng.normal(size=(n, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return points, directions, rng.normal(size=64)


def agrees(state, portrait, eye, shown_eye):
    points, directions, code = inputs(1)
    ours = head_values(portrait, points, directions, code, shown_eye)
    truth = [public.head(state, x, d, code, eye) for x, d in zip(points, directions, strict=True)]
    density, rgb, ambient = (np.array(values) for values in zip(*truth, strict=True))
    assert np.log(density).std() > 0.1 and rgb.std(0).min() > 0.02  # something to compare
    np.testing.assert_allclose(ours.ambient.numpy(), ambient, atol=1e-5)
    np.testing.assert_allclose(np.log(ours.density.numpy()), np.log(density), atol=1e-5)
    np.testing.assert_allclose(ours.rgb.numpy(), rgb, atol=1e-5)


def test_head(state, portrait):
    agrees(state, portrait, eye=0.17, shown_eye=0.17 / 0.25)  # of the public open eye
    checkpoint = Checkpoint(state, None, None)
    own = to_portrait(checkpoint, (40, 40), n_frames=20, eye_range=(0.05, 0.21)).double()
    agrees(state, own, eye=0.17, shown_eye=0.75)


def test_head_without_eye_control_and_codes(state):
    bare = {k: v for k, v in state.items() if k != "individual_codes"}
    bare["sigma_net.net.0.weight"] = state["sigma_net.net.0.weight"][:, :64]
    bare["color_net.net.0.weight"] = state["color_net.net.0.weight"][:, :80]
    agrees(bare, converted(bare), eye=None, shown_eye=0.3)


def test_torso(state, portrait):
    rng = np.random.default_rng(2)
    pose = rng.normal(size=6) * [0.1, 0.1, 0.1, 1, 1, 1]
    pixels = rng.integers(0, 40, (16, 2))
    truth = [public.torso(state, row, column, SIZE, pose) for row, column in pixels]
    driven = portrait.torso.field.state(torch.tensor(pose)[None], torch.tensor([-1]))
    x, y = pixels[:, 1], pixels[:, 0]
    xy = torch.tensor((np.stack([x, y], 1) + 0.5) / 40 * 2 - 1)
    with torch.no_grad():
        rgb, alpha = portrait.torso.field(xy, torch.zeros(16, dtype=torch.long), driven)
    assert np.std([a for a, _ in truth]) > 0.05
    np.testing.assert_allclose(alpha.numpy(), [a for a, _ in truth], atol=1e-5)
    np.testing.assert_allclose(rgb.numpy(), [c for _, c in truth], atol=1e-5)


def test_torso_is_asked_where_the_public_code_asks_it(state, portrait):
    truth = [[public.torso_shown(state, i, j, SIZE) for j in range(40)] for i in range(40)]
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    xy = (torch.stack([columns, rows], -1).view(-1, 2) + 0.5) / 40 * 2 - 1
    ours = portrait.torso.grid.occupied_at(xy).view(40, 40).numpy()
    assert 0.1 < np.mean(truth) < 0.95
    np.testing.assert_array_equal(ours, truth)


def test_audio_code(state, portrait):
    windows = np.random.default_rng(3).normal(size=(8, 16, 44))
    with torch.no_grad():
        ours = portrait.encode_audio(torch.tensor(windows)[None])[0]
    np.testing.assert_allclose(ours.numpy(), public.audio_code(state, windows), atol=1e-5)


def test_occupancy(state, portrait):
    rng = np.random.default_rng(4)
    points = rng.uniform([-1, -0.5, -1], [1, 0.5, 1], (300, 3))
    truth = [public.occupied(state, ((p + 1) / 2 * 128).astype(int).tolist()) for p in points]
    ours = portrait.head.grid.occupied_at(torch.tensor(points))
    assert ours.tolist() == truth
    outside = torch.tensor([[0.0, 0.51, 0.0], [0.0, -0.51, 0.0]])
    assert not portrait.head.grid.occupied_at(outside).any()


def test_head_alone_has_no_torso(state):
    portrait = converted(public.state_dict(torso=False))
    assert not portrait.torso.grid.occupied.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma_net.net.1.weight": torch.zeros(32, 64)}, r"sigma_net\.net\.1\.weight is \(32, 64"),
        ({"encoder.embeddings": torch.zeros(8, 2)}, r"encoder\.embeddings is \(8, 2\)"),
        ({"individual_codes": torch.zeros(())}, r"individual_codes is \(\)"),
        ({"individual_codes_torso": torch.zeros(0, 8)}, r"individual_codes_torso is \(0, 8\)"),
        ({"aabb_infer": torch.tensor([-2.0, -1, -2, 2, 1, 2])}, "--bound 1"),
        ({"density_bitfield": torch.zeros(2 * 128**3 // 8, dtype=torch.uint8)}, "--bound 1"),
        ({"density_bitfield": torch.zeros(128**3 // 8, dtype=torch.uint8)}, "empty"),
        ({"color_net.net.1.weight": torch.full((3, 64), torch.nan)}, "damaged"),
    ],
)
def test_what_does_not_fit(state, change, message):
    with pytest.raises(UserError, match=message):
        converted(state | change)


@pytest.mark.parametrize(
    "name", ["ambient_net.net.2.weight", "density_bitfield", "audio_net.encoder_conv.0.weight"]
)
def test_missing_tensors_are_named(state, name):
    with pytest.raises(UserError, match=name):
        converted({k: v for k, v in state.items() if k != name})
