"""The Basel Face Model's files, in the folder layout of the public systems.

    01_MorphableModel.mat   the model of 2009, from its own site: shape and color, 53,490 vertices
    exp_info.npy            expressions         (the systems' folder data_utils/face_tracking/3DMM)
    topology_info.npy       triangles, and which vertices of the .mat are used        (the same)
    keys_info.npy           vertices of the 68 landmarks and of the jaw's outline     (the same)
    3DMM_info.npy           what their convert_BFM.py makes of the first two; when it is there, it
                            is read instead of them

The .npy files are pickled dicts of arrays; nothing else is unpickled from them.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from radnerf.errors import UserError
from radnerf.preprocess.bfm.model import MorphableModel
from radnerf.preprocess.options import existing

TOPOLOGY, KEYS, CONVERTED = "topology_info.npy", "keys_info.npy", "3DMM_info.npy"
BASEL, EXPRESSIONS = "01_MorphableModel.mat", "exp_info.npy"
N_IDENTITY, N_EXPRESSION, N_COLORS = 100, 79, 100  # as the public systems
UNIT = 1e5  # the files are in micrometres

ADVICE = (
    "give tracker.path=3DMM, the folder data_utils/face_tracking/3DMM of a public RAD-NeRF style "
    "system, with 01_MorphableModel.mat in it (free for research at faces.dmi.unibas.ch/bfm)"
)
# What arrays are pickled with.
HARMLESS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    *(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    ),
}

Arrays = Mapping[str, Any]


def model_files(path: str | Path | None) -> tuple[Path, ...]:
    """The files of the model: the indices, then the converted model or the Basel one's two.

    Raises:
        UserError: some are missing, and how to get them.
    """
    given = existing(path, "tracker.path", ADVICE)
    folder = given if given.is_dir() else given.parent
    model = [CONVERTED] if (folder / CONVERTED).is_file() else [BASEL, EXPRESSIONS]
    files = [folder / name for name in (TOPOLOGY, KEYS, *model)]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UserError(f"tracker.path={path} lacks {' and '.join(missing)}: {ADVICE}.")
    return tuple(files)


def read_model(files: tuple[Path, ...]) -> MorphableModel:
    """The model in the files that `model_files` found.

    Raises:
        UserError: one is damaged, or of something else.
    """
    topology, keys, *parts = files
    indices, landmarks = read_arrays(topology), read_arrays(keys)
    if len(parts) == 1:
        arrays: Arrays = read_arrays(parts[0])
    else:
        arrays = _converted(_read_mat(parts[0]), read_arrays(parts[1]), indices)
    try:
        return _model(arrays, indices, landmarks)
    except (KeyError, ValueError, IndexError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{parts[0].parent} does not hold the Basel Face Model ({error!r}): {ADVICE}."
        ) from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """A dict of arrays that numpy saved.

    Raises:
        UserError: it is no such file, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
            if read(file)[2] != np.dtype(object):
                raise ValueError("it holds an array, not a dict of arrays")
            content = _Arrays(file, encoding="latin1").load().item()
        return {str(name): np.asarray(value) for name, value in content.items()}
    # Damaged pickles raise almost anything.
    except Exception as error:
        raise UserError(f"{path} cannot be read as a dict of arrays ({error}).") from error


class _Arrays(pickle.Unpickler):
    """Reads arrays and plain values, and refuses everything that could run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in HARMLESS:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def _read_mat(path: Path) -> Arrays:
    try:
        return dict(loadmat(path))
    except (OSError, ValueError, TypeError, MatReadError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read as a .mat file ({error}).") from error


def _converted(basel: Arrays, expressions: Arrays, indices: Arrays) -> Arrays:
    """The Basel model's vertices that the public systems use, beside their expressions."""
    used = indices["sub_inds"].astype(np.int64).ravel()

    def components(name: str) -> Float[np.ndarray, "n v3"]:
        flat = np.asarray(basel[name], np.float32).T
        return flat.reshape(len(flat), -1, 3)[:, used].reshape(len(flat), -1)

    return {
        "b_shape": components("shapePC"),
        "mu_shape": components("shapeMU")[0],
        "sig_shape": basel["shapeEV"],
        "b_exp": expressions["base_exp"],
        "mu_exp": expressions["mu_exp"],
        "sig_exp": expressions["sig_exp"],
        "b_tex": components("texPC"),
        "mu_tex": components("texMU")[0],
        "sig_tex": basel["texEV"],
    }


def _model(arrays: Arrays, indices: Arrays, landmarks: Arrays) -> MorphableModel:
    def components(base: str, std: str, most: int, unit: float) -> Float[torch.Tensor, "n v 3"]:
        flat = np.asarray(arrays[base], np.float32)[:most]
        scale = np.asarray(arrays[std], np.float32).ravel()[: len(flat), None]
        return torch.from_numpy((flat * scale / unit).reshape(len(flat), -1, 3))

    def whole(values: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values).astype(np.int64))

    mean = np.asarray(arrays["mu_shape"], np.float64) + np.asarray(arrays["mu_exp"], np.float64)
    mean = mean.reshape(-1, 3)
    color = np.asarray(arrays["mu_tex"], np.float32).reshape(-1, 3) / 255
    return MorphableModel(
        mean=torch.from_numpy(((mean - mean.mean(0)) / UNIT).astype(np.float32)),
        identity=components("b_shape", "sig_shape", N_IDENTITY, UNIT),
        expression=components("b_exp", "sig_exp", N_EXPRESSION, UNIT),
        color=torch.from_numpy(color),
        colors=components("b_tex", "sig_tex", N_COLORS, 255.0),
        triangles=whole(indices["tris"]),
        keys=whole(landmarks["keyinds"]).ravel(),
        left=whole(landmarks["left_contour"]),
        right=whole(landmarks["right_contour"]),
    )
