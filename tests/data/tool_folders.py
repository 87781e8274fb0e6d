"""Clip folders as the field's preprocessing tools write them, made from the demo clip."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from scipy.io import wavfile

# What OpenFace's FeatureExtraction writes, abridged: padded names, frames from 1.
OPENFACE = "frame, face_id, timestamp, confidence, success, gaze_0_x, AU45_r, AU45_c"


def radnerf(demo: Path, root: Path) -> Path:
    """RAD-NeRF: sound in stereo, landmarks in %f, no eye ratios, wav2vec2 characters."""
    _images(demo, root)
    _transforms(demo, root, lambda frame: {})
    rate, sound = wavfile.read(demo / "aud.wav")
    wavfile.write(root / "aud.wav", rate, np.stack([sound, sound], 1))
    np.save(root / "aud_eo.npy", _features(demo, 16, 44))
    return root


def ernerf(demo: Path, root: Path) -> Path:
    """ER-NeRF: as RAD-NeRF, with OpenFace's blinks; features of DeepSpeech and HuBERT."""
    radnerf(demo, root)
    (root / "aud_eo.npy").unlink()
    np.save(root / "aud_ds.npy", _features(demo, 16, 29).astype(np.float64))
    np.save(root / "aud_hu.npy", _features(demo, 2, 1024))
    write_openface(root / "au.csv", blinks(demo))
    return root


def geneface(demo: Path, root: Path) -> Path:
    """GeneFace: face rectangles, head images, other names, HuBERT at 50 steps a second."""
    _images(demo, root)
    _transforms(demo, root, lambda frame: {"face_rect": [10, 12, 20, 24]})
    shutil.copy(demo / "aud.wav", root / "aud.wav")
    shutil.copytree(demo / "gt_imgs", root / "head_imgs")
    np.save(root / "aud_deepspeech.npy", _features(demo, 16, 29))
    np.save(root / "aud_esperanto.npy", _features(demo, 16, 44))
    np.save(root / "aud_hubert.npy", _features(demo, 2, 1024).reshape(-1, 1024)[:-1])
    np.save(root / "aud_mel_f0.npy", {"mel": np.zeros((9, 80))}, allow_pickle=True)
    (root / "track_params.pt").write_bytes(b"not for us")
    return root


TOOLS: dict[str, Callable[[Path, Path], Path]] = {
    "radnerf": radnerf,
    "ernerf": ernerf,
    "geneface": geneface,
}


def blinks(demo: Path) -> np.ndarray:
    """AU45_r of the demo: its true lids."""
    return 2.4 * (1 - np.load(demo / "truth.npz")["eye_opening"])


def write_openface(path: Path, intensity: np.ndarray, lost: tuple[int, ...] = ()) -> None:
    """A table of OpenFace, with frames it lost and a second face in the third frame."""
    lines = [OPENFACE]
    for i, value in enumerate(intensity):
        success = i not in lost
        shown = value if success else 0.0
        row = f"{i + 1}, 0, {i / 25:.3f}, {0.98 * success:.2f}, {success:d}, 0.1, {shown:.2f}, 0.00"
        lines.append(row)
        if i == 2:
            lines.append(row.replace(f"{i + 1}, 0", f"{i + 1}, 1").replace(f"{shown:.2f}", "5.00"))
    path.write_text("\n".join(lines) + "\n")


def n_frames(demo: Path) -> int:
    return len(list((demo / "gt_imgs").iterdir()))


def _features(demo: Path, rows: int, width: int) -> np.ndarray:
    shape = (n_frames(demo), rows, width)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _images(demo: Path, root: Path) -> None:
    for name in ("gt_imgs", "torso_imgs", "parsing"):
        shutil.copytree(demo / name, root / name)
    shutil.copy(demo / "bc.jpg", root / "bc.jpg")
    (root / "ori_imgs").mkdir()
    for path in (demo / "ori_imgs").glob("*.lms"):
        np.savetxt(root / "ori_imgs" / path.name, np.loadtxt(path), "%f")
        frame = cv2.imread(str(path.with_suffix(".jpg")))
        cv2.imwrite(str(root / "ori_imgs" / f"{path.stem}.jpg"), frame)


def _transforms(demo: Path, root: Path, more: Callable[[dict], dict]) -> None:
    """As save_transforms of the public tools writes them, from a tracked rotation and shift."""
    for split in ("train", "val"):
        content = json.loads((demo / f"transforms_{split}.json").read_text())
        frames = []
        for frame in content["frames"]:
            matrix = np.array(frame["transform_matrix"])
            rotation = matrix[:3, :3].T  # of the head before the camera
            shift = -rotation @ matrix[:3, 3]
            pose = np.eye(4, dtype=np.float32)
            pose[:3, :3], pose[:3, 3] = rotation.T, -rotation.T @ shift
            ids = {"img_id": frame["img_id"], "aud_id": frame["aud_id"]}
            frames.append(ids | {"transform_matrix": pose.tolist()} | more(frame))
        camera = {name: content[name] for name in ("focal_len", "cx", "cy")}
        text = json.dumps(camera | {"frames": frames}, indent=2, separators=(",", ": "))
        (root / f"transforms_{split}.json").write_text(text)
