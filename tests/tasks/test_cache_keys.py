"""A change of wording computes nothing again, and a change of the maths exactly what depends on it. Real DVC."""

import ast
import json

import pytest
from dvc.repo import Repo
from toy import clone

pytestmark = pytest.mark.slow

COMPUTING = {
    *("download", "filter", "resize", "project", "grid", "grids", "split"),
    *("train", "calibrate", "evaluate", "block_split"),
}
WORDING = {
    "an error class": ["waymark/errors.py"],
    "the report's headline": ["waymark/report/headline.py"],
    "the MLflow client": ["tasks/registry"],
    "a CLI command": ["waymark/commands", "waymark/cli.py"],
    "a flow": ["flows"],
    "the promotion checks": ["waymark/promotion"],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A checkout with every kind of stage, whose dvc.lock says that all of its (empty) outputs are up to date."""
    folder = tmp_path_factory.mktemp("locked") / "project"
    project = clone(folder, block_split={"cells": {}}, grids={"fine": {"spacing_m": 9000.0}})
    with Repo(str(folder)) as repo:
        paths = [folder / edge.fs_path for stage in repo.index.stages for edge in (*stage.outs, *stage.deps)]
    for path in sorted(paths, reverse=True):  # what lies in a folder before the folder
        if not path.exists() and path.suffix in (".parquet", ".json", ".csv", ".html"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(path.name)
        elif not path.exists():
            path.mkdir(parents=True)
            (path / "output").write_text(path.name)
    project.run("dvc", "commit", "--force", "--quiet")
    assert changed(project) == set()
    return project


def changed(project):
    """Name the stages that DVC would run, each once for all of its models."""
    return {name.split("@")[0] for name in json.loads(project.run("dvc", "status", "--json").stdout)}


def reword(path):
    """Change a message of a module, or of its documentation where it has none."""
    text = path.read_text()
    tree = ast.parse(text)
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    strings = [
        segment
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside
        for segment in [ast.get_source_segment(text, node)]
        if segment is not None and segment.count(" ") > 2
    ]
    message = next((segment for segment in reversed(strings) if not segment.startswith('"""')), strings[-1])
    path.write_text(text.replace(message, message.replace(" ", " indeed ", 1)))


@pytest.fixture
def edited(project):
    """Edit modules, and take the edits back."""
    before = {}

    def edit(path, how):
        before[path] = path.read_text()
        how(path)
        assert path.read_text() != before[path]
        ast.parse(path.read_text())

    yield edit
    for path, text in before.items():
        path.write_text(text)


@pytest.mark.parametrize("what", WORDING)
def test_another_wording_computes_nothing_again(project, edited, what):
    paths = [project.folder / name for name in WORDING[what]]
    modules = [module for path in paths for module in (path.rglob("*.py") if path.is_dir() else [path])]
    modules = [module for module in modules if module.stat().st_size > 200]
    assert modules
    for module in modules:
        edited(module, reword)
    assert changed(project) & COMPUTING == set()


@pytest.mark.parametrize(
    ("module", "dependents"),
    [
        ("waymark/models/losses.py", {"train", "calibrate", "evaluate", "block_split", "compare"}),
        (
            "waymark/images/decode.py",
            {"download", "resize", "train", "calibrate", "evaluate", "block_split", "compare"},
        ),
        ("waymark/geo/grid.py", {"grid", "grids"}),
        ("waymark/report/headline.py", {"compare"}),
    ],
)
def test_a_change_of_a_line_reruns_exactly_what_depends_on_it(project, edited, module, dependents):
    edited(project.folder / module, lambda path: path.write_text(f"{path.read_text()}\nANOTHER = 1\n"))
    assert changed(project) == dependents


def test_edits_that_are_taken_back_rerun_nothing(project):
    assert changed(project) == set()
