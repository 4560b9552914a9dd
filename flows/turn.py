"""One pipeline at a time in a checkout, with a log of its own."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.common.stage import WORK

LOG = WORK / "pipeline.log"
LOCK = WORK / "locks" / "pipeline.lock"
FLOWS = "flows"  # the logger of this package


@contextmanager
def only_pipeline() -> Iterator[None]:
    """Wait until no other pipeline is at work here; the kernel lets the next one go on when a process dies."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            print(f"another pipeline is at work in this checkout (process {file.read()}); waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        with _logged():
            yield


@contextmanager
def _logged() -> Iterator[None]:
    """Write what the flows log into the file of this run."""
    handler = logging.FileHandler(LOG, mode="w")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger(FLOWS).addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger(FLOWS).removeHandler(handler)
        handler.close()
