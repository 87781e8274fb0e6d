"""A public RAD-NeRF checkpoint to a portrait file, loaded without running its pickle code."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from radnerf.errors import UserError

INTERRUPTED = 130  # exit code of a program ended by Ctrl-C


class Options(argparse.ArgumentParser):
    """Options whose mistakes are one sentence, as everywhere in this project."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: `{self.prog} --help` lists the options.")


def main(arguments: list[str] | None = None) -> int:
    """Convert a checkpoint; the exit code."""
    try:
        options = _options().parse_args(arguments)
        # Imported late, so that --help and a misspelt option answer at once.
        from radnerf.convert.portrait import convert

        done = convert(options.checkpoint, options.clip, options.out, options.extractor)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(done.summary)
    return 0


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
    sys.exit(main())
