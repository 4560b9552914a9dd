"""What is killed leaves no orphan and no half of an output, and the next run ends with the same bytes."""

import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from processes import running
from servers import until
from toy import clone

from flows.stages import children
from flows.stages.repro import reproduce

pytestmark = pytest.mark.slow

WHOLE = "cellsplaces"
DVC = [sys.executable, "-m", "dvc", "repro", "--single-item", "train@cells"]


def at_work(project, mark=""):
    listed = running(project.folder).items()
    return [int(pid) for pid, args in listed if any(each in args for each in ("-m dvc", "tasks.tiny")) and mark in args]


def begun(project):
    until(lambda: (project.folder / "began-cells").exists(), 120)


def goes_on(project):
    """Nobody is left, nothing is there that was not finished, and the next run finishes it."""
    until(lambda: not at_work(project), 30, lambda: str(running(project.folder)))
    assert not (project.folder / "trained/cells").exists()
    (project.folder / "hold").unlink(missing_ok=True)
    children.allow()
    assert reproduce("train@cells", {}, print).message == "ran"
    assert (project.folder / "trained/cells/model.txt").read_text() == WHOLE
    assert [path.name for path in (project.folder / "trained").iterdir() if path.name != ".gitignore"] == ["cells"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("whom", ["-m dvc", "-m tasks.tiny"])
def test_dvc_or_the_stage_is_killed(held_training, whom, number):
    ended = []
    stage = threading.Thread(target=lambda: ended.append(reproduce("train@cells", {}, print)))
    stage.start()
    begun(held_training)
    for pid in at_work(held_training, whom):
        os.kill(pid, number)
    stage.join(60)
    assert ended[0].is_failed()
    goes_on(held_training)


def test_all_is_stopped_as_when_the_flow_ends(held_training):
    ended = []
    stage = threading.Thread(target=lambda: ended.append(reproduce("train@cells", {}, print)))
    stage.start()
    begun(held_training)
    children.stop_all()
    stage.join(60)
    assert ended[0].is_failed()
    assert reproduce("train@cells", {}, print).is_failed()  # and no other begins
    goes_on(held_training)


def test_two_dvc_repro_at_once_write_once(held_training):
    first = subprocess.Popen(DVC, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    begun(held_training)
    second = subprocess.run(DVC, capture_output=True, text=True, check=False)
    assert second.returncode != 0
    assert "ERROR" in second.stdout + second.stderr
    (held_training.folder / "hold").unlink()
    assert first.wait(60) == 0, first.stdout.read()
    assert (held_training.folder / "trained/cells/model.txt").read_text() == WHOLE
    assert held_training.repro("train@cells") == []


def test_the_disk_is_full(held_training):
    (held_training.folder / "hold").unlink()
    (held_training.folder / "big").touch()
    full = f"ulimit -f 2048; exec {' '.join(DVC)}"
    failed = subprocess.run(["bash", "-c", full], capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert "File too large" in failed.stdout + failed.stderr
    (held_training.folder / "big").unlink()
    goes_on(held_training)


def test_a_stage_says_in_one_line_that_the_disk_is_full(tmp_path):
    project = clone(tmp_path / "project")
    full = f"ulimit -f 1; exec {sys.executable} -B -m tasks.download"  # nor would compiled code be written whole
    full = project.run("bash", "-c", full, code=1)
    (line,) = full.stderr.splitlines()
    assert re.fullmatch(r"download: File too large: .*; make room and run again, finished work is kept", line)
    assert not (project.folder / "data/raw").exists()
    assert {path.name for path in (project.folder / "data").iterdir()} == {"README.md", "embeddings"}
