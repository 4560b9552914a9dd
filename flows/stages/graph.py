"""The graph of dvc.yaml, read from DVC itself."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.rwlock import RWLOCK_FILE

from tasks.common.outputs import whole_file
from waymark.errors import ParameterError


class Node(NamedTuple):
    """A stage and the stages whose outputs it reads."""

    stage: str
    after: tuple[str, ...]


@contextmanager
def open_repo() -> Iterator[Repo]:
    """Open the checkout for DVC and hold its lock, so that nobody writes dvc.lock meanwhile.

    Raises:
        ParameterError: dvc.yaml and params.yaml do not fit together.
    """
    try:
        with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
            _drop_dead_holders(Path(repo.tmp_dir or "") / RWLOCK_FILE)
            yield repo
    except DvcException as error:
        raise ParameterError(f"dvc.yaml: {error}") from error


def read_graph(repo: Repo) -> list[Node]:
    """List the stages of dvc.yaml in the order of their names, each behind those that it depends on."""
    graph = repo.index.graph  # an edge leads from a stage to what it depends on
    after = {stage.addressing: tuple(sorted(on.addressing for on in graph.successors(stage))) for stage in graph}
    ordered: list[Node] = []
    order = TopologicalSorter(after)
    order.prepare()
    while ready := sorted(order.get_ready()):
        ordered.extend(Node(stage, after[stage]) for stage in ready)
        order.done(*ready)
    return ordered


def is_alive(pid: int) -> bool:
    """Whether there is such a process; a zombie, which is dead and not yet reaped, is none."""
    with suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def _drop_dead_holders(path: Path) -> None:
    """Repair DVC's list of the paths that processes read and write, which a kill may leave wrong.

    DVC itself refuses a list that was left half written, for good, and takes a zombie for a process at work. The lock
    of the repository is held, without which nobody writes the list.
    """
    with suppress(FileNotFoundError):
        listed = _read(path)
        read = {at: [one for one in all_ if is_alive(one["pid"])] for at, all_ in listed.get("read", {}).items()}
        kept = {
            "write": {at: holder for at, holder in listed.get("write", {}).items() if is_alive(holder["pid"])},
            "read": {at: living for at, living in read.items() if living},
        }
        if kept != listed:
            with whole_file(path) as part:
                part.write_text(json.dumps(kept))


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except json.JSONDecodeError:
        return {}
