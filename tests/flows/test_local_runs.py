"""A pipeline without a server: nothing is started for it, and two of them in one checkout do not disturb each other."""

import os
import subprocess
import sys

import pytest
import warm
from servers import free_port, until

from flows.stages import stage
from flows.stages.progress import Progress
from flows.stages.repro import complaint
from flows.workers.training import Training

pytestmark = pytest.mark.slow


def start(project, python=None, **variables):
    environment = {**os.environ, "PREFECT_HOME": str(project.folder / "home"), **variables}
    return subprocess.Popen(
        [python or warm.path() / "python", "-m", "flows.pipeline"],
        cwd=project.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_first_pipelines_train_once_the_second_waits(held_training):
    first = start(held_training, sys.executable)  # which is the process that the second names
    until(lambda: (held_training.folder / "began-cells").exists(), 300)
    second = start(held_training)
    waiting = f"another pipeline is at work in this checkout (process {first.pid}); waiting for it\n"
    assert second.stdout.readline() == waiting
    (held_training.folder / "hold").unlink()
    (printed, said), (printed_second, said_second) = first.communicate(), second.communicate()
    assert (first.returncode, said) == (second.returncode, said_second) == (0, "")
    assert "train@cells" in printed
    assert "Nothing would run" in printed_second
    assert not list(held_training.folder.rglob("home/prefect.db"))  # no server began either


def test_a_server_that_does_not_answer_is_done_without_in_one_line(held_training):
    (held_training.folder / "hold").unlink()
    url = f"http://127.0.0.1:{free_port()}/api"
    run = start(held_training, PREFECT_API_URL=url)
    printed, said = run.communicate()
    assert run.returncode == 0, printed + said
    (line,) = said.splitlines()
    assert line.startswith(f"the Prefect server at {url} does not answer")
    assert "train@cells" in printed


def test_a_stage_that_fails_stops_only_those_after_it(held_training):
    """And each reason is said, without a word of Prefect's."""
    (held_training.folder / "hold").unlink()
    held_training.change(models__coordinates__seed=held_training.params()["models"]["cells"]["seed"] + 7)
    (held_training.folder / "fail-train").touch()
    try:
        run = start(held_training)
        printed, said = run.communicate()
    finally:
        (held_training.folder / "fail-train").unlink()
    assert run.returncode == 1
    assert said == "train: the disk is full of cells; train: the disk is full of coordinates\n"
    assert "not reached: compare\n" in printed
    assert "output of the stages: .work/pipeline.log" in printed
    assert "NotReady" not in printed


@pytest.mark.parametrize(("source", "tries"), [("gldv2", 3), ("photos", 1)])
def test_only_a_download_from_a_server_is_tried_again(tiny_project, monkeypatch, source, tries):
    monkeypatch.chdir(tiny_project.folder)
    monkeypatch.setattr(stage, "BACKOFF_S", (0.0, 0.0))
    before = tiny_project.params()["download"]["source"]
    tiny_project.change(download__source=source)
    (tiny_project.folder / "tries").unlink(missing_ok=True)  # of a test before this one
    (tiny_project.folder / "fail-download").touch()
    try:
        progress = Progress(["download"], {})
        stage.run_stage.fn("download", None, Training(), progress)
        log = (tiny_project.folder / "tries").read_text()
    finally:
        (tiny_project.folder / "fail-download").unlink()
        (tiny_project.folder / "tries").unlink(missing_ok=True)
        tiny_project.change(download__source=before)
        tiny_project.repro("download")
    assert log == "download\n" * tries
    (entry,) = progress.entries()
    assert (entry.outcome, entry.reason) == ("failed", "download: the disk is full of")


def test_who_holds_a_path_is_said(held_training):
    """DVC says it in several lines."""
    (held_training.folder / "hold").unlink()
    held_training.repro("train@coordinates")
    (held_training.folder / "hold").touch()
    holder = subprocess.Popen([sys.executable, "-m", "dvc", "repro", "--single-item", "train@cells"])
    until(lambda: (held_training.folder / "began-cells").exists(), 300)
    said = start(held_training).communicate()[1]
    (held_training.folder / "hold").unlink()
    assert holder.wait(60) == 0
    assert f"is busy, it is being blocked by: (PID {holder.pid})" in said
    assert len(said.splitlines()) == 1


def test_a_complaint_without_more_lines_is_that_line():
    assert complaint(["x", "ERROR: no such stage", "", "Having any troubles?"], "y") == "ERROR: no such stage"
    assert complaint(["fatal: no repository"], "y") == "fatal: no repository"
    assert complaint(["", "the last", ""], "y") == "the last"
    assert complaint([], "y") == "y"
