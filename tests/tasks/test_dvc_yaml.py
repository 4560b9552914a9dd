"""dvc.yaml says what each stage really imports and reads."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from closure import ROOT, closure, imported_names
from ruamel.yaml import YAML

from tasks.common.publishing import PUBLISHER

DVC = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
PARAMS = YAML(typ="safe").load(ROOT / "params.yaml")
MOST = 15  # code dependencies of a stage: more is a copy of the import graph
NO_BYTES = {
    "tasks/__init__.py": "it has no code of its own",
    "waymark/__init__.py": "the public Python API, which no stage asks",
    "tasks/common": "it reads params.yaml, whose values DVC compares itself, refuses what is wrong, and runs the stage",
    "waymark/errors.py": "a stage that raises has no outputs",
    "waymark/system": "processes, memory, terminals: how a stage runs, and files that are refused",
    "waymark/options": "bounds, and choice by name: what is refused; defaults stand with each option",
    "waymark/geo/__init__.py": "it names functions that stand in other modules",
    "waymark/metrics/__init__.py": "as above",
}
BANNED = {"size", "nfiles"}  # DVC's run cache does not see a change of such a key


def cannot_change_bytes(path):
    return bool({str(path), *map(str, path.parents)} & set(NO_BYTES))


def body(stage):
    return DVC[stage].get("do", DVC[stage])


def is_code(dependency):
    return dependency.endswith(".py") or dependency.split("/")[0] in ("tasks", "waymark", "flows")


@pytest.mark.parametrize("stage", DVC)
def test_code_dependencies_cover_what_can_change_the_bytes(stage):
    declared = [Path(dependency) for dependency in body(stage)["deps"] if is_code(dependency)]
    needed = closure(f"tasks.{stage}", cannot_change_bytes)
    assert {str(path) for path in needed if not {path, *path.parents} & set(declared)} == set()
    assert {str(path) for path in declared if not any(path in {file, *file.parents} for file in needed)} == set()
    assert len(declared) <= MOST


@pytest.mark.parametrize("stage", DVC)
def test_no_stage_knows_mlflow(stage):
    """Not even where it can change no bytes: what logs to MLflow runs next to the stage and is started by its name."""
    files = closure(f"tasks.{stage}", lambda path: str(path) == "waymark/__init__.py")  # which asks the registry late
    assert not {str(path) for path in files if path.is_relative_to("tasks/registry")}
    assert not {str(path) for path in files if "mlflow" in imported_names(ROOT / path)}
    assert find_spec(PUBLISHER) is not None


def test_the_graph_stays_short_enough_to_be_read():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 240


def test_what_is_said_to_change_no_bytes_exists():
    assert [path for path in NO_BYTES if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("stage", DVC)
def test_declared_params_are_those_read(stage):
    its = import_module(f"tasks.{stage}").STAGE
    assert its.name == stage
    assert body(stage)["params"] == its.params("${key}")
    assert DVC[stage].get("foreach") == (its.each and f"${{{its.each}}}")


@pytest.mark.parametrize("stage", DVC)
def test_stage_runs_its_own_module(stage):
    """A shell runs it: it learns its entry from DVC's environment, so that no name of params.yaml is a command."""
    assert body(stage)["cmd"] == f"python -m tasks.{stage}"


def test_run_cache_is_never_switched_off():
    def keys(node):
        if isinstance(node, dict):
            return set(node) | set().union(*map(keys, node.values()), set())
        return set().union(*map(keys, node), set()) if isinstance(node, list) else set()

    assert not keys(DVC) & {"persist", "always_changed"}


def test_no_parameter_bears_a_name_that_the_run_cache_ignores():
    def banned(node, at=""):
        if not isinstance(node, dict):
            return []
        return [f"{at}{key}" for key in node if key in BANNED] + [
            found for key, value in node.items() for found in banned(value, f"{at}{key}.")
        ]

    assert banned({"resize": {"size": 64}}) == ["resize.size"]
    assert banned(PARAMS) == []


def test_every_section_belongs_to_a_stage():
    read = {name.split(".")[0] for stage in DVC for name in import_module(f"tasks.{stage}").STAGE.params("x")}
    assert set(PARAMS) == read
