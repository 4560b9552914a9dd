"""Flows that do next to nothing, for the tests of the services: what prefect.yaml deploys, without the work."""

import os
import subprocess
import sys
import time
from pathlib import Path

from prefect import flow

from flows.worker import end_with_worker
from waymark.system.processes import die_with_parent


def _work(mark, seconds):
    """Write down who works where, with a child, for a while."""
    end_with_worker()
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"], preexec_fn=die_with_parent)
    if mark:
        names = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "DVC_SITE_CACHE_DIR", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY")
        lines = [str(os.getpid()), str(child.pid), str(Path.cwd()), os.environ["PATH"].split(os.pathsep)[0]]
        Path(mark).write_text("\n".join([*lines, *(os.environ.get(name, "") for name in names)]))
    child.wait()


@flow(name="nightly")
def nightly(mark: str = "", seconds: float = 0.0):
    """Stand in for the night."""
    _work(mark, seconds)


@flow(name="train")
def train(mark: str = "", seconds: float = 0.0):
    """Stand in for a training."""
    _work(mark, seconds)


@flow(name="promote")
def promote():
    """Stand in for a promotion."""
    time.sleep(0)


@flow(name="rollback")
def rollback():
    """Stand in for a rollback."""
    time.sleep(0)


@flow(name="tidy")
def tidy():
    """Stand in for tidying."""
    time.sleep(0)
