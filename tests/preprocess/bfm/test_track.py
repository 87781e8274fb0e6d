"""The face model's tracking on faces whose shape, poses and colors are known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from face_models import N_COLORS, N_EXPRESSION, N_IDENTITY, draw, pytorch3d_stand_in, write_model
from preprocess_videos import camera_track
from scipy.spatial.transform import Rotation

from radnerf.preprocess.bfm import colors, fit, track
from radnerf.preprocess.bfm.files import model_files, read_model
from radnerf.preprocess.bfm.model import MorphableModel
from radnerf.preprocess.bfm.rasteriser import pytorch3d_rasteriser
from radnerf.preprocess.bfm.track import Settings, track_face

SIZE, FOCAL, T = (72, 96), 230.0, 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MorphableModel:
    return read_model(model_files(write_model(tmp_path_factory.mktemp("bfm"))))


class Truth:
    """A person who talks and moves the head."""

    def __init__(self, model: MorphableModel) -> None:
        random = np.random.default_rng(3)
        rotation, shift = camera_track(T)
        self.rotation = rotation @ track.TO_WORLD  # model to camera
        self.shift = shift * 3
        self.identity = torch.from_numpy(random.normal(0, 1, N_IDENTITY)).float()
        phase = np.arange(T)[:, None] / 4 + np.arange(N_EXPRESSION)
        self.expression = torch.from_numpy(1.2 * np.sin(phase)).float()
        vertices = model.vertices(self.identity, self.expression).numpy()
        self.points = np.einsum("tij,tvj->tvi", self.rotation, vertices) + self.shift[:, None]
        xy = self.points[..., :2] / self.points[..., 2:] * FOCAL + (SIZE[1] / 2, SIZE[0] / 2)
        self.landmarks = xy[:, model.keys].astype(np.float32)

    def turn_errors(self, poses: np.ndarray) -> np.ndarray:
        """Degrees, of the head against the first frame: a shape may be turned as a whole."""
        found = poses[:, :3, :3].transpose(0, 2, 1) @ track.TO_WORLD
        between = found @ found[0].T
        wanted = self.rotation @ self.rotation[0].T
        off = Rotation.from_matrix(between @ wanted.transpose(0, 2, 1))
        return np.rad2deg(off.magnitude())


@pytest.fixture(scope="module")
def truth(model: MorphableModel) -> Truth:
    return Truth(model)


def no_frame(i: int) -> np.ndarray:
    raise AssertionError(f"frame {i} is not needed")


def test_landmarks_alone_find_poses_and_expressions(model: MorphableModel, truth: Truth) -> None:
    settings = Settings(focal=FOCAL, first_focal=1.0)
    poses, shape, focal, facts = track_face(
        model, truth.landmarks, SIZE, settings, no_frame, None, lambda done: None
    )
    assert focal == pytest.approx(FOCAL)
    assert facts["rmse_px"] < 0.2
    assert truth.turn_errors(poses).max() < 1.5
    # The camera in the world of a head that stands still.
    wanted = -np.einsum("tji,tj->ti", truth.rotation, truth.shift) @ track.TO_WORLD.T
    assert poses[:, :3, 3] == pytest.approx(wanted, abs=0.3)  # of a distance of 9
    # The person is found, not the mean face.
    at_rest = model.vertices(truth.identity, torch.zeros(1, N_EXPRESSION))[0, model.keys].numpy()
    usual = model.mean[model.keys].numpy()
    off, usually_off = (
        np.abs((x - at_rest) - (x - at_rest).mean(0)).mean()
        for x in (shape @ track.TO_WORLD, usual)
    )
    assert off < 0.5 * usually_off


def test_an_unknown_focal_length_keeps_the_landmarks(model: MorphableModel, truth: Truth) -> None:
    settings = Settings(focal=None, first_focal=1.4 * FOCAL)
    poses, _, focal, facts = track_face(
        model, truth.landmarks, SIZE, settings, no_frame, None, lambda done: None
    )
    assert 0.6 * FOCAL < focal < 1.6 * FOCAL and focal != pytest.approx(1.4 * FOCAL, rel=1e-3)
    assert facts["rmse_px"] < 0.2
    assert truth.turn_errors(poses).max() < 2


def test_one_outlier_does_not_move_the_head(model: MorphableModel, truth: Truth) -> None:
    landmarks = truth.landmarks.copy()
    landmarks[5, 30] += (25, -20)
    poses, *_ = track_face(
        model, landmarks, SIZE, Settings(FOCAL, FOCAL), no_frame, None, lambda done: None
    )
    assert truth.turn_errors(poses).max() < 2


@pytest.fixture(scope="module")
def pictures(model: MorphableModel, truth: Truth) -> list[np.ndarray]:
    """The frames: the face in a light from the side, drawn by the rasteriser of the tests."""
    points = torch.from_numpy(truth.points).float()
    texture = torch.tensor([1.0, -0.7])[:N_COLORS]
    skin = model.color + torch.einsum("c,cvk->vk", texture, model.colors)
    light = torch.zeros(9, 3)
    light[0], light[1] = 0.9, 0.15
    shade = colors.harmonics(colors.normals(points, model.triangles)) @ light
    drawn = draw(points, skin * shade, model.triangles, torch.tensor(FOCAL), SIZE)
    rgb = drawn[..., :3] + (1 - drawn[..., 3:]) * 0.1
    return list((rgb.clamp(0, 1) * 255).round().byte().numpy())


def test_colors_mend_what_wrong_landmarks_spoil(
    model: MorphableModel, truth: Truth, pictures: list[np.ndarray]
) -> None:
    # Landmarks that slide sideways over the face pull the head along; colors do not.
    slide = 1.2 * np.sin(np.arange(T) / 2)[:, None, None] * np.array([1.0, 0.0])
    landmarks = (truth.landmarks + slide).astype(np.float32)
    done: list[int] = []

    def tracked(rasteriser: object) -> np.ndarray:
        return track_face(
            model,
            landmarks,
            SIZE,
            Settings(FOCAL, FOCAL, side=40),
            lambda i: pictures[i],
            rasteriser,  # type: ignore[arg-type]
            done.append,
        )[0]

    def nose(poses: np.ndarray) -> np.ndarray:
        """Image x of a point on the nose, which slides if the head is taken along."""
        tip = model.mean[model.keys[30]].double().numpy() @ track.TO_WORLD.T
        camera = np.einsum("tji,tj->ti", poses[:, :3, :3], tip - poses[:, :3, 3])
        return FOCAL * camera[:, 0] / camera[:, 2]

    wanted = truth.points[:, model.keys[30]]
    wanted = FOCAL * wanted[:, 0] / wanted[:, 2]

    def sliding(poses: np.ndarray) -> float:
        off = nose(poses) - wanted
        return float((off - off.mean()) @ slide[:, 0, 0] / (slide[:, 0, 0] @ slide[:, 0, 0]))

    by_landmarks, by_colors = sliding(tracked(None)), sliding(tracked(draw))
    assert by_landmarks > 0.7
    assert abs(by_colors) < 0.5 * by_landmarks
    assert done == [8, T]


def test_light_of_a_flat_sheet_by_hand() -> None:
    points = torch.tensor([[[0.0, 0, 2], [1, 0, 2], [0, 1, 2], [1, 1, 2]]])
    normal = colors.normals(points, torch.tensor([[0, 2, 1], [1, 2, 3]]))
    assert normal == pytest.approx(torch.tensor([0.0, 0, -1]).expand(1, 4, 3))
    wanted = torch.tensor([1.0, 0, 0, -1, 0, 0, 2, 0, 0])
    assert colors.harmonics(normal)[0, 0] == pytest.approx(wanted)


def test_the_jaw_is_seen_where_it_is_outermost(model: MorphableModel) -> None:
    x = torch.zeros(2, len(model.mean))
    x[0, model.left[:, 1]], x[1, model.left[:, 0]] = -1, -1
    x[0, model.right[:, 0]], x[1, model.right[:, 1]] = 1, 1
    keys = model.seen_keys(x)
    assert keys[0, :8].tolist() == model.left[:, 1].tolist()
    assert keys[1, :8].tolist() == model.left[:, 0].tolist()
    assert keys[0, 9:17].tolist() == model.right[:, 0].tolist()
    assert keys[1, 9:17].tolist() == model.right[:, 1].tolist()
    assert keys[:, 17:].tolist() == [model.keys[17:].tolist()] * 2


def test_the_small_model_has_the_same_landmarks(model: MorphableModel) -> None:
    few = model.landmarks_only()
    identity, expression = torch.randn(N_IDENTITY), torch.randn(2, N_EXPRESSION)
    assert len(few.mean) < len(model.mean)
    for name in ("keys", "left", "right"):
        whole = model.vertices(identity, expression)[:, getattr(model, name)]
        small = few.vertices(identity, expression)[:, getattr(few, name)]
        assert torch.equal(whole, small)


def test_motion_costs_nothing_when_steady(model: MorphableModel) -> None:
    t = torch.arange(6.0)[:, None]
    face = fit.Face(
        identity=torch.zeros(1),
        expression=torch.ones(6, 2),
        rotation_step=t * torch.tensor([0.0, 0.1, 0.0]),
        move=t * torch.tensor([0.2, 0.0, 0.0]),
        zoom=torch.zeros(()),
        first_rotation=torch.eye(3).repeat(6, 1, 1),
        first_shift=torch.tensor([0.0, 0.0, 9.0]).repeat(6, 1),
        first_focal=torch.tensor(200.0),
    )
    assert float(fit.motion_cost(face)) == pytest.approx(0, abs=1e-4)
    jump = face.at(torch.tensor([3]), face.frames(torch.tensor([0])))
    assert float(fit.motion_cost(jump)) > 10


@pytest.mark.parametrize("size", [(20, 26), (26, 20)])
def test_pytorch3d_draws_what_the_book_draws(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    for name, module in pytorch3d_stand_in().items():
        monkeypatch.setitem(sys.modules, name, module)
    torch.manual_seed(1)
    points = torch.randn(2, 9, 3) * 0.6 + torch.tensor([0.1, -0.2, 4])
    points.requires_grad_()
    rgb, triangles = torch.rand(2, 9, 3), torch.arange(9).view(3, 3)
    inputs = points, rgb, triangles, torch.tensor(30.0), size
    found, wanted = pytorch3d_rasteriser()(*inputs), draw(*inputs)
    assert found.shape == (2, *size, 4) and float(wanted[..., 3].detach().sum()) > 20
    assert torch.allclose(found, wanted, atol=1e-4)
    upstream = torch.randn_like(wanted)
    gradients = [torch.autograd.grad((x * upstream).sum(), points)[0] for x in (found, wanted)]
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-3)


def test_paths_of_the_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "3DMM")
    assert model_files(folder) == model_files(folder / "3DMM_info.npy")
