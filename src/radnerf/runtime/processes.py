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
from types import TracebackType
from typing import Any, NoReturn

import torch

from radnerf.errors import UserError
from radnerf.runtime import signals

STOP_S = 20.0  # for workers that were asked to stop, a checkpoint included
LEAVE_S = 3.0  # for workers one of whom has failed


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
        self._final_messages: dict[int, _FinalMessage] = {}
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
        self.stop(STOP_S if asked else LEAVE_S)

    def stop(self, timeout_s: float) -> None:
        """Ask those that still run to end, and after a while make them."""
        try:
            for process in self.processes:
                if process.is_alive():
                    process.terminate()
            wait_for(self.processes, timeout_s)
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
            content = self.channels[number].recv()
        except (EOFError, OSError):
            wait([self.processes[number].sentinel], LEAVE_S)
            raise self.failure() from None
        if isinstance(content, _FinalMessage):
            self._final_messages[number] = content
            raise self.failure()
        return content

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
        content = self._final_message(0).content
        if content is _NO_REASON:
            raise content
        return content

    def failure(self) -> BaseException:
        """Why the first of the workers that failed did."""
        count = len(self.processes)
        messages = []
        for number, process in enumerate(self.processes):
            code = process.exitcode
            if code is not None and code < 0:
                return UserError(
                    f"Process {number + 1} of {count} was ended by {signal.Signals(-code).name}, "
                    "and the others with it: the same command goes on from what was saved."
                )
            if code or number in self._final_messages:
                messages.append(self._final_message(number))
        # The others only notice that it is gone.
        first = min(messages, key=lambda message: message.at, default=_FinalMessage(0, _NO_REASON))
        if isinstance(first.content, str):
            print(first.content, file=sys.stderr)
            return UserError(f"One of the {count} processes failed: its error is above.")
        return first.content

    def _final_message(self, number: int) -> _FinalMessage:
        if number not in self._final_messages:
            self._final_messages[number] = _FinalMessage(time.time(), _NO_REASON)
            with contextlib.suppress(EOFError, OSError):
                while self.channels[number].poll():
                    content = self.channels[number].recv()
                    if isinstance(content, _FinalMessage):
                        self._final_messages[number] = content
        return self._final_messages[number]


def wait_for(processes: Sequence[BaseProcess], timeout_s: float) -> None:
    """Return when all have ended, or so many seconds have passed."""
    deadline = time.monotonic() + timeout_s
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))


@dataclass
class _FinalMessage:
    """What a worker sends when it ends: its result, an exception, or the traceback of a bug."""

    at: float  # time
    content: Any


_NO_REASON = UserError("A process ended and left no reason: try again with fewer devices.")


def _work(
    number: int,
    count: int,
    channel: Connection,
    target: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> NoReturn:
    # The terminal interrupts all processes; the parent passes it on as SIGTERM.
    signals.heed(interrupts=False, patience_s=signals.WORKERS_PATIENCE_S)
    if number == 0:  # which speaks for all
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // count))
    content: Any
    code = 1
    try:
        content, code = target(number, channel, *arguments), 0
    except UserError as error:
        content = UserError(str(error))
    except SystemExit as error:
        content, code = SystemExit(error.code), int(error.code or 0)
    except BaseException:
        content = traceback.format_exc()
    # It leaves, whoever asks.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # a parent that is gone
        channel.send(_FinalMessage(time.time(), content))
    if code == 1:
        # At once: libraries' threads may wait for processes that are gone.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
