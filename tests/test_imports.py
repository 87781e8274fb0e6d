"""How the packages stand to one another: each can be imported first, and imports go one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import radnerf

# Forked, so that torch and Lightning are loaded only once.
IMPORT_EACH = """
import importlib, os, sys, traceback
import cv2, pytorch_lightning, scipy, torch
for name in sys.argv[1:]:
    assert not any(module.startswith("radnerf") for module in sys.modules)
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            print(name, traceback.format_exc(limit=-3), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_packages_import_alone() -> None:
    root = Path(radnerf.__file__).parent
    files = [*root.rglob("__init__.py"), *root.glob("*.py")]
    names = {".".join(("radnerf", *file.relative_to(root).with_suffix("").parts)) for file in files}
    packages = sorted(name.removesuffix(".__init__") for name in names)
    assert "radnerf.callbacks" in packages and "radnerf.cli" in packages
    command = [sys.executable, "-c", IMPORT_EACH, *packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout == "", done.stdout + done.stderr


ROOT = Path(radnerf.__file__).parent


@cache
def imported(file: Path) -> list[str]:
    """Dotted names that a file imports, at its top or inside."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} imports relatively"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return names


def imports(folder: Path = ROOT) -> dict[str, set[str]]:
    """What each module and package in a package's folder imports of its neighbours there.

    What the package itself offers counts as __init__.
    """
    package = ".".join(("radnerf", *folder.relative_to(ROOT).parts)) + "."
    neighbours = {path.stem for path in folder.iterdir()}
    arrows: dict[str, set[str]] = {}
    for file in folder.rglob("*.py"):
        importer = file.relative_to(folder).with_suffix("").parts[0]
        names = {name for name in imported(file) if name.startswith(package)}
        inner = {name.removeprefix(package).split(".")[0] for name in names}
        found = {name if name in neighbours else "__init__" for name in inner}
        arrows[importer] = arrows.get(importer, set()) | found - {importer}
    return arrows


def reached(name: str, arrows: dict[str, set[str]]) -> set[str]:
    """All that a module or package imports, directly or through others."""
    known: set[str] = set()
    waiting = [name]
    while waiting:
        new = arrows.get(waiting.pop(), set()) - known
        known |= new
        waiting += new
    return known


FOLDERS = sorted({file.parent.relative_to(ROOT) for file in ROOT.rglob("__init__.py")})


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_nothing_imports_itself_through_its_neighbours(folder: Path) -> None:
    arrows = imports(ROOT / folder)
    assert [name for name in arrows if name in reached(name, arrows)] == []


def test_the_arrows_are_seen() -> None:
    arrows = imports()
    assert "conventions" in arrows["audio"] and "kernels" in arrows["fields"]
    assert "video" in imports(ROOT / "preprocess")["landmarks"]
    assert reached("a", {"a": {"b"}, "b": {"c"}, "c": {"a"}}) == {"a", "b", "c"}


# What a package must not reach. Entry scripts stand over experiment and inference; those over
# modules; then losses, rendering, heads and torsos, fields, kernels. Sound, data, geometry and
# preprocessing know none of these.
OVER_KERNELS = (
    *("fields", "heads", "torsos", "rendering", "losses", "modules"),
    *("callbacks", "inference", "experiment", "benchmark"),
)
FIELDS, RENDERING, LOSSES = (OVER_KERNELS.index(x) for x in ("fields", "rendering", "losses"))
LEAVES = {"conventions", "errors", "types", "geometry", "runtime", "registry", "files"}
FORBIDDEN = {
    "conventions": set(imports()),
    "errors": set(imports()),
    "types": set(imports()),
    "registry": set(imports()) - LEAVES,
    "runtime": set(imports()) - LEAVES,
    "geometry": set(imports()) - LEAVES,
    "tflite": set(imports()) - LEAVES,
    "models": set(imports()) - LEAVES,
    "faces": set(imports()) - LEAVES - {"tflite", "models"},
    "audio": {"data", "preprocess", "kernels", *OVER_KERNELS},
    "data": {"preprocess", "kernels", *OVER_KERNELS},
    "preprocess": {"kernels", *OVER_KERNELS},
    "metrics": {"preprocess", "data", "kernels", *OVER_KERNELS},
    "kernels": {"audio", "data", *OVER_KERNELS},
    "fields": {"audio", "data", *OVER_KERNELS[FIELDS + 1 :]},
    "heads": {"audio", "data", *OVER_KERNELS[RENDERING:]},
    "torsos": {"audio", "data", *OVER_KERNELS[RENDERING:]},
    "rendering": {"audio", "data", *OVER_KERNELS[RENDERING + 1 :]},
    "losses": {"fields", "heads", "torsos", "rendering", *OVER_KERNELS[LOSSES + 1 :]},
    "modules": {"callbacks", "inference", "experiment", "benchmark"},
    "inference": {"modules", "losses", "callbacks", "experiment", "benchmark"},
}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package: str) -> None:
    arrows = imports()
    assert package in arrows
    assert reached(package, arrows) & FORBIDDEN[package] == set()
