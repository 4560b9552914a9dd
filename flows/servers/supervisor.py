"""The process manager that keeps the services: supervisor, one for each checkout, reached by a socket in its folder."""

import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.states import STOPPED_STATES, ProcessStates
from supervisor.xmlrpc import Faults, SupervisorTransport

from flows.servers.state import folder
from waymark.errors import WaymarkError
from waymark.system.processes import run_command

CONFIG = "supervisord.conf"
SOCKET = "unix:///proc/self/cwd/.services/supervisor.sock"
ANSWER_S = 30.0
CHECKOUT = "WAYMARK_SERVICES"  # in the environment of services and their children: the checkout that they belong to
SERVICE = "SUPERVISOR_PROCESS_NAME"  # and, set by supervisor: which service


class Service(NamedTuple):
    """A service, as supervisor knows it."""

    name: str  # of its section in supervisord.conf
    state: int  # of supervisor's ProcessStates
    pid: int  # 0 where it does not run
    start: int  # when it was started last, in seconds since 1970

    @property
    def runs(self) -> bool:
        """Whether it runs, or is being started."""
        return self.state in (ProcessStates.STARTING, ProcessStates.RUNNING)

    @property
    def fails(self) -> bool:
        """Whether it ended while it started."""
        return self.state in (ProcessStates.BACKOFF, ProcessStates.FATAL, ProcessStates.EXITED)

    @property
    def since(self) -> datetime:
        """When it was started, to the second."""
        return datetime.fromtimestamp(self.start).astimezone()


def services() -> dict[str, Service]:
    """List the services by name; none where no supervisor runs here."""
    try:
        found = _ask("getAllProcessInfo")
    except (OSError, HTTPException, Fault):  # the last while it shuts down
        return {}
    return {each["name"]: Service(*(each[key] for key in Service._fields)) for each in found}


def _is_here() -> bool:
    """Whether a supervisor runs here, if only to shut down."""
    with suppress(OSError, HTTPException):
        with suppress(Fault):
            _ask("getState")
        return True
    return False


def begin(variables: dict[str, str]) -> None:
    """Start a supervisor, which starts no service yet.

    Args:
        variables: its environment, and that of the services.

    Raises:
        WaymarkError: it does not start.
    """
    folder()
    done = run_command(
        [sys.executable, "-m", "supervisor.supervisord", "-c", CONFIG],
        env={**variables, CHECKOUT: str(Path.cwd())},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        umask=0o077,
    )
    deadline = time.monotonic() + ANSWER_S
    while not services():
        if done.returncode != 0 or time.monotonic() > deadline:
            raise WaymarkError(f"supervisor does not start; see .services/supervisord.log\n{done.stdout}{done.stderr}")
        time.sleep(0.1)


def start(name: str) -> None:
    """Start a service, unless it runs."""
    _ask("startProcess", name, False, tolerated=Faults.ALREADY_STARTED)


def stop(*names: str) -> None:
    """Stop services at the same time, as their section says, and wait until they have ended."""
    for name in names:
        _ask("stopProcess", name, False, tolerated=Faults.NOT_RUNNING)
    while any(each.state not in STOPPED_STATES for each in services().values() if each.name in names):
        time.sleep(0.1)


def end() -> None:
    """Stop what runs still, and the supervisor."""
    if _is_here():
        _ask("shutdown", tolerated=Faults.SHUTDOWN_STATE)
    while _is_here():
        time.sleep(0.1)


def _ask(method: str, *arguments: object, tolerated: int | None = None) -> Any:
    transport = SupervisorTransport(None, None, SOCKET)
    try:
        return getattr(ServerProxy("http://supervisor", transport=transport).supervisor, method)(*arguments)
    except Fault as fault:
        if fault.faultCode != tolerated:
            raise
    finally:
        transport.close()


def family(service: str | None = None) -> list[psutil.Process]:
    """Find what came from a service of this checkout, or from any, also what left its session and lost its parent."""
    here, own, found = str(Path.cwd()), psutil.Process().pid, []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            variables = process.environ()
            mine = variables.get(CHECKOUT) == here and service in (None, variables.get(SERVICE))
            if mine and process.pid != own and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill_family(service: str | None = None) -> None:
    """End outright what is left of a service whose own process is gone, or of all."""
    while left := family(service):  # one of them may have started another meanwhile
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=10)
