"""Where models are trained: by a worker of the pool `gpu` where there is one, else here."""

import threading
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, WorkPoolStatus, WorkQueueStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling, Completed, Crashed, Failed, State

from flows import children, cores, sharing
from flows.addresses import GPU
from flows.engine import is_served
from flows.handover import HANDED_BACK
from flows.lifeline import Token
from flows.queues import ANY_MACHINE, own_queue
from flows.repro import Hear, reproduce
from waymark.errors import WaymarkError

DEPLOYMENT = "train/train"
POLL_S = 0.5
ASK_S = 15.0  # after which a training that has not begun asks whether the pool still has a worker
LEAVE_S = 40.0  # that a worker has to end a training

# Prefect numbers the runs of a deployment within a flow run, which is no matter for two threads.
_one_request = threading.Lock()


@dataclass(frozen=True)
class Training:
    """Where and how the models of one pipeline run are trained.

    Args:
        variables: environment variables of each stage.
        in_pool: whether a worker of the pool trains.
        tracking_uri: MLflow's store, for a worker on this machine.
        remote: DVC remote through which workers on other machines take and give; without one none of them is asked.
    """

    variables: dict[str, str] = field(default_factory=dict)
    in_pool: bool = False
    tracking_uri: str = ""
    remote: str | None = None


def queue_of(remote: str | None) -> str:
    """Name the work queue of the pool in which trainings wait."""
    return ANY_MACHINE if remote else own_queue()


def has_worker(remote: str | None = None) -> bool:
    """Say whether there is a server with the deployment and a worker that can train for this checkout."""
    if not is_served():
        return False
    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        client.read_deployment_by_name(DEPLOYMENT)
        queue = client.read_work_queue_by_name(queue_of(remote), work_pool_name=GPU)
        return queue.status == WorkQueueStatus.READY and client.read_work_pool(GPU).status == WorkPoolStatus.READY
    return False


def train(stage: str, training: Training, hear: Hear) -> State[Any]:
    """Train one model, in the pool where it has a worker, else here; give its end as the stage's."""
    return (_train_in_pool if training.in_pool else _train_here)(stage, training, hear)


def _train_here(stage: str, training: Training, hear: Hear) -> State[Any]:
    """Train as soon as this machine has room beside other trainings."""
    with cores.taken_by(stage):
        return reproduce(stage, training.variables, hear)


def _train_in_pool(stage: str, training: Training, hear: Hear) -> State[Any]:
    """Let a worker of the pool train, which does so as the pool's limit allows, and wait until it is over."""
    if training.remote and (failed := sharing.push_inputs(stage, hear)):
        return failed
    try:
        with Token() as token, _handed_over(training) as handover:
            run = _ask(stage, training, token, handover)
            hear(f"the pool {GPU} is to train: flow run {run.name} ({run.id})")
            state = _wait(run.id, token, training.remote)
    except WaymarkError as error:
        return Failed(message=str(error))
    if state is None or state.name == HANDED_BACK:
        why = f"the pool {GPU} has no worker any more" if state is None else state.message
        hear(f"{why}; training here")
        return _train_here(stage, training, hear)
    if not state.is_completed():
        return Failed(message=state.message or f"the training ended as {state.name}")
    if state.name == sharing.PUSHED:
        return _fetched(stage, state, training, hear)
    return Completed(name=state.name, message=f"{state.message}, by a worker of the pool {GPU}")


def _handed_over(training: Training) -> AbstractContextManager[str | None]:
    return sharing.handed_over(training.remote) if training.remote else nullcontext()


def _ask(stage: str, training: Training, token: Token, handover: str | None) -> FlowRun:
    run = runtime.flow_run
    parameters = {
        "stage": stage,
        "workspace": str(Path.cwd()),
        "token": str(token.path),
        "handover": handover,
        "remote": training.remote,
        "variables": {**training.variables, "MLFLOW_TRACKING_URI": training.tracking_uri},
        "watched_runs": sorted({str(run.id), str(run.root_flow_run_id or run.id)}),
    }
    with _one_request:
        return run_deployment(
            DEPLOYMENT,
            parameters=parameters,
            timeout=0,
            flow_run_name=stage,
            work_queue_name=queue_of(training.remote),
            idempotency_key=f"{run.id}:{run.run_count}:{stage}",
        )


def _wait(run: UUID, token: Token, remote: str | None) -> State[Any] | None:
    """Wait until a training is over; None where nobody is left to begin it."""
    polls = 0
    while True:
        died, state = token.worker_died(), _state(run)
        if state is not None and state.is_final():
            return state
        if died and state is not None:
            return _set(run, Crashed(message="the worker's process is gone; run again, and the training goes on"))
        if children.stopping(POLL_S):
            return _cancel(run, token)
        polls += 1
        waits = state is not None and (state.is_scheduled() or state.is_pending())
        if polls % int(ASK_S / POLL_S) == 0 and waits and _is_deserted(remote):
            _set(run, Cancelling(message="no worker is left in the pool"))
            return None


def _is_deserted(remote: str | None) -> bool:
    """Say whether the pool has lost its last worker; not while the server does not answer, as when it restarts."""
    with suppress(httpx.HTTPError):
        return not has_worker(remote)
    return False


def _cancel(run: UUID, token: Token) -> State[Any]:
    """End a training that is no longer wanted, and wait until its processes are gone."""
    _set(run, Cancelling(message="the pipeline that asked for it ends"))
    token.release()
    pause = threading.Event()
    for _ in range(int(LEAVE_S / POLL_S)):
        state = _state(run)
        if token.worker_died() or (state is not None and state.is_final()):
            break
        pause.wait(POLL_S)
    return Failed(message="stopped")


def _state(run: UUID) -> State[Any] | None:
    """Ask for the state of a flow run; None while the server does not answer, as when it restarts."""
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        return client.read_flow_run(run).state
    return None


def _set(run: UUID, state: State[Any]) -> State[Any]:
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.set_flow_run_state(run, state, force=not state.is_cancelling())
    return state


def _fetched(stage: str, state: State[Any], training: Training, hear: Hear) -> State[Any]:
    """Take what a worker on another machine pushed, through DVC's run cache."""
    ended = reproduce(stage, training.variables, hear, "--pull")
    return Completed(message=state.message) if ended.is_completed() else ended
