"""Signals that end a program: within a second, wherever it is, and tidily where it can be."""

from __future__ import annotations

import atexit
import ctypes
import os
import shlex
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

from radnerf import files

# Slurm announces the end of a job by SIGTERM, or earlier by the signal of `--signal=USR1@60`.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
AT_ONCE = (signal.SIGINT, signal.SIGTERM)  # SIGUSR1 is a warning: a checkpoint has its time
PATIENCE_S, WORKERS_PATIENCE_S = 0.6, 0.4
SHOW_CURSOR = b"\x1b[?25h"  # which a progress bar hides


class StopRequest:
    """Takes note of a signal instead of leaving in the middle of a step.

    Attributes:
        number: the signal's, or 0.
    """

    def __init__(self) -> None:
        self.number = 0

    def listen(self) -> None:
        """From now on signals are noted; a second Ctrl-C interrupts at once.

        Signals that this process ignores stay ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may; whoever started this one takes the signals
        for name in STOPPING:
            if signal.getsignal(name) is not signal.SIG_IGN:
                signal.signal(name, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


def heed(interrupts: bool = True, patience_s: float = PATIENCE_S) -> None:
    """From now on the signals of STOPPING end this program.

    Each raises in the main thread, so that what is half done is put away. But handlers wait for
    compiled code to return, and leaving can wait for threads that compute: who was asked to leave
    at once and is still here after a while is ended by a thread of its own.

    Args:
        interrupts: False where another process is responsible for Ctrl-C.
        patience_s: that while.
    """
    if signal.getsignal(signal.SIGTERM) is _raise:
        return  # since before
    signal.signal(signal.SIGTERM, _raise)
    signal.signal(signal.SIGUSR1, _raise)
    # A script started in the background by a shell would ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler if interrupts else signal.SIG_IGN)
    asked: list[int] = []
    atexit.register(_end, asked)
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    arguments = (heard, asked, patience_s, ctypes.PyDLL(None))
    threading.Thread(target=_watch, args=arguments, name="radnerf-signals", daemon=True).start()


def leave(number: int) -> NoReturn:
    """End the program as the signal would have."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _end(asked: list[int]) -> None:
    """End at once what was asked to: taking apart compiled code can last seconds."""
    if asked:
        files.remove_passing()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + asked[0])


def _watch(heard: int, asked: list[int], patience_s: float, c: ctypes.PyDLL) -> None:
    """End the process when it has not followed a signal by itself in time.

    What comes after the wait never hands Python on to another thread: on a busy machine it could be
    seconds until the next turn, for every file that is removed.

    Args:
        heard: where the interpreter writes the number of every signal, whatever it is busy with.
        asked: gets that number.
        c: the C library, whose functions keep Python to themselves.
    """
    while (number := os.read(heard, 1)[0]) not in AT_ONCE:
        pass
    asked.append(number)
    time.sleep(patience_s)
    if left := files.now_passing():
        c.system(shlex.join(["rm", "-rf", "--", *map(str, left)]).encode(errors="surrogateescape"))
    for stream in (1, 2):
        if c.isatty(stream):
            c.write(stream, SHOW_CURSOR, len(SHOW_CURSOR))
    c._exit(128 + number)
