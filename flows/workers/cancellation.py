"""A training in a worker's process ends with the pipeline that asked for it.

Prefect's server knows when a flow run is cancelled or has ended. Of a process that was killed it learns only from
heartbeats that stay away, which takes minutes: on the same machine the process itself is looked at.
"""

import os
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType

LOOK_S = 3.0
SAME_S = 5.0  # by which the clock, and so the start of a process, may have been set
ENDED = {StateType.CANCELLING, StateType.CANCELLED, StateType.CRASHED, StateType.FAILED, StateType.COMPLETED}


@dataclass(frozen=True)
class Asker:
    """The process of a pipeline that asks for a training."""

    host: str
    pid: int
    started: float


def this_process() -> Asker:
    """Describe this process, for a worker that trains for it."""
    return Asker(host=socket.gethostname(), pid=os.getpid(), started=psutil.Process().create_time())


def is_running(asker: Asker) -> bool:
    """Whether it is a process of this machine, and has not ended; one that was given its id since is another one."""
    with suppress(psutil.Error):
        found = psutil.Process(asker.pid)
        same = abs(found.create_time() - asker.started) < SAME_S
        return asker.host == socket.gethostname() and same and bool(found.status() != psutil.STATUS_ZOMBIE)
    return False


@contextmanager
def watching(runs: Collection[str], end: Callable[[], None], asker: Asker | None = None) -> Iterator[threading.Event]:
    """Call `end` as soon as one of these flow runs is cancelled or has ended, or a process of this machine is gone.

    Yields:
        An event that is set when that has happened, at the end of the block at the latest.
    """
    left, unwanted = threading.Event(), threading.Event()

    def look() -> bool:
        if asker is not None and not is_running(asker):
            unwanted.set()
        with suppress(Exception):  # a server that does not answer says nothing
            if runs and _any_ended(runs):
                unwanted.set()
        return unwanted.is_set()

    def watch() -> None:
        while not left.wait(LOOK_S):
            if look():
                return end()

    threading.Thread(target=watch, name="watch", daemon=True).start()
    try:
        yield unwanted
    finally:
        left.set()
        look()  # what ended a training elsewhere may have ended this block before the next look


def _any_ended(runs: Collection[str]) -> Any:
    with get_client(sync_client=True) as client:
        return any(client.read_flow_run(run).state_type in ENDED for run in runs)  # type: ignore[arg-type]
