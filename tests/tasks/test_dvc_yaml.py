"""dvc.yaml says what each stage really imports and reads."""

from importlib import import_module

import pytest
from closure import ROOT, closure, shortest
from ruamel.yaml import YAML

DVC = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
PARAMS = YAML(typ="safe").load(ROOT / "params.yaml")
BANNED = {"size", "nfiles"}  # DVC's run cache does not see a change of such a key


def body(stage):
    return DVC[stage].get("do", DVC[stage])


def is_code(dependency):
    return dependency.endswith(".py") or dependency.split("/")[0] in ("tasks", "waymark", "flows")


@pytest.mark.parametrize("stage", DVC)
def test_code_dependencies_are_the_import_closure(stage):
    declared = sorted(dependency for dependency in body(stage)["deps"] if is_code(dependency))
    assert declared == shortest(closure(f"tasks.{stage}"))


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
