"""The pixels of a clip, as 8-bit arrays that need not fit into memory."""

from __future__ import annotations

import json
import mmap
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from radnerf.conventions import TORSO
from radnerf.data.clip import IMAGES, Clip, face_rectangle, lips_rectangle
from radnerf.errors import UserError
from radnerf.files import alone, passing
from radnerf.geometry.face68 import LEFT_EYE, RIGHT_EYE
from radnerf.geometry.motion import planar_motion
from radnerf.load import cores

_CACHE_VERSION = 3
BYTES_PER_PIXEL = 3 + 4 + 1  # of images, torso and labels
NAMES = ("images", "torso", "labels", "rectangles", "landmarks", "torso_motion")


@dataclass
class FrameStore:
    """All frames of a clip; on the CPU the arrays are memory-mapped files of its cache folder.

    A 7,500-frame clip at 512 x 512 takes 15.7 GB of disk and only the pages in use of memory.
    """

    images: UInt8[Tensor, "t h w 3"]
    torso: UInt8[Tensor, "t h w 4"]
    labels: UInt8[Tensor, "t h w"]
    background: UInt8[Tensor, "h w 3"]
    face: Int[Tensor, "t 4"]  # rectangles: top, bottom, left, right (ends excluded)
    lips: Int[Tensor, "t 4"]
    eyes: Int[Tensor, "t 4"]
    landmarks: Float[Tensor, "t 68 2"]  # pixels, x and y
    torso_motion: Float[Tensor, "t 3"]  # shift and rotation of the torso, see geometry/motion.py
    maps: list[np.memmap] = field(default_factory=list)  # what lies behind the big arrays

    @classmethod
    def open(cls, clip: Clip, report: Callable[[int, int], None] | None = None) -> FrameStore:
        """Map the clip's cached arrays, writing them first when they are missing or outdated.

        Args:
            report: called with (frames done, frames in all) while the cache is written.

        Raises:
            UserError: images are missing or of different sizes, or the cache cannot be written.
        """
        folder = clip.root / "cache"
        stamp, fingerprint = folder / "frames.json", _fingerprint(clip)

        def current() -> bool:
            return stamp.is_file() and json.loads(stamp.read_text()) == fingerprint

        clip.require("torso_imgs", "parsing")
        try:
            if not current():
                folder.mkdir(exist_ok=True)
                with alone(folder):
                    if not current():  # another run may have made it meanwhile
                        stamp.unlink(missing_ok=True)
                        _write_cache(clip, folder, report)
                        _write_text(stamp, json.dumps(fingerprint))
        except OSError as error:
            raise UserError(
                f"{folder} cannot be written ({error.strerror or error}): free some space, or copy "
                "the clip to where there is some."
            ) from error
        arrays, maps = {}, []
        for name in NAMES:
            # Mapped copy-on-write: torch wants writable memory, and nothing here ever writes to it.
            maps.append(np.load(folder / f"{name}.npy", mmap_mode="c"))
            arrays[name] = torch.from_numpy(maps[-1])
        face, lips, eyes = arrays.pop("rectangles").unbind(1)
        background = torch.from_numpy(clip.background())
        return cls(**arrays, background=background, face=face, lips=lips, eyes=eyes, maps=maps)

    def release(self) -> None:
        """Let go of the pages that were read; the system still has them while it has room.

        Without this a long clip would in time lie in memory as a whole.
        """
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            for array in self.maps:
                array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    def read_ahead(self, frames: list[int]) -> None:
        """Ask the system to have frames at hand soon; pixel by pixel a disk would be slow."""
        if not hasattr(mmap, "MADV_WILLNEED"):  # not on Windows
            return
        for array in self.maps:
            row = array[0].nbytes
            for i in frames:
                start = array.offset + i * row
                begin = start - start % mmap.PAGESIZE
                array._mmap.madvise(mmap.MADV_WILLNEED, begin, start + row - begin)  # type: ignore[attr-defined]


def _fingerprint(clip: Clip) -> dict[str, object]:
    """Changes whenever a source image is written anew, added or removed, or frames swap places."""
    paths = [clip.path(*clip_file) for clip_file in _sources(clip)]
    newest = max(path.stat().st_mtime_ns for path in paths)
    total = sum(path.stat().st_size for path in paths)
    order = zlib.crc32(np.append(clip.ids, clip.n_train).tobytes())
    return {
        "version": _CACHE_VERSION,
        "files": len(paths),
        "newest": newest,
        "bytes": total,
        "order": order,
    }


def _sources(clip: Clip) -> list[tuple[str, int, str]]:
    kinds = (("gt_imgs", "jpg"), ("torso_imgs", "png"), ("parsing", "png"), ("ori_imgs", "lms"))
    return [
        (folder, i, suffix)
        for folder, suffix in kinds
        for i in range(len(clip))
        if clip.path(folder, i, suffix).is_file()
    ]


def _write_cache(clip: Clip, folder: Path, report: Callable[[int, int], None] | None) -> None:
    """Write the arrays; the old ones stay whole for who has mapped them."""
    for left_behind in folder.glob("part*"):
        shutil.rmtree(left_behind)
    with tempfile.TemporaryDirectory(prefix="part", dir=folder) as part, passing(Path(part)):
        _write_arrays(clip, Path(part), report)
        for name in NAMES:
            (Path(part) / f"{name}.npy").replace(folder / f"{name}.npy")


def _write_arrays(clip: Clip, folder: Path, report: Callable[[int, int], None] | None) -> None:
    count, (height, width) = len(clip), clip.size
    rectangles = np.zeros((count, 3, 4), np.int64)
    points = np.zeros((count, 68, 2), np.float32)
    torso_fraction = np.zeros((height, width))
    with ExitStack() as stack:
        images, torso, labels = (
            stack.enter_context(_ArrayFile(folder / f"{name}.npy", (count, height, width, *more)))
            for name, more in (("images", (3,)), ("torso", (4,)), ("labels", ()))
        )
        for i, (image, cut, parsing, marks) in enumerate(_read_ahead(clip)):
            images.append(image)
            torso.append(cut)
            labels.append(parsing)
            torso_fraction += (parsing == TORSO) / count
            points[i] = marks
            clipped = np.clip(points[i], 0, [width - 1, height - 1]).astype(np.float32)
            rectangles[i] = (
                face_rectangle(clipped),
                lips_rectangle(clipped, height, width),
                _eyes_rectangle(clipped, height, width),
            )
            if report:
                report(i + 1, count)
        motion = planar_motion(images.read, torso_fraction > 0.98, count, clip.n_train // 2)
    np.save(folder / "rectangles.npy", rectangles)
    np.save(folder / "landmarks.npy", points)
    np.save(folder / "torso_motion.npy", motion)


def _read_ahead(clip: Clip, n_ahead: int = 64) -> Iterator[tuple[np.ndarray, ...]]:
    """Image, torso, parsing and landmarks of every frame in order, read by all cores."""

    def read(i: int) -> tuple[np.ndarray, ...]:
        pictures = clip.image(i), clip.torso(i), clip.parsing(i)
        for (folder, (suffix, _)), picture in zip(IMAGES.items(), pictures, strict=True):
            if picture.shape[:2] != clip.size:
                (height, width), (rows, columns) = picture.shape[:2], clip.size
                raise UserError(
                    f"{clip.path(folder, i, suffix[1:])} has {width} x {height} pixels and the "
                    f"clip's first frame {columns} x {rows}: make all of one size."
                )
        return *pictures, clip.landmarks(i)

    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(clip), n_ahead):
            yield from pool.map(read, range(start, min(start + n_ahead, len(clip))))


class _ArrayFile:
    """An .npy file of bytes, written row by row; a mapped one would fill the memory."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.file = path.open("w+b")
        self.row = shape[1:]
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)
        self.start = self.file.tell()

    def __enter__(self) -> _ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def append(self, row: UInt8[np.ndarray, "*shape"]) -> None:
        assert row.shape == self.row
        self.file.write(row.tobytes())

    def read(self, i: int) -> UInt8[np.ndarray, "*shape"]:
        size = int(np.prod(self.row))
        self.file.seek(self.start + i * size)
        return np.frombuffer(self.file.read(size), np.uint8).reshape(self.row)


def _eyes_rectangle(
    landmarks: np.ndarray, height: int, width: int, margin: float = 0.15
) -> tuple[int, int, int, int]:
    """Rectangle around both eyes, widened by a fraction of its width on each side."""
    points = np.concatenate([landmarks[LEFT_EYE], landmarks[RIGHT_EYE]])
    (left, top), (right, bottom) = points.min(0), points.max(0)
    pad = margin * (right - left)
    return (
        max(0, int(top - pad)),
        min(height, int(np.ceil(bottom + pad)) + 1),
        max(0, int(left - pad)),
        min(width, int(np.ceil(right + pad)) + 1),
    )


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)
