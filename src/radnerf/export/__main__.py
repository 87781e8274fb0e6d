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
from radnerf.errors import UserError
from radnerf.export.folder import TOOLS, export


def main(arguments: list[str] | None = None) -> int:
    """Export a clip; the exit code."""
    parser = argparse.ArgumentParser("python -m radnerf.export", description=__doc__)
    parser.add_argument("clip", type=Path, help="the clip folder")
    parser.add_argument("out", type=Path, help="the folder to write, which must not exist yet")
    parser.add_argument("--for", dest="tool", choices=TOOLS, default="radnerf")
    parser.add_argument(
        "--audio", type=Path, metavar="FILE", help="audio features (.npy) to put into the folder"
    )
    given = parser.parse_args(arguments)
    console = Console(stderr=True)

    def progress(frames: Iterable[Any], count: int) -> Iterable[Any]:
        return track(frames, "exporting", total=count, console=console)

    try:
        clip = Clip.open(given.clip)
        tool = TOOLS[given.tool]
        remarks = export(clip, given.out, tool, given.audio, progress)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    for remark in (*clip.notes, *remarks):
        print(remark, file=sys.stderr)
    print(f"{given.out}: {len(clip)} frames for {tool.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
