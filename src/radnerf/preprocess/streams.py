"""Frames on their way through a stage: a few at a time, so that memory does not grow."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(items: Iterator[T], depth: int = 4) -> Iterator[T]:
    """The same items, made in a thread a few ahead: decoding overlaps with the work on them."""
    box: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: tuple[str, T | BaseException | None]) -> bool:
        while not stop.is_set():
            try:
                box.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put(("item", item)):
                    return
            put(("end", None))
        except BaseException as error:
            put(("error", error))

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = box.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()


def counted(items: Iterator[T], report: Callable[[int], None], done: int = 0) -> Iterator[T]:
    """The same items, reporting how many have been handed out, with those `done` before."""
    for i, item in enumerate(items, done + 1):
        yield item
        report(i)


def side_by_side(
    pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], depth: int
) -> Iterator[R]:
    """Results in order, `depth` items waiting or at work at a time."""
    running: deque[Future[R]] = deque()
    for item in items:
        running.append(pool.submit(work, item))
        if len(running) > depth:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def windows(items: Iterable[T], reach: int) -> Iterator[list[T]]:
    """Each item with `reach` neighbours on both sides; the ends are repeated."""
    held: deque[T] = deque(maxlen=2 * reach + 1)
    for item in items:
        held.extend([item] * (1 if held else reach + 1))
        if len(held) == held.maxlen:
            yield list(held)
    for _ in range(reach):
        held.append(held[-1])
        if len(held) == held.maxlen:
            yield list(held)


def on_threads(work: Callable[[T], None], items: Iterable[T], workers: int) -> Iterator[None]:
    """Do the work on every item, a few at a time; yields as each is done, in order."""
    with ThreadPoolExecutor(workers) as pool:
        yield from side_by_side(pool, work, items, 2 * workers)
