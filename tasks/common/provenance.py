"""Fail a stage whose parameters, code or inputs change while it runs.

DVC hashes all three when a stage has ended, and dvc.lock then says that the outputs were made from them; the stage
read them when it began. If one is edited in between, the lock would vouch for outputs that were not made from it, and
the run cache would distribute them.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from tasks.common.params import shown
from waymark.errors import ChangedError

GRAPH = Path("dvc.yaml")
CODE = ("tasks", "waymark")
IGNORED = "__pycache__"  # as in .dvcignore
ABSENT = object()
TEMPLATE = re.compile(r"\$\{([^}]+)\}")

Stamps = Mapping[str, Any]  # identifies the content of files, by path
Params = Mapping[str, Any]  # by dotted key


def _hash_code() -> dict[str, bytes]:
    """Hash the project's modules; file times are not enough, because an editor may save the same text again."""
    files = [path for top in CODE for path in Path(top).rglob("*.py")]
    return {str(path): hashlib.sha256(path.read_bytes()).digest() for path in files}


_code = _hash_code()  # at import time: importing torch takes seconds until a stage begins


class Edges(NamedTuple):
    """Paths that a stage reads and writes, as dvc.yaml lists them."""

    deps: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()


class Beginning(NamedTuple):
    """What a stage began with."""

    params: Params
    inputs: Stamps
    edges: Edges
    read_params: Callable[[], Params]


_began: Beginning | None = None


def begin(edges: Edges, params: Params, read_params: Callable[[], Params]) -> None:
    """Record what a stage begins with.

    Args:
        edges: what the stage reads and writes.
        params: the parameters that it has read.
        read_params: reads them again.
    """
    global _began
    _began = Beginning(params, _stamp(edges.deps), edges, read_params)


def check() -> None:
    """Fail if something has changed since the stage began; outside a stage do nothing.

    Raises:
        ChangedError: a parameter, a module or an input has changed.
        ParameterError: params.yaml is no longer readable.
    """
    if _began is None:
        return
    for change in (
        *_changed_params(_began.params, _began.read_params()),
        *_changed_files(_began.inputs, _stamp(_began.edges.deps)),
        *_changed_files(_used(_code, _began.edges.deps), _used(_hash_code(), _began.edges.deps)),
    ):
        raise ChangedError(f"{change} while the stage ran, so that nothing is written; run it again")


def withdraw() -> None:
    """Remove what the stage wrote."""
    for out in _began.edges.outs if _began is not None else ():
        path = Path(out)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def read_edges(stage: str, names: Mapping[str, Any]) -> Edges:
    """Read the paths of a stage from dvc.yaml; none if there is no dvc.yaml.

    Args:
        stage: its name.
        names: values for the templates, such as `key`, `item` and the sections of params.yaml.
    """
    if not GRAPH.exists():
        return Edges()
    body = YAML(typ="safe").load(GRAPH)["stages"].get(stage, {})
    body = body.get("do", body)
    written = [*body.get("outs", ()), *body.get("metrics", ()), *body.get("plots", ())]
    paths = [path for out in written for path in (out if isinstance(out, dict) else [out])]
    return Edges(*(tuple(_filled(path, names) for path in some) for some in (body.get("deps", ()), paths)))


def _filled(path: str, names: Mapping[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        found: Any = names
        for part in match[1].split("."):
            found = found[part]
        return str(found)

    return TEMPLATE.sub(value, path)


def _stamp(paths: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    """Record size, time and inode of each file, as inputs may be too large to hash."""
    return {path: (stat.st_size, stat.st_mtime_ns, stat.st_ino) for top in paths for path, stat in _files(top)}


def _files(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """List a file, or the files of a folder, without modules and missing files."""
    with suppress(OSError):
        if not os.path.isdir(path):  # noqa: PTH112  # too slow for a million files
            if not path.endswith(".py"):
                yield path, os.stat(path)  # noqa: PTH116
            return
        for folder, folders, names in os.walk(path):
            folders[:] = [name for name in folders if name != IGNORED]
            for name in names:
                if not name.endswith(".py"):
                    yield from _files(os.path.join(folder, name))  # noqa: PTH118


def _used(code: Stamps, deps: Iterable[str]) -> Stamps:
    """Select the modules that a stage depends on, by name or by folder."""
    own = set(deps)
    return {path: digest for path, digest in code.items() if own.intersection([path, *map(str, Path(path).parents)])}


def _changed_files(before: Stamps, after: Stamps) -> Iterator[str]:
    for path in sorted({*before, *after}):
        if path not in after:
            yield f"{path} vanished"
        elif before.get(path) != after[path]:
            yield f"{path} changed" if path in before else f"{path} appeared"


def _changed_params(before: Params, after: Params) -> Iterator[str]:
    for dotted, old, new in _differences("", before, after):
        yield f"{shown(dotted)} in params.yaml changed from {_word(old)} to {_word(new)}"


def _word(value: Any) -> str:
    return "not set" if value is ABSENT else shown(repr(value))


def _differences(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            dotted = f"{name}.{key}" if name else str(key)
            yield from _differences(dotted, old.get(key, ABSENT), new.get(key, ABSENT))
    elif old != new:
        yield name, old, new
