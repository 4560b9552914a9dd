"""Projects for the tests of several files; one that has run costs minutes."""

import pytest
from mlflow.tracking import MlflowClient
from tiny import tiny
from toy import clone

from flows.stages import children


@pytest.fixture(autouse=True)
def children_may_begin():
    """As when a flow starts: a test before this one, in the same process, may have stopped them all."""
    children.allow()


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A small project that `python -m flows.pipeline` has carried from pictures to a registered model."""
    project = clone(tmp_path_factory.mktemp("finished") / "project")
    project.printed = project.run("python", "-m", "flows.pipeline").stdout
    return project


@pytest.fixture(scope="session")
def registered(tmp_path_factory):
    """A project with one small model, committed, trained by DVC alone, and registered."""
    project = clone(tmp_path_factory.mktemp("registered") / "project")
    project.change(models={"coordinates": project.params()["models"]["coordinates"]})
    project.revision = project.commit("Ask for little")
    project.repro()
    project.runs_of_dvc = MlflowClient(f"sqlite:///{project.folder}/mlflow.db").search_runs(["1"])
    project.register()
    return project


@pytest.fixture(scope="module")
def tiny_project(tmp_path_factory):
    """A project whose stages cost nothing, downloaded."""
    project = tiny(tmp_path_factory.mktemp("tiny") / "project")
    project.repro("download")
    return project


@pytest.fixture
def held_training(tiny_project, monkeypatch):
    """That project as the working directory, with a training that is due, and held once it has begun."""
    monkeypatch.chdir(tiny_project.folder)
    monkeypatch.setenv("PYTHONPATH", "")
    tiny_project.change(models__cells__seed=tiny_project.params()["models"]["cells"]["seed"] + 1)
    (tiny_project.folder / "began-cells").unlink(missing_ok=True)
    (tiny_project.folder / "hold").touch()
    yield tiny_project
    for name in ("hold", "big"):
        (tiny_project.folder / name).unlink(missing_ok=True)
