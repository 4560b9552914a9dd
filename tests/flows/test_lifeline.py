"""A training and the pipeline that wants it, in two processes: each learns of the other's end from the kernel."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import running
from servers import until

from flows.lifeline import Token

pytestmark = pytest.mark.slow

HOLD = """
import sys, time
from flows.lifeline import Token
token = Token()
print(token.path, flush=True)
time.sleep(600)
"""
TRAIN = """
import sys
from prefect.logging import disable_run_logger
from flows.train import train
with disable_run_logger():
    print(train.fn("train@cells", sys.argv[1], sys.argv[2], "", ""))
"""


def start(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def train(project, token):
    """Train as a worker does, until the training has begun."""
    process = start(TRAIN, str(project.folder), str(token))
    until(lambda: (project.folder / "began-cells").exists() or process.poll() is not None, 300)
    assert process.poll() is None
    return process


def unburied(project):
    """List the processes whom DVC takes for alive as long as nobody has buried them."""
    lock = project.folder / ".dvc/tmp/rwlock"
    pids = re.findall(r'"pid": (\d+)', lock.read_text()) if lock.exists() else []
    return [pid for pid in pids if Path("/proc", pid).exists()]


def nothing_trains(project):
    until(lambda: not unburied(project), 60)
    until(lambda: not any("tasks.tiny" in args or "-m dvc" in args for args in running(project.folder).values()), 60)
    assert not (project.folder / "trained/cells").exists()


def test_the_training_ends_when_the_pipeline_is_killed(held_training):
    pipeline = start(HOLD)
    worker = train(held_training, pipeline.stdout.readline().strip())
    pipeline.kill()
    pipeline.wait()
    assert "the pipeline that asked for it is gone or cancelled" in worker.communicate(timeout=120)[0]
    nothing_trains(held_training)


def test_the_training_ends_when_it_is_wanted_no_more(held_training):
    with Token() as token:
        worker = train(held_training, token.path)
        assert not token.worker_died()
        token.release()
        assert "the pipeline that asked for it is gone" in worker.communicate(timeout=120)[0]
        assert token.worker_died()
    assert list(token.path.parent.iterdir()) == []
    nothing_trains(held_training)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_pipeline_learns_that_the_worker_is_gone(held_training, number):
    with Token() as token:
        worker = train(held_training, token.path)
        os.kill(worker.pid, number)
        worker.wait(120)
        assert token.worker_died()
        nothing_trains(held_training)


def test_a_training_that_comes_to_its_end_is_not_cancelled(held_training):
    with Token() as token:
        worker = train(held_training, token.path)
        (held_training.folder / "hold").unlink()
        assert "ran" in worker.communicate(timeout=120)[0]
    assert (held_training.folder / "trained/cells/model.txt").read_text() == "cellsplaces"
