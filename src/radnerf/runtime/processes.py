"""Processes on this machine that work together and end together."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Any, NoReturn

import torch

from radnerf.errors import UserError

STOP_S = 20.0  # for workers that were asked to stop, a checkpoint included
MOURN_S = 3.0  # for workers whose fellow has died


class Workers:
    """Fresh interpreters that each call target(number, channel, *arguments).

    However this process ends, none of them outlives it: on leaving the context they are stopped,
    and a worker whose parent is gone ends itself. An interrupt from the terminal is this process's
    business alone.

    Args:
        count: how many.
        target: a function at the top of a module; its channel leads to `channels[number]`.
        arguments: are pickled.
    """

    def __init__(self, count: int, target: Callable[..., Any], *arguments: Any) -> None:
        # Forking would copy threads' locks and a GPU's context in whatever state they are.
        context = multiprocessing.get_context("spawn")
        self.processes = []
        self.channels: list[Connection] = []
        self._last_words: dict[int, _LastWord] = {}
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(number, count, theirs, target, arguments), name=f"{number}"
            )
            self.processes.append(process)
            self.channels.append(ours)
            try:
                process.start()
            except BaseException:
                self.processes.pop()
                self.stop(0)
                raise
            theirs.close()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:  # they have done their work
            wait_for(self.processes, STOP_S)
        asked = kind is not None and issubclass(kind, KeyboardInterrupt | SystemExit)
        self.stop(STOP_S if asked else MOURN_S)

    def stop(self, patience_s: float) -> None:
        """Ask those that still run to end, and after a while make them."""
        try:
            for process in self.processes:
                if process.is_alive():
                    process.terminate()
            wait_for(self.processes, patience_s)
        finally:
            for process in self.processes:
                if process.is_alive():
                    process.kill()
                process.join()

    def receive(self, number: int) -> Any:
        """What a worker sends next.

        Raises:
            UserError: it died or failed.
        """
        try:
            said = self.channels[number].recv()
        except (EOFError, OSError):
            wait([self.processes[number].sentinel], MOURN_S)
            raise self.failure() from None
        if isinstance(said, _LastWord):
            self._last_words[number] = said
            raise self.failure()
        return said

    def result(self) -> Any:
        """What the first worker returned, once all have ended; a torch tensor would not arrive.

        Raises:
            UserError: a worker died or failed.
            SystemExit: the workers were asked to stop, and did.
        """
        running = {process.sentinel: process for process in self.processes}
        while running:
            for sentinel in wait(list(running)):
                running.pop(sentinel).join()  # type: ignore[arg-type]
            if any(process.exitcode for process in self.processes):
                raise self.failure()
        said = self._last_word(0).said
        if said is _SPEECHLESS:
            raise said
        return said

    def failure(self) -> BaseException:
        """Why the first of the workers that failed did."""
        count = len(self.processes)
        words = []
        for number, process in enumerate(self.processes):
            code = process.exitcode
            if code is not None and code < 0:
                return UserError(
                    f"Process {number + 1} of {count} was ended by {signal.Signals(-code).name}, "
                    "and the others with it: the same command goes on from what was saved."
                )
            if code or number in self._last_words:
                words.append(self._last_word(number))
        # The others only notice that it is gone.
        first = min(words, key=lambda word: word.at, default=_LastWord(0, _SPEECHLESS))
        if isinstance(first.said, str):
            print(first.said, file=sys.stderr)
            return UserError(f"One of the {count} processes failed: its error is above.")
        return first.said

    def _last_word(self, number: int) -> _LastWord:
        if number not in self._last_words:
            self._last_words[number] = _LastWord(time.time(), _SPEECHLESS)
            with contextlib.suppress(EOFError, OSError):
                while self.channels[number].poll():
                    said = self.channels[number].recv()
                    if isinstance(said, _LastWord):
                        self._last_words[number] = said
        return self._last_words[number]


def wait_for(processes: Sequence[BaseProcess], patience_s: float) -> None:
    """Return when all have ended, or so many seconds have passed."""
    deadline = time.monotonic() + patience_s
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))


@dataclass
class _LastWord:
    """What a worker sends when it ends: its result, an exception, or the traceback of a bug."""

    at: float  # time
    said: Any


_SPEECHLESS = UserError("A process ended and left no reason: try again with fewer devices.")


def _work(
    number: int,
    count: int,
    channel: Connection,
    target: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> NoReturn:
    # The terminal interrupts all processes; the parent passes it on as SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGUSR1, _leave)
    if number == 0:  # which speaks for all
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // count))
    said: Any
    code = 1
    try:
        said, code = target(number, channel, *arguments), 0
    except UserError as error:
        said = UserError(str(error))
    except SystemExit as error:
        said, code = SystemExit(error.code), int(error.code or 0)
    except BaseException:
        said = traceback.format_exc()
    # It leaves, whoever asks.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # a parent that is gone
        channel.send(_LastWord(time.time(), said))
    if code == 1:
        # At once: libraries' threads may wait for fellows that are gone.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
