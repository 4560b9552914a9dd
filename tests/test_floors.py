"""Imports run down, and the library needs no orchestrator."""

import subprocess
import sys

import pytest
from closure import FLOORS, ROOT, imported_names

ALLOWED = {"waymark": {"waymark"}, "tasks": {"tasks", "waymark"}, "flows": set(FLOORS)}
ORCHESTRATORS = {"prefect", "dvc", "mlflow"}

BLOCKED_IMPORT = """
import importlib, pkgutil, sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {walled!r}:
            raise ImportError("walled off: " + name)

sys.meta_path.insert(0, Wall())
import waymark
for module in pkgutil.walk_packages(waymark.__path__, "waymark."):
    if module.name not in {excused!r}:
        importlib.import_module(module.name)
        print(module.name)
"""


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_run_down(floor):
    files = sorted((ROOT / floor).rglob("*.py"))
    assert files
    upward = {
        (str(path.relative_to(ROOT)), name)
        for path in files
        for name in imported_names(path)
        if name.split(".")[0] in FLOORS and name.split(".")[0] not in ALLOWED[floor]
    }
    assert not upward


def test_orchestrators_stay_on_their_floors():
    outside = set()
    for floor, forbidden in (("waymark", ORCHESTRATORS), ("tasks", {"prefect", "dvc"})):
        for path in (ROOT / floor).rglob("*.py"):
            found = forbidden.intersection(name.split(".")[0] for name in imported_names(path))
            outside |= {(str(path.relative_to(ROOT)), name) for name in found}
    assert outside == {
        ("waymark/inference/mlflow_model.py", "mlflow"),
        ("waymark/inference/registry.py", "mlflow"),
    }


@pytest.mark.slow
def test_library_imports_without_orchestrators():
    code = BLOCKED_IMPORT.format(
        walled=ORCHESTRATORS, excused={"waymark.inference.mlflow_model", "waymark.inference.registry"}
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "waymark.models.locator" in result.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("flows.pipeline flows.nightly flows.promote flows.rollback flows.rebuild flows.tidy flows.services", "torch"),
        ("tasks.calibrate tasks.evaluate tasks.ensemble tasks.compare waymark.inference.answering", "lightning"),
    ],
)
def test_nobody_waits_for_what_only_others_need(modules, heavy):
    code = f"import sys, {modules.replace(' ', ', ')}; print(sorted(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "'pandas'" in ran.stdout
    assert f"'{heavy}'" not in ran.stdout
