"""Pretrained speech models on disk or on the hub: finding their files and telling them apart."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from radnerf.errors import UserError

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")
SETTINGS = ("config.json", "preprocessor_config.json")
# The first that is there is loaded: safetensors hold no code.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
BLOCK = 1 << 24  # bytes read at once

BY_PATH = (
    "give the folder of a saved model (train.py: audio.extractor.model=/path, "
    "render.py: extractor.model=/path)"
)


def load_transformers() -> ModuleType:
    """The package that has the speech models.

    Raises:
        UserError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            "Speech models need the package transformers: pip install 'radnerf[speech]'."
        ) from error
    return transformers


def model_folder(model: str) -> Path:
    """Folder with a model's files; one of the hub's is downloaded into the hub's cache once.

    Raises:
        UserError: no such folder, or the hub cannot be reached or has no such model.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if not HUB_NAME.fullmatch(model):
        raise UserError(f"There is no speech model {model} on this machine: {BY_PATH}.")
    load_transformers()
    from huggingface_hub import snapshot_download

    safe = [WEIGHTS[0], f"{WEIGHTS[0]}.index.json", "model-*.safetensors"]
    pickled = [WEIGHTS[1], f"{WEIGHTS[1]}.index.json", "pytorch_model-*.bin"]
    try:
        # What was downloaded once is used as it is, without asking the hub.
        cached = Path(snapshot_download(model, local_files_only=True))
        files = weight_files(cached)
        if files and all(file.is_file() for file in files):
            return cached
    except (OSError, ValueError):
        pass
    try:
        found = Path(snapshot_download(model, allow_patterns=[*SETTINGS, *safe]))
        if not weight_files(found):
            found = Path(snapshot_download(model, allow_patterns=[*SETTINGS, *pickled]))
    # The hub's client raises the errors of whichever HTTP library its version uses.
    except Exception as error:
        unknown = type(error).__name__ in ("RepositoryNotFoundError", "HFValidationError")
        why = "the hub has none of that name" if unknown else "the hub cannot be reached"
        raise UserError(
            f"The speech model {model} is not on this machine and cannot be downloaded ({why}): "
            f"{BY_PATH}."
        ) from error
    return found


def weight_files(folder: Path) -> list[Path]:
    """The files of a model's weights, in shards or whole; none when there are none."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = read_json(index).get("weight_map", {}).values()
            return [folder / Path(shard).name for shard in sorted(set(shards))]
    return []


def read_json(path: Path) -> dict[str, Any]:
    """Settings in a file.

    Raises:
        UserError: missing or damaged.
    """
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}): copy it again.") from error


def content_hash(files: Iterable[Path]) -> str:
    """Hash of all that is in the files, so that another model at the same place is noticed.

    All of it is read: two models may differ in a small last layer alone. A gigabyte takes about a
    second, little beside loading it, and is read once a process while size and time stay.
    """
    whole = hashlib.sha256()
    for file in files:
        try:
            facts = file.stat()
            whole.update(_hash_of_file(str(file), facts.st_size, facts.st_mtime_ns))
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}): copy it again.") from error
    return whole.hexdigest()[:16]


@lru_cache(maxsize=64)
def _hash_of_file(path: str, size: int, time: int) -> bytes:
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.digest()


def reason(error: Exception) -> str:
    """One line of what is wrong with a file."""
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return "it is damaged or holds more than tensors and plain values"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def short_hash(text: str) -> str:
    """A text as 8 characters that fit into a file name."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
