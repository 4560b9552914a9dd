"""No name in params.yaml is run by a shell, whoever starts the stage. Real DVC."""

import pytest
from toy import clone

pytestmark = pytest.mark.slow

RUNS = ["a; touch ran", "$(touch ran)", "`touch ran`", "a|touch ran", "a&touch ran", "a\ntouch ran"]
NAMES = [*RUNS, "a'b", 'a"b', "--help"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which DVC believes that all is there that its stages read."""
    made = clone(tmp_path_factory.mktemp("names") / "project")
    for path in ("projected/places.parquet", "split/records.parquet"):
        (made.folder / "data" / path).parent.mkdir(parents=True)
        (made.folder / "data" / path).write_text("nothing")
    return made


def test_names_are_refused_by_the_stage_and_run_by_nobody(project):
    project.change(grids={name: {"cells": 9} for name in NAMES})
    before = sorted(path.name for path in project.folder.iterdir())
    printed = project.run("dvc", "repro", "--single-item", "--keep-going", "grids", code=255)
    refused = [line for line in printed.stderr.splitlines() if line.startswith("grids: ")]
    assert len(refused) == len(NAMES)
    assert all("names consist of letters, digits, _ and -" in line for line in refused)
    assert sorted(path.name for path in project.folder.iterdir()) == before


def test_a_stage_knows_its_entry_from_any_folder(project):
    project.change(grids={"fine": {"cells": 9}})
    printed = project.run("bash", "-c", "cd docs && dvc repro --single-item ../dvc.yaml:grids@fine", code=255)
    assert "grids: " not in printed.stderr  # it goes on to read what is no table
    assert "places.parquet" in printed.stderr


def test_an_entry_is_named_by_the_command_line_where_dvc_is_not_there(project):
    printed = project.run("python", "-m", "tasks.grids", code=1, DVC_STAGE="train@fine")
    assert printed.stderr == "grids: name an entry of grids: python -m tasks.grids NAME\n"
