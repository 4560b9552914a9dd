"""One stage of DVC's graph: skipped, run here, or trained by a worker of the GPU's pool."""

import os
import threading
import time
from functools import partial
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State

from flows import children
from flows.gpu import Training, train
from flows.ledger import SKIPPED, Ledger
from flows.progress import Progress
from flows.repro import Hear, reproduce
from tasks.common.stage import load_params

TRAININGS = ("train@", "block_split@")
SERVERS = ("gldv2",)  # sources that a download fetches from
BACKOFF_S = (30.0, 60.0, 120.0)  # after which a download from a server is tried again

_room = threading.Semaphore(min(4, os.cpu_count() or 1))  # stages at work in this process at the same time


@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def run_stage(stage: str, spared: str | None, training: Training, ledger: Ledger, progress: Progress) -> State[Any]:
    """Bring one stage of DVC's graph up to date.

    Args:
        stage: its address in dvc.yaml.
        spared: why there is nothing to do, where that is known beforehand.
        training: where models are trained.
        ledger: takes down how it ended.
        progress: shows how far it is.
    """
    began = time.monotonic()
    if not spared:
        progress.begin(stage)
    state = Completed(name=SKIPPED, message=spared) if spared else _bring_up_to_date(stage, training, progress)
    progress.end(ledger.add(stage, state, time.monotonic() - began))
    return state


def _bring_up_to_date(stage: str, training: Training, progress: Progress) -> State[Any]:
    hear = partial(progress.hear, stage)
    if stage.startswith(TRAININGS):
        return train(stage, training, hear)
    with _room:
        return _reproduce(stage, training, hear)


def _reproduce(stage: str, training: Training, hear: Hear) -> State[Any]:
    """Run a stage, and one that fetches from a server again where it fails: only there a second try can help."""
    state = reproduce(stage, training.variables, hear)
    for pause_s in BACKOFF_S if stage == "download" and load_params()["download"]["source"] in SERVERS else ():
        if not state.is_failed() or children.stopping(pause_s):
            break
        hear(f"{state.message}; trying again")
        state = reproduce(stage, training.variables, hear)
    return state
