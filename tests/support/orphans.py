"""Processes whose parent was killed: which of them live on."""

import time

import psutil


def alive(processes):
    """List those that have not ended; one that has stays a zombie where nobody waits for orphans."""
    found = []
    for process in processes:
        try:
            ended = process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            ended = True
        found += [] if ended else [process]
    return found


def wait(condition, seconds=120):
    """Wait until something holds; say whether it does."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()
