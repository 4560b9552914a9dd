"""The processes of a service: those that it started, and theirs, however far they got away from it."""

from contextlib import suppress
from pathlib import Path

import psutil

CHECKOUT = "WAYMARK_SERVICES"  # in their environment: the checkout whose services they belong to
SERVICE = "SUPERVISOR_PROCESS_NAME"  # and, set by supervisor: which one


def is_alive(pid: int) -> bool:
    """Whether there is such a process; one that is dead and not yet reaped is none."""
    with suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def family(service: str | None = None) -> list[psutil.Process]:
    """Find what came from a service of this checkout, or from any, also what left its session and lost its parent."""
    here, own, found = str(Path.cwd()), psutil.Process().pid, []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            its = process.environ()
            mine = its.get(CHECKOUT) == here and (service is None or its.get(SERVICE) == service)
            if mine and process.pid != own and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end(service: str | None = None) -> None:
    """End outright what is left of a service whose own process is gone, or of all."""
    while left := family(service):  # one of them may have started another meanwhile
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=10)
