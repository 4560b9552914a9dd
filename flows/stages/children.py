"""Child processes that never outlive the flow.

DVC alone leaves its stage running when it is ended: so each child has a session of its own, which ends as a whole.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from waymark.system.processes import start_command

GRACE_S = 10.0
STOPPED = 130

Log = Callable[[str], None]  # takes a line

_running: set["subprocess.Popen[str]"] = set()
_guard = threading.Lock()
_stopping = threading.Event()


def run(command: Sequence[str], environment: Mapping[str, str], log: Log) -> int:
    """Run a command, hand on each line that it prints as it comes, and return its exit code.

    The exit code is that of an interrupt when `stop_all` came before it. Should this process be killed outright, the
    kernel ends the child.
    """
    with _guard:  # so that no child begins while all are being ended
        if _stopping.is_set():
            return STOPPED
        child = start_command(
            command,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
            prepare=_heed_interrupts,
        )
        _running.add(child)
    try:
        for line in child.stdout or ():
            log(line.rstrip())
        return child.wait()
    finally:
        _stop(child)
        with _guard:
            _running.discard(child)


def _heed_interrupts() -> None:
    """Let a child end by SIGINT: what nohup, cron or `&` starts ignores it, and hands that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _stop(*children: "subprocess.Popen[str]") -> None:
    """End children and all that they started: first by SIGINT, after ten seconds outright."""
    alive = [child for child in children if child.poll() is None]
    for child in alive:
        _signal(child, signal.SIGINT)
    deadline = time.monotonic() + GRACE_S
    for child in alive:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))
    for child in children:
        _signal(child, signal.SIGKILL)
        child.wait()


def _signal(child: "subprocess.Popen[str]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def allow() -> None:
    """Let children begin, as a flow does when it starts."""
    _stopping.clear()


def stopping(within_s: float = 0.0) -> bool:
    """Whether all is to end, now or within so many seconds."""
    return _stopping.wait(within_s)


def stop_all() -> None:
    """End every child and let no other begin, as a flow does when it ends, is cancelled or interrupted."""
    with _guard:
        _stopping.set()
        running = list(_running)
    _stop(*running)
