"""The graph of dvc.yaml, read from DVC itself."""

from typing import NamedTuple

from dvc.exceptions import DvcException
from dvc.repo import Repo

from waymark.errors import ParameterError


class Node(NamedTuple):
    """A stage and the stages whose outputs it reads."""

    stage: str
    after: tuple[str, ...]


def read_graph() -> list[Node]:
    """List the stages of dvc.yaml, each behind those that it depends on.

    Raises:
        ParameterError: dvc.yaml and params.yaml do not fit together.
    """
    try:
        graph = Repo().index.graph  # an edge leads from a stage to what it depends on
    except DvcException as error:
        raise ParameterError(f"dvc.yaml: {error}") from error
    after = {stage.addressing: tuple(sorted(on.addressing for on in graph.successors(stage))) for stage in graph}
    ordered: list[Node] = []
    while len(ordered) < len(after):
        done = {node.stage for node in ordered}
        ready = sorted(stage for stage in after if stage not in done and done.issuperset(after[stage]))
        ordered.extend(Node(stage, after[stage]) for stage in ready)
    return ordered
