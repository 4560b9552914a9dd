"""A training in another process ends with the pipeline that asked for it, which notices when that process is gone."""

import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType

TOKENS = Path(".work/tokens")
WATCH_S = 3.0
OVER = {StateType.CANCELLING, StateType.CANCELLED, StateType.CRASHED, StateType.FAILED, StateType.COMPLETED}

_taken: list[IO[str]] = []  # locked until this process is gone, so that the other side learns it from the kernel


class Token:
    """A file whose lock the pipeline holds while it wants the training.

    The kernel lets a lock go when its process dies, of whatever. A second file, which the worker locks, says the
    same of the worker.
    """

    def __init__(self, folder: Path = TOKENS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        name = uuid4().hex
        fresh = folder / f".{name}"  # under its own name only when it is locked
        self._file = fresh.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.path = fresh.rename(folder / name).resolve()

    def release(self) -> None:
        """Say that the training is no longer wanted."""
        self._file.close()

    def worker_died(self) -> bool:
        """Say whether a worker took the token and its process is gone."""
        taken = taken_file(self.path)
        return taken.exists() and _is_free(taken)

    def __enter__(self) -> "Token":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self.path.unlink(missing_ok=True)
        taken_file(self.path).unlink(missing_ok=True)


def _is_free(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _sweep(folder: Path) -> None:
    """Remove the tokens of pipelines that were killed, and of their workers."""
    for token in (path for path in folder.iterdir() if path.name.isalnum()):
        files = [token, taken_file(token)]
        with suppress(FileNotFoundError):  # somebody else sweeps, too
            if all(_is_free(path) for path in files if path.exists()):
                for path in files:
                    path.unlink(missing_ok=True)


def taken_file(token: Path) -> Path:
    """Give the file that a worker locks when it takes a token."""
    return token.with_name(f"{token.name}.taken")


def take(token: Path, end: Callable[[], None]) -> None:
    """Take a token in the worker's process, and call `end` as soon as the pipeline lets it go."""
    try:
        held = token.open()
        file = taken_file(token).open("w")
    except FileNotFoundError:  # it has let go already
        return end()
    fcntl.flock(file, fcntl.LOCK_EX)
    _taken.append(file)

    def wait() -> None:
        with held:
            fcntl.flock(held, fcntl.LOCK_SH)
        end()

    threading.Thread(target=wait, name="token", daemon=True).start()


@contextmanager
def watching(runs: list[str], end: Callable[[], None]) -> Iterator[threading.Event]:
    """Call `end` as soon as one of these flow runs is cancelled or over, by what Prefect's server says of them.

    Yields:
        An event that is set when that has happened, at the end of the block at the latest.
    """
    done, over = threading.Event(), threading.Event()

    def look() -> bool:
        with suppress(Exception), get_client(sync_client=True) as client:  # a server that is silent says nothing
            if any(_is_over(client, run) for run in runs):
                over.set()
        return over.is_set()

    def watch() -> None:
        while not done.wait(WATCH_S):
            if look():
                return end()

    if runs:
        threading.Thread(target=watch, name="watch", daemon=True).start()
    try:
        yield over
    finally:
        done.set()
        if runs:
            look()  # what ended a training elsewhere may have ended this block before the next look


def _is_over(client: Any, run: str) -> bool:
    return client.read_flow_run(run).state_type in OVER
