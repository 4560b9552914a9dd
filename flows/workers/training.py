"""Where models are trained: by a worker of the pool `gpu` where there is one, else here."""

import threading
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
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

from flows.engine import is_served
from flows.servers.addresses import GPU
from flows.stages import children
from flows.stages.children import Log
from flows.stages.graph import is_alive
from flows.stages.repro import reproduce
from flows.worker import own_name
from flows.workers import cores, sharing
from flows.workers.cancellation import this_process
from flows.workers.handover import HANDED_BACK
from flows.workers.pools import ANY_MACHINE
from waymark.errors import WaymarkError
from waymark.inference.references import environment_name

POLL_S = 0.5
ASK_S = 15.0  # after which a training that has not begun asks whether the pool still has a worker
LEAVE_S = 40.0  # that a worker has to end a training

# Prefect numbers the runs of a deployment within a flow run, which two threads must not do at the same time.
_one_request = threading.Lock()


@dataclass(frozen=True)
class Training:
    """Where and how the models of one pipeline run are trained."""

    variables: dict[str, str] = field(default_factory=dict)  # of the environment of each stage
    in_pool: bool = False  # whether a worker of the pool trains
    tracking_uri: str = ""  # MLflow's store, for a worker on this machine
    remote: str | None = None  # DVC's, for workers on other machines; without one none of them is asked

    @property
    def queue(self) -> str:
        """The work queue of the pool in which trainings wait."""
        return ANY_MACHINE if self.remote else own_name()


def deployment() -> str:
    """Name the deployment of trainings in this environment."""
    return f"train/{environment_name('train')}"


def has_worker(training: Training) -> bool:
    """Whether there is a server with the deployment and a worker that can train for this checkout."""
    if not is_served():
        return False
    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        client.read_deployment_by_name(deployment())
        pool = environment_name(GPU)
        queue = client.read_work_queue_by_name(training.queue, work_pool_name=pool)
        return queue.status == WorkQueueStatus.READY and client.read_work_pool(pool).status == WorkPoolStatus.READY
    return False


def train(stage: str, training: Training, log: Log) -> State[Any]:
    """Train one model, in the pool where it has a worker, else here; the state is that of the stage."""
    return (_train_in_pool if training.in_pool else _train_here)(stage, training, log)


def _train_here(stage: str, training: Training, log: Log) -> State[Any]:
    with cores.taken_by(stage):
        return reproduce(stage, training.variables, log)


def _train_in_pool(stage: str, training: Training, log: Log) -> State[Any]:
    """Let a worker of the pool train, which does so as the pool's limit allows, and wait until it has."""
    if training.remote and (failed := sharing.push_inputs(stage, log)):
        return failed
    try:
        with sharing.handed_over(training.remote) if training.remote else nullcontext() as handover:
            run = _ask(stage, training, handover)
            log(f"the pool {GPU} is to train: flow run {run.name} ({run.id})")
            state = _wait(run.id, training)
    except WaymarkError as error:
        return Failed(message=str(error))
    if state is None or state.name == HANDED_BACK:
        why = f"the pool {GPU} has no worker any more" if state is None else state.message
        log(f"{why}; training here")
        return _train_here(stage, training, log)
    if not state.is_completed():
        return Failed(message=state.message or f"the training ended as {state.name}")
    if state.name != sharing.PUSHED:
        return Completed(name=state.name, message=f"{state.message}, by a worker of the pool {GPU}")
    fetched = reproduce(stage, training.variables, log, "--pull")  # what another machine pushed, by DVC's run cache
    return Completed(message=state.message) if fetched.is_completed() else fetched


def _ask(stage: str, training: Training, handover: str | None) -> FlowRun:
    run = runtime.flow_run
    parameters = {
        "stage": stage,
        "workspace": str(Path.cwd()),
        "asker": asdict(this_process()),
        "handover": handover,
        "remote": training.remote,
        "variables": {**training.variables, "MLFLOW_TRACKING_URI": training.tracking_uri},
        "watched_runs": sorted({str(run.id), str(run.root_flow_run_id or run.id)}),
    }
    with _one_request:
        return run_deployment(
            deployment(),
            parameters=parameters,
            timeout=0,
            flow_run_name=stage,
            work_queue_name=training.queue,
            idempotency_key=f"{run.id}:{run.run_count}:{stage}",
        )


def _wait(run_id: UUID, training: Training) -> State[Any] | None:
    """Wait until a training has ended; None where nobody is left to begin it."""
    polls, gone = 0, False
    while True:
        run = _read(run_id)
        state = run.state if run is not None else None
        if state is not None and state.is_final():
            return state
        if run is not None and gone:  # before this look, so that a last word of the process would have been read
            return _set(run_id, Crashed(message="the worker's process is gone; run again, and the training goes on"))
        gone = run is not None and not training.remote and _process_is_gone(run)
        if children.stopping(POLL_S):
            return _cancel(run_id)
        polls += 1
        waits = state is not None and (state.is_scheduled() or state.is_pending())
        if polls % int(ASK_S / POLL_S) == 0 and waits and _is_deserted(training):
            _set(run_id, Cancelling(message="no worker is left in the pool"))
            return None


def _process_is_gone(run: FlowRun) -> bool:
    """Whether the process of a run has ended: one without a remote is of this machine, by its queue."""
    pid = (run.infrastructure_pid or "").rpartition(":")[2]
    return pid.isdecimal() and not is_alive(int(pid)) and not (run.state is not None and run.state.is_scheduled())


def _is_deserted(training: Training) -> bool:
    """Whether the pool has lost its last worker; not while the server does not answer, as when it restarts."""
    with suppress(httpx.HTTPError):
        return not has_worker(training)
    return False


def _cancel(run_id: UUID) -> State[Any]:
    """End a training that is no longer wanted, and wait until its processes are gone."""
    _set(run_id, Cancelling(message="the pipeline that asked for it ends"))
    pause = threading.Event()
    for _ in range(int(LEAVE_S / POLL_S)):
        run = _read(run_id)
        if run is not None and (_process_is_gone(run) or (run.state is not None and run.state.is_final())):
            break
        pause.wait(POLL_S)
    return Failed(message="stopped")


def _read(run_id: UUID) -> FlowRun | None:
    """Read a flow run; None while the server does not answer, as when it restarts."""
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        return client.read_flow_run(run_id)
    return None


def _set(run_id: UUID, state: State[Any]) -> State[Any]:
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, state, force=not state.is_cancelling())
    return state
