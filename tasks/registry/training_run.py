"""The run of a training in MLflow, which goes on without MLflow where it does not answer."""

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger

from tasks.common.outputs import read_json
from tasks.registry import tracking
from tasks.registry.lineage import Lineage
from tasks.registry.tracking import Note

SAMPLE_S = 5  # between two looks at processor, memory and GPU, unless MLflow's own variable says otherwise
LEAVE_S = 5.0  # for the last of them, which a store that is away would hold up for minutes
REST = 9.0  # times as long as a vain attempt took is none made: a dead store slows a training by a tenth at most


class TrainingRun(Logger):
    """Tells the store of each epoch as it ends, and of those before of which it was not told.

    Args:
        model: name of its entry.
        params: of the training.
        lineage: what it is made from.
        work: folder that outlives a kill; a training that goes on goes on in the same run.
    """

    def __init__(self, model: str, params: dict[str, Any], lineage: Lineage, work: Path) -> None:
        super().__init__()
        self.model, self.params, self.path = model, params, work / "run.json"
        if not self.path.exists():
            Note(model, lineage.tags()).write(self.path)
        self.waiting: dict[int, dict[str, float]] = {}  # figures by epoch
        self.run_id: str | None = None  # once it is known to be in the store
        self.rests_until = 0.0
        self.monitor: Any = None
        self._tell()

    @property
    def name(self) -> str:
        """Of the model."""
        return self.model

    @property
    def version(self) -> str:
        """Of the run, as far as there is one."""
        return self.run_id or ""

    @property
    def note(self) -> Note:
        """What is known of the run."""
        return Note(**read_json(self.path))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Say nothing: the params are logged as the run begins."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Take the figures of an epoch."""
        row = {name.replace("/", "_"): value for name, value in metrics.items()}
        self.waiting[int(metrics["epoch"])] = row
        self._tell()

    def _tell(self) -> None:
        began, told = time.monotonic(), False
        if began < self.rests_until:
            return
        with tracking.forgiving(f"the training of {self.model}"):
            self._tell_all()
            told = True
        if not told:
            ended = time.monotonic()
            self.rests_until = ended + REST * (ended - began)

    def _tell_all(self) -> None:
        if self.run_id is None:
            note = self.note
            self.run_id = tracking.begin_run(note, self.params)
            note._replace(run_id=self.run_id).write(self.path)
            self._watch_machine(self.run_id)
        if self.waiting:
            tracking.log_epochs(self.run_id, self.waiting)
            self.waiting.clear()

    def _watch_machine(self, run_id: str) -> None:
        """Let MLflow log how busy processor, memory and GPU are, in a thread of its own."""
        if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() != "true":
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)  # that it begins and ends is no news
        uri = tracking.tracking_uri()
        self.monitor = SystemMetricsMonitor(run_id, SAMPLE_S, resume_logging=True, tracking_uri=uri)
        self.monitor.start()

    def end(self) -> None:
        """Log what the training made."""
        if self.monitor is not None:
            leaving = threading.Thread(target=self.monitor.finish, daemon=True)
            leaving.start()
            leaving.join(LEAVE_S)
        tracking.end_training(self.model, self.note)
