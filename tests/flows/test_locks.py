"""Locks that one process holds at a time, and that nobody has to take away from the dead."""

import os
import subprocess
import sys
import threading

import pytest
from closure import ROOT

from flows.locks import exclusive
from waymark.errors import ParameterError, WaymarkError

HOLD = """
import sys, time
from pathlib import Path
from flows.locks import exclusive
with exclusive(Path(sys.argv[1]), ""):
    print("held", flush=True)
    time.sleep(600)
"""
BUSY = "somebody is at work in {here} (process {pid})"


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "locks/one.lock")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_message_names_the_process_that_holds_it(tmp_path, holder):
    message = rf"somebody is at work in {{here}} \(process {holder.pid}\)"  # other braces stay as they are
    with pytest.raises(ParameterError, match=message), exclusive(tmp_path / "locks/one.lock", BUSY, ParameterError):
        pass


def test_a_process_that_is_killed_holds_nothing_any_more(tmp_path, holder):
    holder.kill()
    holder.wait()
    with exclusive(tmp_path / "locks/one.lock", BUSY):
        assert (tmp_path / "locks/one.lock").read_text() == str(os.getpid())


def test_without_an_error_the_message_is_printed_and_the_lock_waited_for(tmp_path, holder, capsys):
    threading.Timer(0.5, holder.kill).start()
    with exclusive(tmp_path / "locks/one.lock", BUSY, None):
        assert holder.poll() is not None or holder.wait() == -9
    assert capsys.readouterr().out == f"somebody is at work in {{here}} (process {holder.pid})\n"


def test_it_is_free_after_the_block_also_where_that_failed(tmp_path):
    for _ in range(2):
        with pytest.raises(WaymarkError, match="of the block"), exclusive(tmp_path / "one.lock", BUSY):
            raise WaymarkError("of the block")
