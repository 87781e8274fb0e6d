"""Whether a video or picture was made by this software: python -m radnerf.verify FILE [--json]

Exit code: 0 made by it, 1 no mark found, 3 made by it and changed since it was signed, 2 an error.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from radnerf.errors import UserError
from radnerf.runtime.programs import INTERRUPTED, Options, tell
from radnerf.verify.verdict import examine

ERROR = 2


def main(arguments: list[str] | None = None) -> int:
    """Verify a file; the exit code."""
    try:
        given = _options().parse_args(arguments)
        verdict = examine(given.file)
    except UserError as error:
        tell(str(error))
        return ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    print(json.dumps(verdict.json(), indent=1) if given.json else verdict.sentence())
    return verdict.code


def _options() -> Options:
    parser = Options(
        "python -m radnerf.verify",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="any video or picture")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
