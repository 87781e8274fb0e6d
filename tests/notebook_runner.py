"""Notebooks, run from top to bottom in a process of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def run_notebook(name: str, folder: Path) -> list[dict[str, object]]:
    """Run a notebook as if `folder` were the project's, and return its pictures and texts.

    Raises:
        CellExecutionError: a cell failed.
    """
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    place = folder / "notebooks"
    place.mkdir(exist_ok=True)
    path = Path(shutil.copy(NOTEBOOKS / name, place))
    book = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(place)}}
    )
    client.execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return [dict(output) for output in outputs]
