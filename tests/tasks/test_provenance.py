"""What dvc.lock vouches for is what the outputs were made from, whatever somebody edits meanwhile. Real DVC."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from toy import clone

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project that is about to resize, and has done so before with other parameters."""
    made = clone(tmp_path_factory.mktemp("provenance") / "project", resize__size_px=24)
    made.repro("resize")
    made.change(resize__size_px=32)
    return made


@pytest.fixture
def as_it_was(project):
    """Take back what a test edits."""
    edited = ("params.yaml", "waymark/images/decode.py", "waymark/geo/grid.py", "data/filtered/records.parquet")
    texts = {name: (project.folder / name).read_bytes() for name in edited}
    lock = project.lock()
    yield project
    for name, text in texts.items():
        (project.folder / name).unlink()  # DVC may have made it read-only
        (project.folder / name).write_bytes(text)
    (project.folder / "dvc.lock").write_text(lock)


def the_stage(dvc):
    """Find the process of the stage: it is DVC's child, or that of a shell between the two."""
    (stage,) = [
        process
        for process in psutil.Process(dvc.pid).children(recursive=True)
        if process.cmdline()[1:3] == ["-m", "tasks.resize"]
    ]
    return stage


def repro(project, edit):
    """Resize by `dvc repro`, and edit something in the midst of it."""
    here = Path(project.folder)
    shutil.rmtree(here / ".work/resize", ignore_errors=True)  # kept where a run was refused: it is finished work
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    dvc = subprocess.Popen(
        ["dvc", "repro", "--single-item", "resize"],
        cwd=here,
        env={**os.environ, "PATH": path, "PYTHONPATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not list(here.glob(".work/resize/*")):
        assert dvc.poll() is None, dvc.stdout.read()
        time.sleep(0.002)
    stage = the_stage(dvc)
    stage.suspend()
    edit(here)
    stage.resume()
    printed = dvc.communicate(timeout=120)[0]
    return dvc.returncode, [line for line in printed.splitlines() if line.startswith("resize: ")]


def append(path, text):
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + text)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda here: set_size(here, 16), "resize.size_px in params.yaml changed from 32 to 16 while the stage ran"),
        (lambda here: append(here / "waymark/images/decode.py", b"\n# later\n"), "waymark/images/decode.py changed"),
        (lambda here: append(here / "data/filtered/records.parquet", b"PAR1"), "data/filtered/records.parquet changed"),
        (lambda here: (here / "data/raw/images/new.jpg").touch(), "data/raw/images/new.jpg appeared"),
    ],
    ids=["parameter", "code", "input", "new input"],
)
def test_what_changes_while_a_stage_runs_ends_it(as_it_was, edit, message):
    project, lock = as_it_was, as_it_was.lock()
    code, lines = repro(project, edit)
    (project.folder / "data/raw/images/new.jpg").unlink(missing_ok=True)
    assert code != 0
    assert len(lines) == 1
    assert message in lines[0]
    assert "run it again" in lines[0]
    assert project.lock() == lock
    assert not (project.folder / "data/shards").exists()
    assert not list((project.folder / "data").glob(".shards*"))


def set_size(here, size_px):
    text = (here / "params.yaml").read_text()
    (here / "params.yaml").write_text(text.replace("size_px: 32", f"size_px: {size_px}"))


def foreign(here):
    text = (here / "params.yaml").read_text()
    (here / "params.yaml").write_text(text.replace("spacing_m: 40000", "spacing_m: 50000"))
    append(here / "waymark/geo/grid.py", b"\n# later\n")


def test_what_a_stage_does_not_read_may_change(as_it_was):
    code, lines = repro(as_it_was, foreign)
    assert (code, lines) == (0, [])
    assert as_it_was.repro("--single-item", "resize") == []
