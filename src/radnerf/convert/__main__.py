"""A public RAD-NeRF checkpoint to a portrait file, loaded without running its pickle code."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from radnerf.runtime.programs import Options, ended, start


def main(arguments: list[str] | None = None) -> int:
    """Convert a checkpoint; the exit code."""
    return ended(lambda: _convert(_options().parse_args(arguments)))


def _convert(options: argparse.Namespace) -> None:
    # Imported late, so that --help and a misspelt option answer at once.
    from radnerf.convert.portrait import convert

    done = convert(options.checkpoint, options.clip, options.out, options.extractor)
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(done.summary)


def _options() -> Options:
    parser = Options("python -m radnerf.convert", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="the .pth file")
    parser.add_argument("--out", type=Path, required=True, help="the portrait file to write")
    parser.add_argument(
        "--clip",
        type=Path,
        help="the clip folder it was trained on, or that clip's transforms JSON alone",
    )
    parser.add_argument(
        "--extractor", help="features, wav2vec2, hubert or deepspeech; default: by their width"
    )
    return parser


if __name__ == "__main__":
    start(main)
