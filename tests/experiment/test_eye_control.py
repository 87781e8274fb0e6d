"""The eyes of a trained portrait follow their control, and the mouth does not."""

from __future__ import annotations

import numpy as np
import pytest
from experiment.training import fresh, small_clip, trained

from radnerf.data.demo.oracle import eye_opening_from_frames, mouth_opening_from_frames
from radnerf.fields.audio_net import mouth_codes
from radnerf.metrics import eye_response

# Most rays at the eyes, so that half a minute is enough to see them.
AT_THE_EYES = (
    "loss.eye_control.ray_fraction=0.6",
    "model.stages.head.sampling.fractions.head=0.25",
    "model.stages.head.sampling.fractions.lips=0.15",
    "encoder.spatial.n_levels=12",
    "encoder.spatial.finest_resolution=512",
)


def test_the_oracle_sees_blinks(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = small_clip(tmp_path_factory.mktemp("clip"), 5.0, 96)
    truth = np.load(data.root / "truth.npz")["eye_opening"]
    seen = eye_opening_from_frames(data.frames.images.numpy(), data.clip.poses)
    assert np.corrcoef(seen, truth)[0, 1] > 0.97
    assert seen[truth < 0.1].mean() < 0.15 * seen[truth > 0.9].mean()


def test_the_eyes_follow_their_control_and_the_mouth_stays(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    data = small_clip(tmp_path_factory.mktemp("clip"), 5.0, 96)
    clip = data.clip
    portrait = trained(data, fresh(data, *AT_THE_EYES), "head", 700, *AT_THE_EYES)
    shut_mouth = mouth_codes(data.mouth, portrait.audio_net.code_dim)[data.mouth_opening.argmin()]
    background = data.frames.background.float() / 255

    def draw(i: int, control: float) -> np.ndarray:
        camera = data.poses[i], clip.focal, clip.centre, clip.size
        image = portrait.render(*camera, shut_mouth, control, background, with_torso=False)
        return (image * 255).byte().numpy()

    def measure(frame: np.ndarray, i: int) -> tuple[float, float]:
        seen = frame[None], clip.poses[i : i + 1]
        return float(eye_opening_from_frames(*seen)[0]), float(mouth_opening_from_frames(*seen)[0])

    frames = np.linspace(clip.n_train, len(clip) - 1, 3).round().astype(int).tolist()
    found = eye_response(draw, frames, np.linspace(0.0, 1.0, 5).tolist(), measure)
    # Between nearly shut and shut eyes the oracle sees no order: lashes count as eyeball.
    assert found["response"] > 0.85
    assert found["closing"] > 0.6
    assert found["mouth_change"] < 0.1
