"""python -m radnerf.data.demo clip|video|speech PATH: the demo's parts, for trying things out."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from radnerf.conventions import SAMPLE_RATE
from radnerf.data.demo import make_demo_clip, write_demo_video
from radnerf.data.demo.speech import synthesize
from radnerf.errors import UserError
from radnerf.files import whole_file
from radnerf.runtime.programs import Options, ended, start


def main(arguments: list[str] | None = None) -> int:
    """Make a part of the demo; the exit code."""
    return ended(lambda: _make(_options().parse_args(arguments)))


def _options() -> Options:
    parser = Options("python -m radnerf.data.demo", description=__doc__)
    parser.add_argument("what", choices=["clip", "video", "speech"])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--size", type=int, default=160, help="pixels a side")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _make(options: argparse.Namespace) -> None:
    if not (options.seconds > 0 and options.size >= 16):
        raise UserError("The demo needs --seconds above 0 and --size of 16 pixels or more.")
    if options.what == "video" and (options.size % 2 or options.path.suffix != ".mp4"):
        raise UserError("The demo's video is an .mp4 of an even --size: give such a name and size.")
    if options.what == "clip":
        make_demo_clip(options.path, options.seconds, options.size, options.seed)
    elif options.what == "video":
        with whole_file(options.path) as part:
            write_demo_video(part, options.seconds, options.size, options.seed)
    else:
        wave = synthesize(options.seconds, options.seed).wave
        with whole_file(options.path) as part:
            wavfile.write(part, SAMPLE_RATE, (wave * 32767).astype(np.int16))


if __name__ == "__main__":
    start(main)
