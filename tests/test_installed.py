"""What `pip install waymark` brings: the library and its command, and none of the workflow."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions

import pytest
from closure import ROOT, imported_names
from tiny_model import make_tiny_model, write_quads

from waymark.inference.bundle import ModelFiles, export_model

pytestmark = pytest.mark.slow

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOW = {
    *("apprise", "dvc", "fastapi", "flask-wtf", "mlflow", "nvidia-ml-py", "prefect", "psutil"),
    *("filelock", "sqlalchemy", "starlette", "supervisor", "tabulate", "uvicorn"),
}
ASKED_BY_MLFLOW = ("system/addresses", "inference/registry", "inference/mlflow_model")
OF_THE_WORKFLOW = {ROOT / "waymark" / f"{name}.py" for name in ASKED_BY_MLFLOW}

BEHIND_A_WALL = """
import sys
from importlib.machinery import PathFinder

class Wall(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] in {walled!r}:
            return None  # as of a package that is not installed: torch asks for some without importing them
        return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Wall
from waymark.cli import main
main()
"""


def names(requirements):
    return {line.split(">")[0].split("<")[0].split("=")[0].strip().lower() for line in requirements}


def test_the_base_needs_what_the_library_imports_and_no_orchestrator():
    files = [path for path in (ROOT / "waymark").rglob("*.py") if path not in OF_THE_WORKFLOW]
    imported = {name.split(".")[0] for path in files for name in imported_names(path)}
    ours = imported - set(sys.stdlib_module_names) - {"waymark", "markupsafe"}  # jinja2 brings markupsafe
    providers = {name: {its.lower().replace("_", "-") for its in packages_distributions()[name]} for name in ours}
    base = names(PROJECT["dependencies"])
    assert {name for name, its in providers.items() if not its & base} == set()
    assert not base & WORKFLOW
    assert names(PROJECT["optional-dependencies"]["workflow"]) == WORKFLOW


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, built from a copy of the tree and unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "waymark", folder / "tree/waymark", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / "tree")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", folder, folder / "tree"], check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("waymark-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_every_file_of_the_library_and_nothing_else(installed):
    def files(folder):
        return {
            path.relative_to(folder)
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md"
        }

    assert files(installed / "waymark") == files(ROOT / "waymark")
    assert {path.name.split("-")[0] for path in installed.iterdir()} == {"waymark"}
    (metadata,) = installed.glob("*.dist-info")
    assert "waymark = waymark.cli:main" in (metadata / "entry_points.txt").read_text()


def run(installed, folder, *arguments):
    """Run the command where the packages of the workflow are not, but for one that torch brings along."""
    return subprocess.run(
        [sys.executable, "-c", BEHIND_A_WALL.format(walled=WORKFLOW - {"filelock"}), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed), "MLFLOW_TRACKING_URI": "sqlite:///none.db"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_an_exported_file_answers_where_only_the_wheel_is(installed, tmp_path):
    tiny = make_tiny_model(tmp_path / "here" / "trained")
    (place,) = write_quads(tmp_path / "there" / "quads", 1)
    export_model(ModelFiles("tiny", tiny.checkpoint, tiny.calibration), tmp_path / "there" / "tiny.waymark")
    views = [f"quads/{place}/{heading}.jpg" for heading in (0, 90, 180, 270)]
    result = run(
        installed, tmp_path / "there", "guess", *views, "--model", "tiny.waymark", "--json", "--html", "a.html"
    )
    assert result.returncode == 0, result.stderr
    (elsewhere,) = json.loads(result.stdout)["answers"]
    assert (tmp_path / "there" / "a.html").stat().st_size > 1_000_000
    command = [sys.executable, "-m", "waymark", "guess", *views, "--model", tiny.checkpoint, "--json"]
    result = subprocess.run(
        command,
        cwd=tmp_path / "there",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    (here,) = json.loads(result.stdout)["answers"]
    for name in ("latitude", "longitude", "radius_50_km", "radius_90_km", "probability"):
        assert elsewhere[name] == pytest.approx(here[name], abs=1e-5)
    walled = run(installed, tmp_path / "there", "guess", *views, "--model", "champion")
    assert walled.returncode == 1
    assert "MLflow is not installed" in walled.stderr
    assert len(walled.stderr.splitlines()) == 1
