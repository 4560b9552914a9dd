"""One stage of DVC's graph: skipped, run here, or trained by a worker of the GPU's pool."""

import os
import threading
import time
from functools import partial
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State

from flows.stages import children
from flows.stages.children import Log
from flows.stages.progress import Entry, Progress
from flows.stages.repro import SKIPPED, reproduce
from flows.workers.training import Training, train
from tasks.common.stage import load_params

TRAININGS = ("train@", "block_split@")
SERVERS = ("gldv2",)  # sources that a download fetches from
BACKOFF_S = (30.0, 60.0, 120.0)  # after which a download from a server is tried again

_room = threading.Semaphore(min(4, os.cpu_count() or 1))  # stages at work in this process at the same time


@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def run_stage(stage: str, skipped: str | None, training: Training, progress: Progress) -> State[Any]:
    """Bring one stage of DVC's graph up to date.

    Args:
        stage: its address in dvc.yaml.
        skipped: why there is nothing to do, where that is known beforehand.
        training: where models are trained.
        progress: shows how far it is, and keeps how it ended.
    """
    began = time.monotonic()
    if skipped:
        state: State[Any] = Completed(name=SKIPPED, message=skipped)
    else:
        progress.begin(stage)
        state = _bring_up_to_date(stage, training, partial(progress.receive, stage))
    seconds = round(time.monotonic() - began, 1)
    progress.end(Entry(stage, state.name or state.type.value, seconds, state.message or ""))
    return state


def _bring_up_to_date(stage: str, training: Training, log: Log) -> State[Any]:
    if stage.startswith(TRAININGS):
        return train(stage, training, log)
    with _room:
        state = reproduce(stage, training.variables, log)
        fetches = stage == "download" and load_params()["download"]["source"] in SERVERS
        for pause_s in BACKOFF_S if fetches else ():  # only there can a second try help
            if not state.is_failed() or children.stopping(pause_s):
                break
            log(f"{state.message}; trying again")
            state = reproduce(stage, training.variables, log)
        return state
