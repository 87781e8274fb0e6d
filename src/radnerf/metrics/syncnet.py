"""SyncNet's confidence that a mouth and a sound belong together (Chung & Zisserman, ACCV-W 2016).

The network and protocol of the public implementation, so that its weights (syncnet_v2.model) load
and its figures compare. One thing differs: faces are cropped around landmarks instead of S3FD's
boxes.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import cv2
import numpy as np
import torch
import torch.nn.functional as nnf
from jaxtyping import Float, UInt8
from scipy.signal import medfilt
from torch import Tensor, nn
from torchmetrics import Metric

from radnerf.conventions import SAMPLE_RATE
from radnerf.errors import UserError
from radnerf.geometry.face68 import BROWS
from radnerf.metrics.mfcc import mfcc

FPS = 25.0
SIDE = 224  # pixels of a face
FRAMES, STEPS, STEPS_PER_FRAME = 5, 20, 4  # 0.2 s of picture and of sound, and their ratio
SHIFTS = 15  # frames searched to both sides
WIDTH = 1024  # of an embedding

CROP_SCALE = 0.4  # of half the face's box, added at every side but the top
SMOOTHING = 13  # frames, median
PADDING = 110  # gray beyond the picture
# S3FD's boxes begin so far above the brows, in distances from brows to chin.
FOREHEAD = 0.25


class SyncNet(nn.Module):
    """Two towers that embed 0.2 s of face and of sound; names as in the public state dict."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_sound(1, 64, 3, 1),
            nn.MaxPool2d(1, 1),
            *_sound(64, 192, 3, 1),
            nn.MaxPool2d(3, (1, 2)),
            *_sound(192, 384, 3, 1),
            *_sound(384, 256, 3, 1),
            *_sound(256, 256, 3, 1),
            nn.MaxPool2d(3, 2),
            *_sound(256, 512, (5, 4), 0),
        )
        self.netcnnlip = nn.Sequential(
            *_picture(3, 96, (5, 7, 7), 2, 0),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_picture(96, 256, (1, 5, 5), 2, 1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_picture(256, 256, (1, 3, 3), 1, 1),
            *_picture(256, 256, (1, 3, 3), 1, 1),
            *_picture(256, 256, (1, 3, 3), 1, 1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_picture(256, 512, (1, 6, 6), 1, 0),
        )
        self.netfcaud = _embedding(width)
        self.netfclip = _embedding(width)
        self.requires_grad_(False)

    def hear(self, coefficients: Float[Tensor, "n 20 13"]) -> Float[Tensor, "n w"]:
        """Embeddings of 0.2 s of sound (mfcc)."""
        return self.netfcaud(self.netcnnaud(coefficients.mT[:, None]).flatten(1))

    def see(self, faces: UInt8[Tensor, "n 5 224 224 3"]) -> Float[Tensor, "n w"]:
        """Embeddings of 5 frames of face, RGB."""
        # The public weights were trained on OpenCV's BGR, 0 to 255.
        pixels = faces.flip(-1).permute(0, 4, 1, 2, 3).float()
        return self.netfclip(self.netcnnlip(pixels).flatten(1))


def _sound(before: int, after: int, kernel: int | tuple[int, int], padding: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, kernel, padding=padding), nn.BatchNorm2d(after), nn.ReLU()]


def _picture(
    before: int, after: int, kernel: tuple[int, int, int], stride: int, padding: int
) -> list[nn.Module]:
    convolution = nn.Conv3d(before, after, kernel, (1, stride, stride), (0, padding, padding))
    return [convolution, nn.BatchNorm3d(after), nn.ReLU()]


def _embedding(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, width))


def load_syncnet(path: str | Path | None) -> SyncNet:
    """SyncNet with public weights.

    Raises:
        UserError: no path, or not these weights.
    """
    if path is None:
        raise UserError(
            "SyncNet needs its public weights: give metrics.syncnet=PATH of syncnet_v2.model, "
            "from https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model."
        )
    if not Path(path).is_file():
        raise UserError(f"There are no SyncNet weights {path}: check metrics.syncnet=PATH.")
    model = SyncNet()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        # Saved before torch counted batches.
        counters = {k: v for k, v in model.state_dict().items() if "num_batches" in k}
        model.load_state_dict(counters | state)
    except (RuntimeError, TypeError, AttributeError, OSError, UnpicklingError, EOFError) as error:
        raise UserError(f"{path} does not hold SyncNet's weights (syncnet_v2.model).") from error
    return model.eval()


class SyncConfidence(Metric):
    """Whether a face says a sound, by the public protocol.

    compute() gives
        confidence: median minus least mean distance of picture and sound over the shifts; more is
            better, real speech has 5 to 9.
        distance: the least mean distance; less is better.
        offset_frames: frames by which the picture is later than the sound; negative is early.

    NaN on less than 6 frames.

    Args:
        model: embeds pictures and sounds.
        wave: the sound from the first frame on, in [-1, 1] at 16 kHz.
    """

    full_state_update = False
    pictures: list[Tensor]

    def __init__(self, model: SyncNet, wave: Float[np.ndarray, " samples"]) -> None:
        super().__init__()
        self.model = model
        self.wave = wave
        self._last = torch.zeros(0, SIDE, SIDE, 3, dtype=torch.uint8)
        self.add_state("pictures", [], dist_reduce_fx="cat")

    def reset(self) -> None:
        super().reset()
        self._last = self._last[:0]

    @torch.inference_mode()
    def update(self, faces: UInt8[Tensor, "t 224 224 3"]) -> None:
        """Add consecutive frames, cropped by crop_faces."""
        faces = torch.cat([self._last, faces.cpu()])
        if len(faces) >= FRAMES:
            windows = faces.unfold(0, FRAMES, 1).movedim(-1, 1)
            self.pictures += [self.model.see(part) for part in windows.split(8)]
        self._last = faces[1 - FRAMES :]

    @torch.inference_mode()
    def compute(self) -> dict[str, Tensor]:
        nan = torch.tensor(torch.nan)
        nothing = {"confidence": nan, "distance": nan, "offset_frames": nan}
        if not self.pictures:
            return nothing
        pictures = torch.cat(list(self.pictures))
        # The public program leaves the last whole window out.
        n = min(len(pictures) + FRAMES - 1, len(self.wave) * int(FPS) // SAMPLE_RATE) - FRAMES
        if n < 1:
            return nothing
        whole = np.round(np.clip(self.wave, -1, 1) * 32767).astype(np.float64)
        coefficients = torch.from_numpy(mfcc(whole)).float()
        windows = coefficients.unfold(0, STEPS, STEPS_PER_FRAME).mT[:n]
        sound = torch.cat([self.model.hear(part) for part in windows.split(64)])
        n = min(n, len(sound))
        return sync_scores(pictures[:n].cpu(), sound[:n].cpu())


def sync_scores(
    picture: Float[Tensor, "n w"], sound: Float[Tensor, "n w"], shifts: int = SHIFTS
) -> dict[str, Tensor]:
    """Confidence, distance and offset of embeddings, one row a frame (see SyncConfidence)."""
    padded = nnf.pad(sound, (0, 0, shifts, shifts))  # nothing is heard beyond the ends
    n = len(picture)
    distances = torch.stack(
        [nnf.pairwise_distance(picture, padded[k : k + n]).mean() for k in range(2 * shifts + 1)]
    )
    least, index = distances.min(0)
    return {
        "confidence": distances.median() - least,
        "distance": least,
        "offset_frames": (shifts - index).float(),
    }


def face_boxes(landmarks: Float[np.ndarray, "t 68 2"]) -> Float[np.ndarray, "t 3"]:
    """Centre (x, y) and half size of each frame's face, smoothed as the public program does."""
    low, high = landmarks.min(1), landmarks.max(1)
    top = low[:, 1] - FOREHEAD * (high[:, 1] - landmarks[:, BROWS, 1].min(1))
    half = np.maximum(high[:, 0] - low[:, 0], high[:, 1] - top) / 2
    tracks = ((low[:, 0] + high[:, 0]) / 2, (top + high[:, 1]) / 2, half)
    ends = SMOOTHING // 2  # medfilt would take in zeros there
    smooth = [medfilt(np.pad(track, ends, "edge"), SMOOTHING)[ends:-ends] for track in tracks]
    return np.stack(smooth, 1)


def crop_face(
    frame: UInt8[np.ndarray, "h w 3"], box: Float[np.ndarray, " 3"]
) -> UInt8[np.ndarray, "224 224 3"]:
    """The lower-middle part of a picture that SyncNet looks at, around a face's box."""
    x, y, half = box
    pad = int(half * (1 + 2 * CROP_SCALE))
    gray = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), constant_values=PADDING)
    rows = slice(int(y + pad - half), int(y + pad + half * (1 + 2 * CROP_SCALE)))
    reach = half * (1 + CROP_SCALE)
    columns = slice(int(x + pad - reach), int(x + pad + reach))
    return np.asarray(cv2.resize(gray[rows, columns], (SIDE, SIDE)))
