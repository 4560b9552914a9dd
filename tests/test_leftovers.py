"""What tests have started ends with them, also when somebody presses Ctrl-C or kills them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

TEST = """
import os, subprocess
from pathlib import Path

def test_that_starts_a_server():
    server = subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path("started").write_text(str(server.pid))
    os.read(0, 1)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_server_that_a_test_has_started_ends_with_the_test(tmp_path, number):
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_it.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "test_it.py"]
    tests = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    started = tmp_path / "started"
    while not (started.exists() and started.read_text()):
        assert tests.poll() is None
        time.sleep(0.05)
    server = psutil.Process(int(started.read_text()))
    os.kill(tests.pid, number)
    tests.wait()
    psutil.wait_procs([server], timeout=120)
    assert not server.is_running()
