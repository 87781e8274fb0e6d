import numpy as np
import pytest
import torch
from torch import nn

from radnerf.errors import UserError
from radnerf.metrics import SyncConfidence, load_syncnet
from radnerf.metrics.mfcc import mfcc
from radnerf.metrics.syncnet import SyncNet, crop_face, face_boxes, sync_scores


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights, saved as the public ones were: before torch counted batches."""
    torch.manual_seed(0)
    state = {k: v for k, v in SyncNet().state_dict().items() if "num_batches" not in k}
    path = tmp_path_factory.mktemp("weights") / "syncnet_v2.model"
    torch.save(state, path)
    return path


def test_names_and_shapes_of_the_public_state_dict():
    shapes = {name: tuple(value.shape) for name, value in SyncNet().state_dict().items()}
    public = {
        "netcnnaud.0.weight": (64, 1, 3, 3),
        "netcnnaud.4.weight": (192, 64, 3, 3),
        "netcnnaud.8.weight": (384, 192, 3, 3),
        "netcnnaud.11.weight": (256, 384, 3, 3),
        "netcnnaud.14.weight": (256, 256, 3, 3),
        "netcnnaud.18.weight": (512, 256, 5, 4),
        "netcnnaud.19.running_mean": (512,),
        "netcnnlip.0.weight": (96, 3, 5, 7, 7),
        "netcnnlip.4.weight": (256, 96, 1, 5, 5),
        "netcnnlip.8.weight": (256, 256, 1, 3, 3),
        "netcnnlip.11.weight": (256, 256, 1, 3, 3),
        "netcnnlip.14.weight": (256, 256, 1, 3, 3),
        "netcnnlip.18.weight": (512, 256, 1, 6, 6),
        "netcnnlip.19.bias": (512,),
    }
    for tower in ("netfcaud", "netfclip"):
        public |= {f"{tower}.0.weight": (512, 512), f"{tower}.1.weight": (512,)}
        public |= {f"{tower}.3.weight": (1024, 512), f"{tower}.3.bias": (1024,)}
    assert {name: shapes[name] for name in public} == public


def test_a_video_is_judged_in_windows_of_five_frames(weights):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    faces = torch.randint(0, 256, (9, 224, 224, 3), dtype=torch.uint8)
    metric = SyncConfidence(load_syncnet(weights), wave)
    for part in faces.split([1, 5, 3]):
        metric.update(part)
    assert sum(len(rows) for rows in metric.pictures) == 5
    whole = metric.model.see(faces[4:9][None])
    assert torch.allclose(torch.cat(list(metric.pictures))[-1], whole[0], atol=1e-4)
    found = metric.compute()
    assert all(value.isfinite() for value in found.values())
    assert found["confidence"] >= 0 and found["distance"] > 0


class Lookup(SyncNet):
    """Embeds a sound as its coefficients, a picture as those of the frame that it numbers."""

    def __init__(self, wave):
        nn.Module.__init__(self)
        heard = torch.from_numpy(mfcc(np.round(wave * 32767).astype(float))).float()
        self.table = heard.unfold(0, 20, 4).mT.flatten(1)

    def see(self, faces):
        return self.table[faces[:, 0, 0, 0, 0].long()]

    def hear(self, coefficients):
        return coefficients.flatten(1)


@pytest.mark.parametrize("late", [-3, 0, 4])
def test_a_known_offset_is_found(late):
    rng = np.random.default_rng(0)
    volume = np.repeat(rng.uniform(0.01, 0.5, 150), 320)
    wave = (volume * rng.uniform(-1, 1, len(volume))).astype(np.float32)
    numbers = torch.arange(75).sub(late).clamp(0, 69).byte()
    metric = SyncConfidence(Lookup(wave), wave)
    for part in numbers.split(16):
        metric.update(part[:, None, None, None].expand(-1, 224, 224, 3).contiguous())
    found = metric.compute()
    assert found["offset_frames"] == late
    assert found["confidence"] > found["distance"]


def test_scores_by_hand():
    rng = np.random.default_rng(0)
    sound = torch.from_numpy(rng.normal(size=(50, 8))).float()
    picture = torch.roll(sound, 2, 0)
    table = np.full((31, 50), np.nan)
    for k, shift in enumerate(range(-15, 16)):
        for i in range(50):
            there = sound[i + shift].numpy() if 0 <= i + shift < 50 else np.zeros(8)
            table[k, i] = np.linalg.norm(picture[i].numpy() - there + 1e-6)
    distances = table.mean(1)
    found = sync_scores(picture, sound)
    assert found["offset_frames"] == 2 == 15 - distances.argmin()
    assert found["distance"] == pytest.approx(distances.min(), rel=1e-4)
    confidence = np.sort(distances)[15] - distances.min()
    assert found["confidence"] == pytest.approx(confidence, rel=1e-4)


def test_faces_are_cropped_below_and_beside_their_box():
    landmarks = np.zeros((20, 68, 2), np.float32)
    landmarks[:] = (100, 100)
    landmarks[:, 0], landmarks[:, 16] = (60, 100), (140, 100)
    landmarks[:, 17:27] = (100, 80)
    landmarks[:, 8] = (100, 160)
    landmarks[7] += 50  # a frame that is off is overruled by its neighbours
    boxes = face_boxes(landmarks)
    # 80 wide; 80 from brows to chin and a quarter of that above them: 100 high.
    assert boxes == pytest.approx(np.tile([100.0, 110.0, 50.0], (20, 1)))
    frame = np.zeros((200, 200, 3), np.uint8)
    frame[60:, 30:170] = 255  # from the box's top; 50 x 1.4 to either side
    frame[198:] = 0
    crop = crop_face(frame, boxes[0])
    assert crop.shape == (224, 224, 3)
    assert crop[:200, 2:-2].mean() > 250
    taller = crop_face(frame[:180], boxes[0])
    assert (taller[-20:] == 110).all(), "gray beyond the picture"


def test_weights_that_are_missing_or_others(tmp_path, weights):
    with pytest.raises(UserError, match=r"metrics\.syncnet=PATH"):
        load_syncnet(None)
    with pytest.raises(UserError, match="no SyncNet weights"):
        load_syncnet(tmp_path / "none.model")
    (tmp_path / "text.model").write_text("no weights")
    torch.save({"netcnnaud.0.weight": torch.zeros(2)}, tmp_path / "other.model")
    for name in ("text.model", "other.model"):
        with pytest.raises(UserError, match="does not hold"):
            load_syncnet(tmp_path / name)


def test_too_short_a_video_has_no_confidence(weights):
    metric = SyncConfidence(load_syncnet(weights), np.zeros(16000, np.float32))
    metric.update(torch.zeros(4, 224, 224, 3, dtype=torch.uint8))
    assert all(value.isnan() for value in metric.compute().values())
