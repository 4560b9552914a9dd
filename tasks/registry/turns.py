"""Work on the store that processes of one checkout do one after the other."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.common.checkout import checkout
from tasks.common.stage import WORK


@contextmanager
def taking_turns(name: str) -> Iterator[None]:
    """Wait until nobody else in the user's checkout is at it; the kernel lets go when the process dies."""
    lock = checkout() / WORK / "locks" / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
