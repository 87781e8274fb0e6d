"""Every package can be imported first: none needs another to have been imported before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
