"""One training in a worker's process, for a pipeline that runs in another."""

import os
import socket
import threading
from contextlib import chdir
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.states import Cancelled, Failed, State

from flows import children
from flows.handover import HANDED_BACK, UnreachableError
from flows.lifeline import take, watching
from flows.repro import Hear, reproduce
from flows.worker import end_with_worker
from waymark.errors import WaymarkError
from waymark.system.addresses import is_web

STORE = "MLFLOW_TRACKING_URI"


@flow(name="train", flow_run_name="{stage}")
def train(
    stage: str,
    workspace: str,
    token: str,
    handover: str | None = None,
    remote: str | None = None,
    variables: dict[str, str] | None = None,
    watched_runs: list[str] | None = None,
) -> State[Any]:
    """Train one model, for a pipeline: in its own folder where this machine sees it, else in one of its own.

    A training ends with whoever asked for it: when the pipeline's process dies, when its flow run is cancelled, and
    when this worker's process dies.

    Args:
        stage: stage of dvc.yaml, such as train@cells.
        workspace: folder of the checkout that asks for it.
        token: file below it, whose lock the pipeline holds as long as it wants the training.
        handover: name of the checkout's code in the remote, for a worker on another machine.
        remote: DVC remote through which such a worker takes code and data, and gives back what it made.
        variables: environment variables of the stage.
        watched_runs: flow runs with whose end the training ends.
    """
    end_with_worker()
    children.allow()
    unwanted = threading.Event()
    hear, variables = get_run_logger().info, variables or {}

    def end() -> None:
        unwanted.set()
        children.stop_all()

    try:
        with watching(watched_runs or [], end):
            if Path(token).is_file():
                take(Path(token), end)
                with chdir(workspace):
                    ended = reproduce(stage, variables, hear)
            else:
                ended = _train_apart(stage, handover, remote, _elsewhere(variables), hear)
    except UnreachableError as error:
        ended = Failed(name=HANDED_BACK, message=str(error))
    except WaymarkError as error:
        ended = Failed(message=str(error))
    finally:
        children.stop_all()
    return Cancelled(message="the pipeline that asked for it is gone or cancelled") if unwanted.is_set() else ended


def _train_apart(
    stage: str, handover: str | None, remote: str | None, variables: dict[str, str], hear: Hear
) -> State[Any]:
    from flows import sharing  # late, for DVC takes a second that a training here does not need

    if handover is None or remote is None:
        raise UnreachableError(
            f"{socket.gethostname()} does not see the checkout that asks for {stage}; start its worker with"
            " python -m flows.worker, or the pipeline with a DVC remote that both reach: --remote URL"
        )
    return sharing.train_apart(stage, handover, remote, variables, hear)


def _elsewhere(variables: dict[str, str]) -> dict[str, str]:
    """Leave out the other machine's address of MLflow where this machine has one, or where it is a file there.

    A run that is not logged from here is logged anew where the training was asked for.
    """
    uri = variables.get(STORE, "")
    useless = STORE in os.environ or not is_web(uri)
    return {name: value for name, value in variables.items() if name != STORE or not useless}
