"""The graph of dvc.yaml, read from DVC itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo

from flows.rwlock import forget_the_dead
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
            forget_the_dead(repo)
            yield repo
    except DvcException as error:
        raise ParameterError(f"dvc.yaml: {error}") from error


def read_graph(repo: Repo | None = None) -> list[Node]:
    """List the stages of dvc.yaml, each behind those that it depends on.

    Raises:
        ParameterError: dvc.yaml and params.yaml do not fit together.
    """
    if repo is None:
        with open_repo() as opened:
            return read_graph(opened)
    graph = repo.index.graph  # an edge leads from a stage to what it depends on
    after = {stage.addressing: tuple(sorted(on.addressing for on in graph.successors(stage))) for stage in graph}
    ordered: list[Node] = []
    while len(ordered) < len(after):
        done = {node.stage for node in ordered}
        ready = sorted(stage for stage in after if stage not in done and done.issuperset(after[stage]))
        ordered.extend(Node(stage, after[stage]) for stage in ready)
    return ordered
