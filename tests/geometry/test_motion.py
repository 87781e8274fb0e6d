import cv2
import numpy as np

from radnerf.geometry.motion import planar_motion


def test_known_shifts_and_turns_are_found() -> None:
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (96, 128, 3)).astype(np.float32), (0, 0), 3)
    texture = np.clip((texture - texture.mean()) * 6 + 128, 0, 255).astype(np.uint8)
    shifts, turns = [(0, 0), (1.5, -0.5), (3.0, 1.0)], [0.0, 0.01, 0.03]
    frames = []
    for (dx, dy), turn in zip(shifts, turns, strict=True):
        warp = cv2.getRotationMatrix2D((64, 48), -np.degrees(turn), 1)
        warp[:, 2] += (dx, dy)
        frames.append(cv2.warpAffine(texture, warp, (128, 96), borderMode=cv2.BORDER_REFLECT))
    region = np.zeros((96, 128), bool)
    region[20:76, 20:108] = True
    motion = planar_motion(lambda i: frames[i], region, 3, reference=0)
    assert np.allclose(motion[:, :2] * [64, 48], shifts, atol=0.1)
    assert np.allclose(motion[:, 2], turns, atol=0.003)


def test_a_region_too_small_to_align_stands_still() -> None:
    frame = np.zeros((32, 32, 3), np.uint8)
    assert not planar_motion(lambda i: frame, np.zeros((32, 32), bool), 4, 0).any()
