"""A clip folder for RAD-NeRF, ER-NeRF or GeneFace, as their own preprocessing would make it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from radnerf.data.clip import Clip
from radnerf.export.folder import TOOLS, export
from radnerf.runtime.programs import Options, ended, start


def main(arguments: list[str] | None = None) -> int:
    """Export a clip; the exit code."""
    return ended(lambda: _export(_options().parse_args(arguments)))


def _options() -> Options:
    parser = Options("python -m radnerf.export", description=__doc__)
    parser.add_argument("clip", type=Path, help="the clip folder")
    parser.add_argument("out", type=Path, help="the folder to write, which must not exist yet")
    parser.add_argument("--for", dest="tool", choices=TOOLS, default="radnerf")
    parser.add_argument(
        "--audio", type=Path, metavar="FILE", help="audio features (.npy) to put into the folder"
    )
    return parser


def _export(given: argparse.Namespace) -> None:
    console = Console(stderr=True)

    def progress(frames: Iterable[Any], count: int) -> Iterable[Any]:
        return track(frames, "exporting", total=count, console=console)

    clip = Clip.open(given.clip)
    tool = TOOLS[given.tool]
    remarks = export(clip, given.out, tool, given.audio, progress)
    for remark in (*clip.notes, *remarks):
        print(remark, file=sys.stderr)
    print(f"{given.out}: {len(clip)} frames for {tool.name}")


if __name__ == "__main__":
    start(main)
