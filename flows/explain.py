"""Which change causes which stages to run, said before anything runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dvc.dependency import ParamsDependency
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import Stage

from flows.graph import Node, open_repo, read_graph

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


def explain() -> list[Cause]:
    """List the stages that would run, in the graph's order, without running any.

    A stage that follows from another may turn out to be spared, where that one gives the same bytes as before.

    Raises:
        ParameterError: dvc.yaml and params.yaml do not fit together.
    """
    with open_repo() as repo:
        return causes_of(repo, read_graph(repo))


def causes_of(repo: Repo, nodes: list[Node]) -> list[Cause]:
    """List the stages of a graph that would run, by DVC's own word on each."""
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
    """Give what changed for one stage, but for what the stages before it are going to make anyway."""
    if not any(out.hash_info for out in stage.outs):  # dvc.lock knows nothing of it
        yield NEVER
        return
    if stage.cmd_changed:
        yield "its command changed"
    if stage.always_changed:
        yield "it runs always"
    for dependency in () if stage.frozen else stage.deps:
        if isinstance(dependency, ParamsDependency):
            yield from _parameters(dependency)
        elif not any(_overlap(dependency.fs_path, path) for path in made):
            yield from (f"{path} {OF_DEPENDENCIES[how]}" for path, how in dependency.status().items())
    yield from _outputs(stage.outs)


def _outputs(outs: list[Output]) -> Iterator[str]:
    """Give what is wrong with a stage's outputs, those with the same fault together."""
    wrong: dict[str, list[str]] = {}
    for out in outs:
        for path, how in out.status().items():
            fault = "is missing" if not out.exists else OF_OUTPUTS[how]
            wrong.setdefault(fault, []).append(path)
    for fault, paths in wrong.items():
        more = len(paths) - 1
        yield f"{paths[0]} {fault}" + (f", and so {'is one more' if more == 1 else f'are {more} more'}" if more else "")


def _overlap(one: str, other: str) -> bool:
    return Path(one).is_relative_to(other) or Path(other).is_relative_to(one)


def _parameters(dependency: ParamsDependency) -> Iterator[str]:
    """Give each changed parameter with its value in dvc.lock and its value now."""
    locked, now = dependency.hash_info.value or {}, dependency.read_params()
    for name in dependency.params:
        for dotted, old, new in _differences(name, locked.get(name, UNSET), now.get(name, UNSET)):
            yield f"{dotted}: {_shown(old)} -> {_shown(new)}"


def _differences(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differences(f"{name}.{key}", old.get(key, UNSET), new.get(key, UNSET))
    elif old != new:
        yield name, old, new


def _shown(value: Any) -> str:
    return "not set" if value is UNSET else json.dumps(value, ensure_ascii=False, default=str)


def in_short(causes: list[Cause], stages: int) -> str:
    """Say in one line how many stages would run, and which of them changed by themselves.

    >>> in_short([Cause("grid", ("grid.spacing_m: 1 -> 2",)), Cause("train@cells", ("after grid",))], 9)
    '2 of 9 stages to run, because of changes in grid; python -m flows.pipeline --explain says which'
    """
    if not causes:
        return NOTHING
    own = [cause.stage for cause in causes if not all(reason.startswith(AFTER) for reason in cause.reasons)]
    names = ", ".join(own[:NAMED]) + (f" and {len(own) - NAMED} more" if len(own) > NAMED else "")
    if all(NEVER in cause.reasons for cause in causes):
        return f"{len(causes)} of {stages} stages to run, which never ran here"
    why = f"because of changes in {names}; python -m flows.pipeline --explain says which"
    return f"{len(causes)} of {stages} stages to run, {why}"


def write(causes: list[Cause]) -> str:
    """Say in Markdown which stages would run and why."""
    if not causes:
        return NOTHING
    count = "One stage" if len(causes) == 1 else f"{len(causes)} stages"
    lines = [f"- `{cause.stage}`: {'; '.join(cause.reasons)}" for cause in causes]
    return "\n".join([f"{count} would run:", "", *lines])
