"""The cores of this machine, shared out between the trainings of this process."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.common.stage import load_params

CORES = os.cpu_count() or 1

_free = threading.Semaphore(CORES)
_queue = threading.Lock()  # who waits for several cores does not share them with who waits behind


@contextmanager
def taken_by(stage: str) -> Iterator[None]:
    """Wait until a training has its cores, and take them.

    Those that name their `threads` run at the same time: two on one core each end sooner than one after the other on
    both. One that names none wants all cores, and with a GPU each wants the GPU.
    """
    wanted = min(_threads(stage) or CORES, CORES)
    with _queue:
        for _ in range(wanted):
            _free.acquire()
    try:
        yield
    finally:
        _free.release(wanted)


def _threads(stage: str) -> int | None:
    if shutil.which("nvidia-smi") is not None:
        return None
    threads: int | None = load_params()["models"][stage.partition("@")[2]].get("threads")
    return threads
