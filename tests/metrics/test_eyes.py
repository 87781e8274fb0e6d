import numpy as np
import pytest
import torch

from radnerf.metrics import EyeResponse, eye_response

CONTROLS = (0.0, 0.1, 0.2, 0.3)


def respond(eyes, mouth):
    """Response of pictures that hold their measures in their first pixels."""

    def draw(i, control):
        return np.full((2, 2, 3), CONTROLS.index(control), np.uint8)

    def measure(frame, i):
        return float(eyes[i][frame[0, 0, 0]]), float(mouth[i][frame[0, 0, 0]])

    return eye_response(draw, range(len(eyes)), CONTROLS, measure)


def test_eyes_that_follow_and_a_mouth_that_stays():
    found = respond([[0.02, 0.1, 0.15, 0.2]], [[0.3] * 4])
    assert found == pytest.approx({"response": 1, "closing": 0.9, "mouth_change": 0})


def test_rank_correlation_by_hand():
    # Ranks 1 2 3 4 against 2 1 3 4: 1 - 6 (1 + 1) / (4 (16 - 1)) = 0.8.
    found = respond([[0.1, 0.05, 0.15, 0.2]], [[0.3, 0.1, 0.2, 0.3]])
    assert found == pytest.approx({"response": 0.8, "closing": 0.5, "mouth_change": 0.2})
    both = respond([[0.1, 0.05, 0.15, 0.2], [0.2, 0.15, 0.1, 0.05]], [[0.3] * 4] * 2)
    assert both["response"] == pytest.approx((0.8 - 1) / 2)


def test_eyes_that_do_not_move_have_no_response():
    assert respond([[0.2] * 4], [[0.3] * 4])["response"] == 0


def test_frames_without_a_face_do_not_count():
    nan = float("nan")
    seen = respond([[0.0, nan, 0.15, 0.2], [nan, nan, 0.2, 0.1]], [[0.3] * 4] * 2)
    assert seen["response"] == pytest.approx(1, abs=1e-4)
    assert all(np.isnan(v) for v in respond([[nan] * 4], [[nan] * 4]).values())
    metric = EyeResponse()
    metric.update(torch.tensor(CONTROLS), torch.tensor([0.0, 0.1, 0.2, 0.3]), torch.zeros(4))
    metric.reset()
    assert metric.compute()["response"].isnan()
