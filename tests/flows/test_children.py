"""Children end when they are asked to, whoever started the flow."""

import os
import signal
import sys
import threading

import pytest

from flows.stages import children

SLEEPER = """
import time
try:
    print("here", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def deaf():
    """Ignore interrupts, as what nohup or cron starts does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("deaf")
def test_a_child_heeds_the_interrupt_that_its_parent_ignores():
    lines = []

    def receive(line):
        lines.append(line)
        if line == "here":
            threading.Thread(target=children.stop_all).start()

    children.run([sys.executable, "-c", SLEEPER], os.environ, receive)
    assert lines == ["here", "interrupted"]
