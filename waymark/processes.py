"""Processes that end with the one that started them."""

import ctypes
import os
import select
import signal
import threading

PR_SET_PDEATHSIG = 1  # prctl(2)

_libc = ctypes.CDLL(None)  # loaded before any fork: little may be done between fork and exec


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent dies: nobody cleans up after kill -9."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with(pid: int) -> None:
    """End this process as soon as another one ends, which need not be its parent.

    Raises:
        ProcessLookupError: there is no such process.
    """
    watched = os.pidfd_open(pid)

    def wait() -> None:
        select.select([watched], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()
