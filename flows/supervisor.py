"""The process manager that keeps the services: supervisor, one for each checkout, reached by a socket in its folder."""

import subprocess
import sys
import time
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from xmlrpc.client import Fault, ServerProxy

from supervisor.states import STOPPED_STATES, ProcessStates
from supervisor.xmlrpc import Faults, SupervisorTransport

from flows.processes import CHECKOUT
from flows.state import folder
from waymark.errors import WaymarkError
from waymark.system.processes import run_command

CONFIG = "supervisord.conf"
SOCKET = "unix:///proc/self/cwd/.services/supervisor.sock"
ANSWER_S = 30.0


class Service(NamedTuple):
    """A service, as supervisor knows it.

    Args:
        name: of its section in supervisord.conf.
        state: a number of supervisor's ProcessStates.
        pid: 0 where it does not run.
        start: when it was started last, in seconds since 1970.
    """

    name: str
    state: int
    pid: int
    start: int

    @property
    def runs(self) -> bool:
        """Whether it runs, or is being started."""
        return self.state in (ProcessStates.STARTING, ProcessStates.RUNNING)

    @property
    def is_stopped(self) -> bool:
        """Whether it has ended, and is not to be started again."""
        return self.state in STOPPED_STATES

    @property
    def fails(self) -> bool:
        """Whether it ended while it started."""
        return self.state in (ProcessStates.BACKOFF, ProcessStates.FATAL, ProcessStates.EXITED)

    @property
    def since(self) -> str:
        """When it was started, for people."""
        return datetime.fromtimestamp(self.start).astimezone().isoformat(timespec="seconds")


def services() -> dict[str, Service]:
    """List the services by name; none where no supervisor runs here."""
    try:
        found = _ask("getAllProcessInfo")
    except (OSError, HTTPException, Fault):  # the last while it shuts down
        return {}
    return {its["name"]: Service(its["name"], its["state"], its["pid"], its["start"]) for its in found}


def is_here() -> bool:
    """Whether a supervisor runs here, if only to shut down."""
    try:
        _ask("getState")
    except Fault:
        return True
    except (OSError, HTTPException):
        return False
    return True


def begin(variables: dict[str, str]) -> None:
    """Start a supervisor, which starts no service yet.

    Args:
        variables: its environment, and that of the services.

    Raises:
        WaymarkError: it does not start.
    """
    folder()
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", CONFIG]
    done = run_command(
        command,
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
    _tolerant("startProcess", Faults.ALREADY_STARTED, name, False)


def stop(*names: str) -> None:
    """Stop services at once, as their section says, and wait until they have ended."""
    for name in names:
        _tolerant("stopProcess", Faults.NOT_RUNNING, name, False)
    while any(not its.is_stopped for its in services().values() if its.name in names):
        time.sleep(0.1)


def end() -> None:
    """Stop what runs still, and the supervisor."""
    if is_here():
        _tolerant("shutdown", Faults.SHUTDOWN_STATE)
    while is_here():
        time.sleep(0.1)


def _tolerant(method: str, expected: int, *arguments: object) -> None:
    try:
        _ask(method, *arguments)
    except Fault as fault:
        if fault.faultCode != expected:
            raise


def _ask(method: str, *arguments: object) -> Any:
    transport = SupervisorTransport(None, None, SOCKET)
    try:
        return getattr(ServerProxy("http://supervisor", transport=transport).supervisor, method)(*arguments)
    finally:
        transport.close()
