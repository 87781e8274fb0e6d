"""Which pixels show a person: MediaPipe's selfie segmentation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from radnerf.tflite.network import Network


class PersonSegmenter:
    """The probability that a pixel shows a person; not for several threads at once."""

    def __init__(self, path: Path) -> None:
        self.network = Network.load(path)

    def __call__(self, frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        height, width = self.network.size
        scale = np.diag([frame.shape[1] / width, frame.shape[0] / height, 1])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        frame = np.ascontiguousarray(frame)
        shown = cv2.warpPerspective(frame, scale, (width, height), flags=flags)
        (found,) = self.network(shown * np.float32(1 / 255)).values()
        return cv2.resize(found[0, ..., 0], frame.shape[1::-1], interpolation=cv2.INTER_LINEAR)
