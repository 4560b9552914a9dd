"""Start processes that the kernel kills together with the process that started them."""

import ctypes
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cache
from multiprocessing import context, parent_process
from queue import SimpleQueue
from typing import Any

PR_SET_PDEATHSIG = 1  # prctl(2)

_libc = ctypes.CDLL(None)  # loaded before any fork: little is allowed between fork and exec


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to kill this process when its parent dies: nothing else cleans up after kill -9.

    Args:
        parent: id of the process that must still be the parent; if it died before the kernel was asked, this process
            exits now.
    """
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def die_with(pid: int) -> None:
    """Exit this process as soon as another one exits, which need not be its parent.

    Raises:
        ProcessLookupError: there is no such process.
    """
    watched = os.pidfd_open(pid)

    def wait() -> None:
        select.select([watched], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def run_command(command: Sequence[str | os.PathLike[str]], **options: Any) -> "subprocess.CompletedProcess[Any]":
    """Run a command like `subprocess.run`, except that its exit code never raises."""
    return subprocess.run(command, check=False, preexec_fn=_bound(), **options)


def start_command(
    command: Sequence[str | os.PathLike[str]], *, prepare: Callable[[], None] | None = None, **options: Any
) -> "subprocess.Popen[Any]":
    """Start a command, like `subprocess.Popen`.

    Args:
        command: program and arguments.
        prepare: called in the child before the program starts.
        options: of `subprocess.Popen`.
    """
    child: subprocess.Popen[Any] = _from_lasting_thread(
        lambda: subprocess.Popen(command, preexec_fn=_bound(prepare), **options)
    )
    return child


def begin_worker(_: int = 0) -> None:
    """Bind a process of multiprocessing to its parent; `worker_init_fn` of a `DataLoader`."""
    parent = parent_process()
    die_with_parent(None if parent is None else parent.pid)


def _bound(prepare: Callable[[], None] | None = None) -> Callable[[], None]:
    parent = os.getpid()

    def begin() -> None:
        if prepare is not None:
            prepare()
        die_with_parent(parent)

    return begin


class _Process(context.SpawnProcess):
    """A process of multiprocessing that is bound to its parent."""

    def start(self) -> None:
        _from_lasting_thread(super().start)

    def run(self) -> None:
        begin_worker()
        super().run()


class _Spawn(context.SpawnContext):
    Process = _Process


SPAWN = _Spawn()  # the context of every pool


def _from_lasting_thread(begin: Callable[[], Any]) -> Any:
    """Start a process from a thread that lives as long as this process.

    The kernel kills a child when the *thread* that started it exits.
    """
    started: Future[Any] = Future()
    _orders().put((started, begin))
    return started.result()


@cache
def _orders() -> "SimpleQueue[tuple[Future[Any], Callable[[], Any]]]":
    orders: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()

    def work() -> None:
        while True:
            started, begin = orders.get()
            try:
                started.set_result(begin())
            except BaseException as error:  # raised in the caller
                started.set_exception(error)
            del started, begin

    threading.Thread(target=work, name="starter", daemon=True).start()
    return orders


os.register_at_fork(after_in_child=_orders.cache_clear)  # threads do not survive a fork
