"""DVC goes on after processes that were killed while it wrote down who works where."""

import json
import os
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import psutil
import pytest
from dvc.exceptions import DvcException
from dvc.repo import Repo
from operator_checkout import Operator, repro

from flows.stages.graph import open_repo


@pytest.fixture
def here(tmp_path):
    operator = Operator(tmp_path)
    operator.begin()
    with chdir(tmp_path):
        yield tmp_path / ".dvc/tmp/rwlock"


@pytest.fixture
def zombie():
    """A process that has ended and that its parent has not reaped."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    yield process.pid
    process.wait()


def held(*pids):
    """Let processes write the stage's output and read what it reads."""
    holders = [{"pid": pid, "cmd": "dvc repro"} for pid in pids]
    return json.dumps(
        {"write": {str(Path.cwd() / "data/raw"): holders[0]}, "read": {str(Path.cwd() / "input"): holders}}
    )


@pytest.mark.parametrize("left", ["", '{"write": {"data/r'])
def test_a_list_cut_short_by_a_kill_is_repaired(here, left):
    here.write_text(left)
    with Repo() as repo, pytest.raises(DvcException, match="failed to reproduce"):
        repo.reproduce()  # as DVC alone does, for good
    assert repro() == "ran"


def test_the_dead_hold_nothing_reaped_or_not(here, zombie):
    reaped = subprocess.Popen([sys.executable, "-c", ""])
    reaped.wait()
    here.write_text(held(zombie, reaped.pid))
    with Repo() as repo, pytest.raises(DvcException, match="failed to reproduce"):
        repo.reproduce()
    assert repro() == "ran"


def test_the_living_are_waited_for_by_nobody_and_forgotten_by_nobody(here, zombie):
    here.write_text(held(os.getppid(), zombie))
    with open_repo():
        assert json.loads(here.read_text()) == json.loads(held(os.getppid()))
    with pytest.raises(Exception, match="failed to reproduce"):
        repro()
