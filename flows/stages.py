"""One stage of DVC's graph: spared, run here, or trained by a worker of the GPU's pool."""

import os
import threading
import time
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State
from prefect.tasks import Task, exponential_backoff

from flows.gpu import Training, train
from flows.ledger import SKIPPED, Ledger
from flows.repro import reproduce

TRAININGS = ("train@", "gap@")
RETRIES = 3  # of a download from a server, after 30, 60 and 120 seconds
BACKOFF_S = 30

_room = threading.Semaphore(min(4, os.cpu_count() or 1))  # stages at work in this process at the same time


@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def run_stage(stage: str, spared: str | None, training: Training, ledger: Ledger) -> State[Any]:
    """Bring one stage of DVC's graph up to date.

    Args:
        stage: its address in dvc.yaml.
        spared: why there is nothing to do, where that is known beforehand.
        training: where models are trained.
        ledger: takes down how it ended.
    """
    began = time.monotonic()
    state = Completed(name=SKIPPED, message=spared) if spared else _bring_up_to_date(stage, training)
    ledger.add(stage, state, time.monotonic() - began)
    return state


def task_of(stage: str, source: str) -> Task[..., Any]:
    """Give the task of a stage; one that fetches from a server is tried again, as only there a second try can help."""
    if stage == "download" and source == "gldv2":
        return run_stage.with_options(retries=RETRIES, retry_delay_seconds=exponential_backoff(BACKOFF_S))
    return run_stage


def _bring_up_to_date(stage: str, training: Training) -> State[Any]:
    hear = get_run_logger().info
    if stage.startswith(TRAININGS):
        return train(stage, training, hear)
    with _room:
        return reproduce(stage, training.variables, hear)
