"""Child processes that never outlive the flow."""

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

_running: set["subprocess.Popen[str]"] = set()
_guard = threading.Lock()
_stopping = threading.Event()


def run(command: Sequence[str], environment: Mapping[str, str], hear: Callable[[str], None]) -> int:
    """Run a command in a session of its own and hand on each line that it prints.

    Its session lets the whole group be ended: a signal to DVC alone leaves the stage behind
    it running. Should this process be killed outright, the kernel ends the child.

    Args:
        command: program and arguments.
        environment: all of its variables.
        hear: takes each line of its output, as it comes.

    Returns:
        Its exit code; that of an interrupt when `stop_all` came before it.
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
            prepare=heed_interrupts,
        )
        _running.add(child)
    try:
        for line in child.stdout or ():
            hear(line.rstrip())
        return child.wait()
    finally:
        stop(child)
        with _guard:
            _running.discard(child)


def heed_interrupts() -> None:
    """Let a child end by SIGINT: what nohup, cron or `&` starts ignores it, and hands that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stop(*ending: "subprocess.Popen[str]") -> None:
    """End children and all that they started: first by SIGINT, after ten seconds outright."""
    alive = [child for child in ending if child.poll() is None]
    for child in alive:
        _signal(child, signal.SIGINT)
    deadline = time.monotonic() + GRACE_S
    for child in alive:
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, deadline - time.monotonic()))
    for child in ending:
        _signal(child, signal.SIGKILL)
        child.wait()


def _signal(child: "subprocess.Popen[str]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def allow() -> None:
    """Let children begin, as a flow does when it starts."""
    _stopping.clear()


def stopping(within_s: float = 0.0) -> bool:
    """Say whether all is to end, or comes to be within so many seconds."""
    return _stopping.wait(within_s)


def stop_all() -> None:
    """End every child and let no other begin, as the flow does when it ends, is cancelled or interrupted."""
    with _guard:
        _stopping.set()
        running = list(_running)
    stop(*running)
