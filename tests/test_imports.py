"""How the packages stand to one another: each can be imported first, and imports go one way."""

from __future__ import annotations

import ast
import subprocess
import sys
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


def imports() -> dict[str, set[str]]:
    """Packages (and modules at the top) that each of them imports, at its top or inside."""
    root = Path(radnerf.__file__).parent
    arrows: dict[str, set[str]] = {}
    for file in root.rglob("*.py"):
        package = file.relative_to(root).with_suffix("").parts[0]
        found = arrows.setdefault(package, set())
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{file} imports relatively"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            parts = [name.split(".") for name in names]
            found |= {part[1] for part in parts if part[0] == "radnerf" and part[1:]} - {package}
    return arrows


def reached(package: str, arrows: dict[str, set[str]]) -> set[str]:
    """All that a package imports, directly or through others."""
    known: set[str] = set()
    waiting = [package]
    while waiting:
        new = arrows.get(waiting.pop(), set()) - known
        known |= new
        waiting += new
    return known


def test_no_package_imports_itself_through_others() -> None:
    arrows = imports()
    assert "conventions" in arrows["audio"] and "kernels" in arrows["fields"]
    assert [package for package in arrows if package in reached(package, arrows)] == []


# What a package must not reach. Entry scripts stand over experiment and inference; those over
# modules; then rendering and losses, heads and torsos, fields, kernels. Sound, data and geometry
# know none of these.
ABOVE_KERNELS = (
    *("fields", "heads", "torsos", "rendering"),
    *("losses", "modules", "callbacks", "inference", "experiment"),
)
FORBIDDEN = {
    "conventions": set(imports()),
    "types": set(imports()),
    "errors": set(imports()),
    "runtime": {"audio", "data", "geometry", "kernels", *ABOVE_KERNELS},
    "geometry": {"audio", "data", "kernels", *ABOVE_KERNELS},
    "audio": {"data", "kernels", *ABOVE_KERNELS},
    "metrics": {"preprocess", "data", "kernels", *ABOVE_KERNELS},
    "data": {"preprocess", "kernels", *ABOVE_KERNELS},
    "preprocess": {"kernels", *ABOVE_KERNELS},
    "kernels": {"audio", "data", *ABOVE_KERNELS},
    "fields": {"audio", "data", *ABOVE_KERNELS[1:]},
    "heads": {"audio", "data", *ABOVE_KERNELS[2:]},
    "torsos": {"audio", "data", *ABOVE_KERNELS[3:]},
    "rendering": {"audio", "data", *ABOVE_KERNELS[4:]},
    "losses": {"heads", "torsos", "rendering", *ABOVE_KERNELS[5:]},
    "modules": {"callbacks", "inference", "experiment"},
    "inference": {"modules", "losses", "callbacks", "experiment"},
}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package: str) -> None:
    arrows = imports()
    assert package in arrows
    assert reached(package, arrows) & FORBIDDEN[package] == set()
