"""Which stages would run, and because of which change, before anything runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from dvc.stage import Stage

from flows.stages.graph import Node, open_repo, read_graph

NOTHING = "Nothing would run: no parameter, file or input of any stage changed, and every output is there."
OF_DEPENDENCIES = {"modified": "changed", "deleted": "is missing", "new": "is a new dependency"}
OF_OUTPUTS = {
    "modified": "is not as its stage left it",
    "not in cache": "is not in DVC's cache",
    "new": "is a new output",
}
UNSET = object()
NEVER = "it never ran here"
AFTER = "after "
NAMED = 4  # stages in a line


class Cause(NamedTuple):
    """A stage that would run and what causes it to."""

    stage: str
    reasons: tuple[str, ...]


def plan() -> tuple[list[Node], list[Cause]]:
    """Read the graph, and what in it would run and why, without running any.

    A stage that follows from another may turn out to be skipped, where that one gives the same bytes as before.

    Raises:
        ParameterError: dvc.yaml and params.yaml do not fit together.
    """
    with open_repo() as repo:
        nodes = read_graph(repo)
        return nodes, _causes(repo, nodes)


def _causes(repo: Repo, nodes: list[Node]) -> list[Cause]:
    stages = {stage.addressing: stage for stage in repo.index.stages}
    causes: dict[str, Cause] = {}
    above: dict[str, set[str]] = {}
    for node in nodes:
        above[node.stage] = set(node.after).union(*(above[name] for name in node.after))
        before = [name for name in node.after if name in causes]
        nearest = [name for name in before if not any(name in above[other] for other in before)]
        made = [out.fs_path for name in before for out in stages[name].outs]
        own = dict.fromkeys(_own_reasons(stages[node.stage], made))
        if own or before:
            causes[node.stage] = Cause(node.stage, (*own, *(f"{AFTER}{name}" for name in nearest)))
    return list(causes.values())


def _own_reasons(stage: Stage, made: list[str]) -> Iterator[str]:
    """List what changed for one stage, but for what the stages before it are going to make anyway."""
    if not any(out.hash_info for out in stage.outs):  # dvc.lock knows nothing of it
        yield NEVER
        return
    if stage.cmd_changed:
        yield "its command changed"
    if stage.always_changed:
        yield "it runs always"
    for dependency in () if stage.frozen else stage.deps:
        if isinstance(dependency, ParamsDependency):
            locked, now = dependency.hash_info.value or {}, dependency.read_params()
            for name in dependency.params:
                yield from _differences(name, locked.get(name, UNSET), now.get(name, UNSET))
        elif not any(_overlap(dependency.fs_path, path) for path in made):
            yield from (f"{path} {OF_DEPENDENCIES[how]}" for path, how in dependency.status().items())
    wrong: dict[str, list[str]] = {}  # outputs with the same fault together
    for out in stage.outs:
        for path, how in out.status().items():
            wrong.setdefault(OF_OUTPUTS[how] if out.exists else "is missing", []).append(path)
    for fault, paths in wrong.items():
        more = len(paths) - 1
        yield f"{paths[0]} {fault}" + (f", and so {'is one more' if more == 1 else f'are {more} more'}" if more else "")


def _overlap(one: str, other: str) -> bool:
    return Path(one).is_relative_to(other) or Path(other).is_relative_to(one)


def _differences(name: str, old: Any, new: Any) -> Iterator[str]:
    """List each changed parameter with its value in dvc.lock and its value now."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(f"{name}.{key}", old.get(key, UNSET), new.get(key, UNSET))
    elif old != new:
        yield f"{name}: {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    return "not set" if value is UNSET else json.dumps(value, ensure_ascii=False, default=str)


def in_short(causes: list[Cause], stages: int) -> str:
    """Summarize in one line how many stages would run, and which of them changed by themselves.

    >>> in_short([Cause("grid", ("grid.spacing_m: 1 -> 2",)), Cause("train@cells", ("after grid",))], 9)
    '2 of 9 stages to run, because of changes in grid; python -m flows.pipeline --explain says which'
    """
    if not causes:
        return NOTHING
    count = f"{len(causes)} of {stages} stages to run"
    if all(NEVER in cause.reasons for cause in causes):
        return f"{count}, which never ran here"
    own = [cause.stage for cause in causes if not all(reason.startswith(AFTER) for reason in cause.reasons)]
    more = f" and {len(own) - NAMED} more" if len(own) > NAMED else ""
    return (
        f"{count}, because of changes in {', '.join(own[:NAMED])}{more}; python -m flows.pipeline --explain says which"
    )


def write(causes: list[Cause]) -> str:
    """List in Markdown which stages would run and why."""
    if not causes:
        return NOTHING
    count = "One stage" if len(causes) == 1 else f"{len(causes)} stages"
    return "\n".join([f"{count} would run:", "", *bullets(causes)])


def bullets(causes: list[Cause]) -> list[str]:
    """Write each stage with its reasons as a line of Markdown."""
    return [f"- `{cause.stage}`: {'; '.join(cause.reasons)}" for cause in causes]
