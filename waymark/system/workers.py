"""Distribute work among processes, any of which may crash, hang or be killed without affecting the others."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as Timeout
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import NamedTuple, TypeVar

from pebble import ProcessExpired, ProcessFuture, ProcessPool

from waymark.system.memory import available_bytes, limit_memory
from waymark.system.processes import SPAWN

logger = logging.getLogger(__name__)

MOST_FAILURES = 5  # in a row, of all processes at once and before any result

T = TypeVar("T")
R = TypeVar("R")


class Lost(NamedTuple):
    """Result of an item whose process crashed or hung, with the reason."""

    reason: str


def available_workers(memory_bytes: int = 0) -> int:
    """Return the number of processes: one for each CPU, as far as the memory suffices.

    Args:
        memory_bytes: largest need of each.
    """
    cpus = len(os.sched_getaffinity(0))
    return min(cpus, max(1, available_bytes() // memory_bytes)) if memory_bytes else cpus


def in_processes(
    work: Callable[[T], R],
    items: Sequence[T],
    *,
    chunk: int,
    timeout_s: float | None = None,
    workers: int | None = None,
    memory_bytes: int = 0,
) -> Iterator[R | Lost]:
    """Process items in worker processes, in order.

    If a process crashes or hangs, the other items of its chunk are processed again, one by one. If all crash at once,
    or none can be started, half as many are started; if they keep failing, all remaining items are lost.

    Args:
        work: what to do with an item; it and its result are pickled.
        items: in order.
        chunk: items that a process takes at once.
        timeout_s: for each item; a process that takes longer is killed.
        workers: number of processes; by default `available_workers`.
        memory_bytes: additional memory of each after its start; more raises a `MemoryError`. 0 is no limit.
    """
    workers = workers or available_workers(memory_bytes)
    done = failures = 0
    while done < len(items) and failures <= MOST_FAILURES:
        before = done
        try:
            for result in _in_one_pool(work, items[done:], chunk, timeout_s, workers, memory_bytes):
                yield result
                done, failures = done + 1, 0
        except BrokenProcessPool as error:
            reason = f"no process could be started: {error or error.__cause__}"
            logger.warning("all %d processes at work ended: %s", workers, error or error.__cause__)
            workers, failures = max(1, workers // 2), failures + (done == before)
            if failures == MOST_FAILURES:  # this item may be the cause; if the next fails, too, it is not
                yield Lost(reason)
                done += 1
    yield from (Lost(reason) for _ in items[done:])


def _in_one_pool(
    work: Callable[[T], R],
    items: Sequence[T],
    chunk: int,
    timeout_s: float | None,
    workers: int,
    memory_bytes: int,
) -> Iterator[R | Lost]:
    workers = min(workers, -(-len(items) // chunk))
    pool = ProcessPool(max_workers=workers, initializer=limit_memory, initargs=(memory_bytes,), context=SPAWN)
    chunks = (items[start : start + chunk] for start in range(0, len(items), chunk))

    def begin(part: Sequence[T]) -> "ProcessFuture[list[R]]":
        timeout = None if timeout_s is None else timeout_s * len(part)
        try:
            return pool.schedule(_work_on, args=(work, list(part)), timeout=timeout)
        except RuntimeError as error:  # the pool was broken before
            raise BrokenProcessPool(str(error)) from error

    try:
        waiting = deque((part, begin(part)) for part in islice(chunks, 2 * workers))
        while waiting:
            part, future = waiting.popleft()
            if (following := next(chunks, None)) is not None:
                waiting.append((following, begin(following)))
            try:
                yield from future.result()
            except (ProcessExpired, Timeout):
                yield from map(_alone, [begin([item]) for item in part])
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _work_on(work: Callable[[T], R], items: list[T]) -> list[R]:
    return [work(item) for item in items]


def _alone(future: "ProcessFuture[list[R]]") -> R | Lost:
    try:
        (result,) = future.result()
    except (ProcessExpired, Timeout) as error:
        return Lost(f"{type(error).__name__}, {error}")
    return result
