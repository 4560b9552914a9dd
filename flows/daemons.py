"""Processes that outlive the command that started them, and are found and ended again by another one."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from fcntl import LOCK_EX, flock
from pathlib import Path
from uuid import uuid4

import psutil

from flows.children import heed_interrupts

FOLDER = Path(".services")
STATE = FOLDER / "state.json"
LAST_LINES = 15
TOKEN = "WAYMARK_SERVICE"


@dataclass(frozen=True)
class Daemon:
    """A process that was started: who it is, since when, and where it writes.

    Args:
        name: of the service.
        pid: its number, which the kernel gives to others afterwards.
        born: what tells it from those others, see `birth`.
        since: when it was started, for people.
        url: where it is reached; empty for a worker.
        log: file of its output.
        token: stands in its environment and in that of all that it starts, however far away from it they get.
    """

    name: str
    pid: int
    born: str
    since: str
    url: str
    log: str
    token: str

    @property
    def alive(self) -> bool:
        """Whether this very process runs."""
        return birth(self.pid) == self.born

    def last_lines(self) -> str:
        """Give the end of its log."""
        with suppress(OSError):
            return "\n".join(Path(self.log).read_text(errors="replace").splitlines()[-LAST_LINES:])
        return ""


def birth(pid: int) -> str | None:
    """Say when a process was born, as boot and tick; None where there is none, or it is dead and not yet buried."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else f"{boot}:{fields[19]}"  # proc(5): state and starttime


def start(name: str, command: Sequence[str], environment: Mapping[str, str], url: str = "") -> Daemon:
    """Start a process in a session of its own, with its output in a log, and write it down."""
    log = (FOLDER / f"{name}.log").resolve()
    log.parent.mkdir(parents=True, exist_ok=True)
    token = uuid4().hex
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**environment, TOKEN: token},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    daemon = Daemon(name, process.pid, birth(process.pid) or "", since, url, str(log), token)
    write({**known(), name: daemon})
    return daemon


def known(folder: Path = Path()) -> dict[str, Daemon]:
    """Read which processes were started in a folder and not stopped again; some may have died since."""
    try:
        return {name: Daemon(**entry) for name, entry in json.loads((folder / STATE).read_text()).items()}
    except (FileNotFoundError, ValueError, TypeError):  # none was started, or another version wrote the file
        return {}


def write(daemons: Mapping[str, Daemon]) -> None:
    """Write down which processes were started."""
    FOLDER.mkdir(exist_ok=True)
    beside = STATE.with_suffix(".new")
    beside.write_text(json.dumps({name: asdict(daemon) for name, daemon in daemons.items()}, indent=2))
    beside.rename(STATE)


def stop(*daemons: Daemon, grace_s: float) -> None:
    """End processes and all that they started: them and their children by SIGTERM, after the grace all outright."""
    for daemon in daemons:
        if daemon.alive:
            with suppress(psutil.Error):
                process = psutil.Process(daemon.pid)
                for asked in (process, *process.children()):
                    asked.terminate()
    deadline = time.monotonic() + grace_s
    while any(daemon.alive for daemon in daemons) and time.monotonic() < deadline:
        for daemon in daemons:
            _bury(daemon.pid)
        time.sleep(0.1)
    for daemon in daemons:
        while left := family(daemon):  # one of them may have started another meanwhile
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=10)
    stopped = {daemon.name for daemon in daemons}
    write({name: other for name, other in known().items() if name not in stopped})


def values(daemon: Daemon, variable: str) -> set[str]:
    """List what a variable says in the environments of all that came from a process."""
    found = set()
    for process in family(daemon):
        with suppress(psutil.Error):
            found.add(process.environ().get(variable, ""))
    return found - {""}


def family(daemon: Daemon) -> list[psutil.Process]:
    """Find a process and all that came from it, also what has left its session and lost its parent."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(TOKEN) == daemon.token and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _bury(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # only where this very command started it


@contextmanager
def only_one() -> Iterator[None]:
    """Let one command at a time start and stop services here; the kernel lets go when it dies."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as file:
        flock(file, LOCK_EX)
        yield
