"""What all programs share: a user's mistake is one sentence, the exit code says how it ended."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from radnerf.errors import UserError
from radnerf.runtime import signals

INTERRUPTED = 130  # exit code of a program ended by Ctrl-C


class Options(argparse.ArgumentParser):
    """Options of a program `python -m radnerf.NAME`, whose mistakes are one sentence."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: `{self.prog} --help` lists the options.")


def start(main: Callable[[], int | None]) -> NoReturn:
    """Run a program `python -m radnerf.NAME` in this process, which signals end from now on."""
    signals.heed()
    sys.exit(main())


def ended(work: Callable[[], object]) -> int:
    """Exit code of a program that does this work: 1 after a user's mistake, which is told."""
    try:
        work()
    except UserError as error:
        tell(str(error))
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def tell(mistake: str) -> None:
    """Say what is wrong, in one line."""
    print(f"error: {' '.join(mistake.split())}", file=sys.stderr, flush=True)
