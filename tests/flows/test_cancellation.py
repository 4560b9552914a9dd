"""A training and the pipeline that asks for it, in two processes: it ends with that, and with its own worker."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from processes import running
from servers import until

from flows.workers.cancellation import Asker, is_running, this_process, watching

HOLD = """
import dataclasses, json, time
from flows.workers.cancellation import this_process
print(json.dumps(dataclasses.asdict(this_process())), flush=True)
time.sleep(600)
"""
TRAIN = """
import json, sys
from prefect.logging import disable_run_logger
from flows.train import train
from flows.workers.cancellation import Asker
with disable_run_logger():
    print(train.fn("train@cells", sys.argv[1], Asker(**json.loads(sys.argv[2]))))
"""
GONE = "the pipeline that asked for it is gone or cancelled"


def start(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def pipeline():
    process = start(HOLD)
    process.asker = process.stdout.readline().strip()
    yield process
    process.kill()
    process.wait()


def train(project, asker):
    """Train as a worker does, until the training has begun."""
    process = start(TRAIN, str(project.folder), asker)
    until(lambda: (project.folder / "began-cells").exists() or process.poll() is not None, 300)
    assert process.poll() is None
    return process


def listed(project):
    """List the processes whom DVC takes for alive as long as nobody has reaped them."""
    lock = project.folder / ".dvc/tmp/rwlock"
    pids = re.findall(r'"pid": (\d+)', lock.read_text()) if lock.exists() else []
    return [pid for pid in pids if Path("/proc", pid).exists()]


def nothing_trains(project):
    until(lambda: not listed(project), 60)
    until(lambda: not any("tasks.tiny" in args or "-m dvc" in args for args in running(project.folder).values()), 60)
    assert not (project.folder / "trained/cells").exists()


@pytest.mark.slow
def test_the_training_ends_when_the_pipeline_is_killed(held_training, pipeline):
    worker = train(held_training, pipeline.asker)
    pipeline.kill()
    pipeline.wait()
    assert GONE in worker.communicate(timeout=120)[0]
    nothing_trains(held_training)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_training_ends_with_its_worker(held_training, pipeline, number):
    worker = train(held_training, pipeline.asker)
    os.kill(worker.pid, number)
    worker.wait(120)
    nothing_trains(held_training)


@pytest.mark.slow
def test_a_training_that_comes_to_its_end_is_not_cancelled(held_training, pipeline):
    worker = train(held_training, pipeline.asker)
    (held_training.folder / "hold").unlink()
    assert "ran" in worker.communicate(timeout=120)[0]
    assert (held_training.folder / "trained/cells/model.txt").read_text() == "cellsplaces"


def test_a_process_is_known_by_its_id_its_start_and_its_machine():
    mine = this_process()
    assert is_running(mine)
    assert not is_running(replace(mine, started=mine.started - 60))  # the id was given to another one since
    assert not is_running(replace(mine, host="elsewhere"))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    assert not is_running(replace(mine, pid=ended.pid, started=mine.started))
    ended.wait()
    assert Asker(**json.loads(json.dumps(asdict(mine)))) == mine


def test_the_end_of_the_asker_is_noticed_also_at_the_end_of_the_block(pipeline):
    asker, ends = Asker(**json.loads(pipeline.asker)), threading.Event()
    with watching([], ends.set, asker) as unwanted:
        assert not unwanted.is_set()
        pipeline.kill()
        pipeline.wait()
    assert unwanted.is_set()
    with watching([], ends.set, asker):
        assert ends.wait(30)
