"""What can be measured of a clip: plain numbers and tracks, without any opinion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.spatial.transform import Rotation

from radnerf.audio.sync import LEAST_CORRELATION, SHORTEST, offset_correlations, speech_activity
from radnerf.conventions import FPS, HEAD
from radnerf.data.clip import Clip, face_rectangle
from radnerf.geometry.eyes import HALF_SHUT, closedness, eye_range
from radnerf.geometry.face68 import JAW, mouth_opening

Frame = UInt8[np.ndarray, "h w 3"]
Gray = UInt8[np.ndarray, "h w"]
Track = Float[np.ndarray, " t"]
Samples = Float[np.ndarray, " s"]

SAMPLES = 40  # frames that are looked at, spread over the clip
FLOW_SIDE = 320  # pixels of the longer side at which the background's motion is measured
LEAST_CORNERS = 12  # of the background; fewer say nothing about the camera
BORDER = 0.05  # of the height, where a person enters the picture
# World to camera of a head that faces the camera straight on.
FRONTAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


@dataclass
class Facts:
    """What was measured; tracks have a value a frame, samples one for each of `sampled`."""

    seconds: float
    speech_s: float
    face_px: float  # median width
    frame_px: int  # width
    eye: Track  # 0 shut, 1 usually open
    mouth: Track  # opening in distances of the outer eye corners
    loudness: Track  # how much each frame is part of speech
    head_angles: Float[np.ndarray, "t 3"]  # degrees: pitch, yaw, roll
    sampled: list[int]
    sharpness: Samples  # of the face at the samples, against the clip's median
    brightness: Samples  # of the background at the samples, 0 to 255
    camera: Samples | None  # how far the background moved from the first sample, pixels
    below_jaw: float  # fraction of the head's pixels that are below the chin
    on_its_head: float  # person at the upper border less at the lower, parts of the width
    audio_offset_s: float | None  # of the mouth over its sound; None where that cannot be told
    blinks: int
    unseen: int  # frames without a face, bridged
    tracking: dict[str, Any] = field(default_factory=dict)
    cut: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Numbers for quality.json, tracks left out."""
        offset = self.audio_offset_s
        most = np.abs(self.head_angles - np.median(self.head_angles, 0)).max(0)
        return {
            "seconds": round(self.seconds, 2),
            "speech_s": round(self.speech_s, 2),
            "face_px": round(self.face_px, 1),
            "blinks": self.blinks,
            "audio_offset_ms": None if offset is None else round(1000 * offset),
            "angle_deg": [round(float(x), 1) for x in most],
            "sharpness_least": round(float(self.sharpness.min()), 3),
            "brightness_change": round(brightness_change(self.brightness), 4),
            "camera_px": None if self.camera is None else round(float(self.camera.max()), 2),
            "below_jaw": round(self.below_jaw, 4),
            "on_its_head": round(self.on_its_head, 3),
            "unseen_frames": self.unseen,
            "tracking": self.tracking,
        }


def measure(
    clip: Clip,
    wave: Float[np.ndarray, " s"],
    read_frame: Callable[[int], Frame],
    read_matte: Callable[[int], Gray],
    unseen: Bool[np.ndarray, " t"],
    cut: str | None = None,
) -> Facts:
    """Look a preprocessed clip over.

    Args:
        wave: its sound, 16 kHz mono.
        read_frame: frame i as it was filmed; the clip's own stand before the background.
        read_matte: the person's coverage of frame i, 0 to 255.
        unseen: frames whose landmarks were bridged.
        cut: what is known of cuts in its video.
    """
    ids = [int(i) for i in clip.ids]
    points = np.stack([clip.landmarks(i) for i in range(len(clip))])
    sampled = np.unique(np.linspace(0, len(ids) - 1, SAMPLES).astype(int)).tolist()
    mouth, spoken = mouth_opening(points), speech_activity(wave, max(ids) + 1)[ids]
    shut = 1 - closedness(clip.eye, eye_range(clip.eye))
    mattes = [read_matte(ids[row]) for row in sampled]
    frames = [read_frame(ids[row]) for row in sampled]
    return Facts(
        seconds=len(ids) / FPS,
        speech_s=float(spoken.sum()) / FPS,
        face_px=float(np.median(np.ptp(points[..., 0], axis=1))),
        frame_px=clip.size[1],
        eye=shut,
        mouth=mouth,
        loudness=spoken,
        head_angles=head_angles(clip.poses),
        sampled=[ids[row] for row in sampled],
        sharpness=sharpness(frames, [points[row] for row in sampled]),
        brightness=brightness(frames, mattes),
        camera=camera_motion(frames, mattes),
        below_jaw=fraction_below_jaw(
            [clip.parsing(row) for row in sampled], [points[row] for row in sampled]
        ),
        on_its_head=on_its_head(mattes),
        audio_offset_s=audio_offset(mouth, wave),
        blinks=count_blinks(shut),
        unseen=int(unseen.sum()),
        tracking=dict(clip.meta.get("tracking", {})),
        cut=cut,
    )


def head_angles(poses: Float[np.ndarray, "t 4 4"]) -> Float[np.ndarray, "t 3"]:
    """How far the head is turned from straight on: degrees about its own axes."""
    rotation = np.swapaxes(poses[:, :3, :3], 1, 2).astype(np.float64)
    return Rotation.from_matrix(rotation @ FRONTAL.T).as_euler("xyz", degrees=True)


def count_blinks(eye: Track) -> int:
    """How often the eyes shut; 0 is shut, 1 open."""
    closed = np.concatenate([[False], eye < 1 - HALF_SHUT])
    return int((closed[1:] & ~closed[:-1]).sum())


def audio_offset(mouth: Track, wave: Float[np.ndarray, " s"]) -> float | None:
    """Seconds that the mouth is ahead of its sound, None where the two hardly go together."""
    if len(mouth) / FPS < SHORTEST:
        return None
    offsets, correlation = offset_correlations(mouth, wave)
    best = int(np.argmax(correlation))
    return float(offsets[best]) if correlation[best] >= LEAST_CORRELATION else None


def sharpness(frames: list[Frame], points: list[np.ndarray]) -> Samples:
    """Fine detail of the face against the median of the frames: motion blur, lost focus."""
    values = []
    for frame, landmarks in zip(frames, points, strict=True):
        top, bottom, left, right = face_rectangle(landmarks)
        face = frame[max(0, top) : bottom, max(0, left) : right].mean(-1).astype(np.float32)
        values.append(float(cv2.Laplacian(face, cv2.CV_32F).std()) if face.size else 0.0)
    detail = np.array(values)
    return detail / max(float(np.median(detail)), 1e-6)


def brightness(frames: list[Frame], mattes: list[Gray]) -> Samples:
    """Mean brightness beside the person."""
    shown = []
    for frame, matte in zip(frames, mattes, strict=True):
        beside = matte < 13
        shown.append(float(frame[beside].mean()) if beside.any() else float(frame.mean()))
    return np.array(shown)


def brightness_change(values: Samples) -> float:
    """Largest change of brightness, as a part of the usual one."""
    usual = float(np.median(values))
    return float(np.abs(values - usual).max()) / max(usual, 16.0)


def camera_motion(frames: list[Frame], mattes: list[Gray]) -> Samples | None:
    """How far what is behind the person moved since the first frame, pixels.

    Corners of the background are followed from each frame to the next; None where it has too few.
    """
    scale = min(1.0, FLOW_SIDE / max(frames[0].shape[:2]))
    moved, total = [0.0], np.zeros(2)
    followed = 0
    for k in range(1, len(frames)):
        a, b = (_small(frames[i], scale) for i in (k - 1, k))
        person = np.maximum(mattes[k - 1], mattes[k])
        away = cv2.dilate(person, np.ones((9, 9), np.uint8)) < 13
        beside = cv2.resize(away.astype(np.uint8), a.shape[::-1], interpolation=cv2.INTER_NEAREST)
        corners = cv2.goodFeaturesToTrack(a, 200, 0.02, 5, mask=beside)
        shift = None if corners is None else _shift(a, b, corners)
        if shift is not None:
            followed += 1
            total = total + shift / scale
        moved.append(float(np.linalg.norm(total)))
    return np.array(moved) if followed * 2 >= len(frames) - 1 else None


def _small(frame: Frame, scale: float) -> Gray:
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def _shift(a: Gray, b: Gray, corners: np.ndarray) -> np.ndarray | None:
    there, found, _ = cv2.calcOpticalFlowPyrLK(a, b, corners, None)  # type: ignore[call-overload]
    back, again, _ = cv2.calcOpticalFlowPyrLK(b, a, there, None)  # type: ignore[call-overload]
    sure = (found[:, 0] > 0) & (again[:, 0] > 0)
    sure &= np.linalg.norm((back - corners)[:, 0], axis=1) < 0.5
    if sure.sum() < LEAST_CORNERS:
        return None
    return np.asarray(np.median((there - corners)[sure, 0], axis=0), np.float64)


def fraction_below_jaw(labels: list[Gray], points: list[np.ndarray]) -> float:
    """Median fraction of the head's pixels that are lower than the chin."""
    fractions = []
    for image, landmarks in zip(labels, points, strict=True):
        head = image == HEAD
        chin = int(np.clip(landmarks[JAW, 1].max() + 0.02 * len(image), 0, len(image)))
        fractions.append(float(head[chin:].sum()) / max(1, int(head.sum())))
    return float(np.median(fractions))


def on_its_head(mattes: list[Gray]) -> float:
    """How much more of the upper border shows the person than of the lower one."""
    band = max(1, round(BORDER * len(mattes[0])))
    covered = [float((m[:band] > 127).mean() - (m[-band:] > 127).mean()) for m in mattes]
    return float(np.median(covered))
