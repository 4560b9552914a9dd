"""One training in a worker's process, for a pipeline that runs in another."""

import os
import socket
from contextlib import chdir
from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.states import Cancelled, Failed, State

from flows.stages import children
from flows.stages.children import Log
from flows.stages.repro import reproduce
from flows.worker import end_with_worker
from flows.workers.cancellation import Asker, is_running, watching
from flows.workers.handover import HANDED_BACK, UnreachableError
from waymark.errors import WaymarkError
from waymark.system.addresses import is_web

STORE = "MLFLOW_TRACKING_URI"


@flow(name="train", flow_run_name="{stage}")
def train(
    stage: str,
    workspace: str,
    asker: Asker,
    handover: str | None = None,
    remote: str | None = None,
    variables: dict[str, str] | None = None,
    watched_runs: list[str] | None = None,
) -> State[Any]:
    """Train one model, for a pipeline: in its own folder where this machine has it, else in a copy.

    A training ends with whoever asked for it: when the pipeline's process dies, when its flow run is cancelled, and
    when this worker's process dies.

    Args:
        stage: stage of dvc.yaml, such as train@cells.
        workspace: folder of the checkout that asks for it.
        asker: process of the pipeline.
        handover: name of the checkout's code in the remote, for a worker on another machine.
        remote: DVC remote through which such a worker takes code and data, and gives back what it made.
        variables: environment variables of the stage.
        watched_runs: flow runs with whose end the training ends.
    """
    end_with_worker()
    children.allow()
    log, variables = get_run_logger().info, variables or {}
    here, own = is_running(asker), runtime.flow_run.id
    watched = [*(watched_runs or []), *([own] if own else [])]
    try:
        with watching(watched, children.stop_all, asker if here else None) as unwanted:
            if here:
                with chdir(workspace):
                    ended = reproduce(stage, variables, log)
            else:
                ended = _train_as_guest(stage, handover, remote, variables, log)
    except UnreachableError as error:
        ended = Failed(name=HANDED_BACK, message=str(error))
    except WaymarkError as error:
        ended = Failed(message=str(error))
    finally:
        children.stop_all()
    return Cancelled(message="the pipeline that asked for it is gone or cancelled") if unwanted.is_set() else ended


def _train_as_guest(
    stage: str, handover: str | None, remote: str | None, variables: dict[str, str], log: Log
) -> State[Any]:
    from flows.workers import sharing  # late, for DVC takes a second that a training here does not need

    if handover is None or remote is None:
        raise UnreachableError(
            f"{socket.gethostname()} does not see the checkout that asks for {stage}; start its worker with"
            " python -m flows.worker, or the pipeline with a DVC remote that both reach: --remote URL"
        )
    # The other machine's address of MLflow is left out where this machine has one, or where it is a file there: a run
    # that is not logged from here is logged where the training was asked for.
    useless = STORE in os.environ or not is_web(variables.get(STORE, ""))
    kept = {name: value for name, value in variables.items() if name != STORE or not useless}
    return sharing.train_as_guest(stage, handover, remote, kept, log)
