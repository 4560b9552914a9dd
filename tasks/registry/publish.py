"""Log to MLflow what a stage makes, next to its process: `python -m tasks.registry.publish MODEL [--follow WORK]`.

A training is followed epoch by epoch; what its outputs hold besides is logged when the stage says on stdin that it
ended well. Where MLflow does not answer, the next look or the next `run_of` makes up for it.
"""

import argparse
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tasks.common.outputs import read_json
from tasks.common.publishing import CURVES, RECORD
from waymark.system import terminal
from waymark.system.addresses import without_credentials

logger = logging.getLogger(__name__)

LOOK_S = 0.5  # between two looks at the files
REST_S = 30.0  # that nothing is logged after a vain attempt
SAMPLE_S = 5  # between two looks at processor, memory and GPU, unless MLflow's own variable says otherwise
LEAVE_S = 5.0  # for the last of them, which a server that is away would hold up for minutes
IMPATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # MLflow's own: minutes


class Follower:
    """Logs a training while it runs, from the files in its work folder.

    Args:
        model: name of its entry.
        work: the folder, in which record and curves may not be there yet.
    """

    def __init__(self, model: str, work: Path) -> None:
        self.model, self.work = model, work
        self.run_id: str | None = None
        self.logged = -1  # epochs
        self.rests_until = 0.0
        self.monitor: Any = None

    def look(self) -> None:
        """Log what is new, unless MLflow was away a moment ago."""
        rests = time.monotonic() < self.rests_until
        if rests or not (self.work / RECORD).exists():
            return
        if not best_effort(f"the training of {self.model}", self._log):
            self.rests_until = time.monotonic() + REST_S

    def _log(self) -> None:
        from tasks.registry import runs  # late, as importing MLflow may fail, too

        if self.run_id is None:
            self.run_id = runs.begin(read_json(self.work / RECORD))
            self.monitor = _watch_machine(self.run_id)
        curves = self.work / CURVES
        rows = read_json(curves) if curves.exists() else []
        if len(rows) != self.logged:
            runs.log_curves(self.run_id, rows)
            self.logged = len(rows)

    def leave(self) -> None:
        """Stop watching the machine."""
        if self.monitor is not None:
            leaving = threading.Thread(target=self.monitor.finish, daemon=True)
            leaving.start()
            leaving.join(LEAVE_S)


def _watch_machine(run_id: str) -> Any:
    """Let MLflow log how busy processor, memory and GPU are, in a thread of its own."""
    if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() != "true":
        return None
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    from tasks.registry.store import tracking_uri

    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)  # that it begins and ends is no news
    monitor = SystemMetricsMonitor(run_id, SAMPLE_S, resume_logging=True, tracking_uri=tracking_uri())
    monitor.start()
    return monitor


def best_effort(what: str, log: Callable[[], None]) -> bool:
    """Log something, or warn that it is logged later: the outputs hold the truth, and MLflow follows from them."""
    try:
        log()
    except Exception as error:  # each kind of store has errors of its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        logger.warning("could not log %s to MLflow; will retry: %s", what, without_credentials(reason))
        return False
    return True


def publish(model: str, work: Path | None) -> None:
    """Follow a stage to the end of its line on stdin, and log its outputs where there is such a line.

    Args:
        model: that it trains or measures.
        work: folder of a training.
    """
    follower = None if work is None else Follower(model, work)
    while not select.select([sys.stdin], [], [], LOOK_S)[0]:
        if follower is not None:
            follower.look()
    if follower is not None:
        follower.leave()
    if sys.stdin.readline():
        best_effort(f"the outputs of {model}", partial(_log_outputs, model))


def _log_outputs(model: str) -> None:
    from tasks.registry.runs import run_of

    run_of(model)


def main() -> None:
    """Run as a command, of which nobody reads the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tasks.registry.publish", description="Log a stage to MLflow.")
    parser.add_argument("model", help="name of an entry of models:")
    parser.add_argument("--follow", type=Path, metavar="WORK", help="work folder of a training")
    arguments = parser.parse_args()
    terminal.log_to(sys.stdout, logging.INFO)
    for name, value in IMPATIENCE.items():
        os.environ.setdefault(name, value)
    publish(arguments.model, arguments.follow)


if __name__ == "__main__":
    main()
