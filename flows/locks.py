"""Locks that the kernel releases when their process dies, of whatever."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from waymark.errors import WaymarkError


@contextmanager
def exclusive(path: Path, busy: str, error: type[WaymarkError] | None = WaymarkError) -> Iterator[None]:
    """Hold a lock file, in which the id of this process is written.

    Args:
        path: of the file.
        busy: message where another process holds it, whose id takes the place of `{pid}`.
        error: raised with the message; None prints it and waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        message = busy.replace("{pid}", path.read_text().strip())
        if error is not None:
            raise error(message) from None
        print(message, flush=True)
        lock.acquire()
    try:
        path.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()
