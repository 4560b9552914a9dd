"""One training in a worker's process, for a pipeline that runs in another."""

import threading
from contextlib import chdir
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.states import Cancelled, Failed, State

from flows import children
from flows.lifeline import take, watching
from flows.repro import reproduce
from flows.worker import end_with_worker
from waymark.addresses import is_web
from waymark.errors import WaymarkError


@flow(name="train", flow_run_name="{stage}")
def train(
    stage: str,
    workspace: str,
    token: str,
    revision: str,
    clone_url: str,
    changes: str = "",
    remote: str | None = None,
    variables: dict[str, str] | None = None,
    watched_runs: list[str] | None = None,
) -> State[Any]:
    """Train one model, for a pipeline: in its own folder where this machine sees it, else in a clone.

    A training ends with whoever asked for it: when the pipeline's process dies, when its flow run is cancelled, and
    when this worker's process dies.

    Args:
        stage: stage of dvc.yaml, such as train@cells.
        workspace: folder of the checkout that asks for it.
        token: file below it, whose lock the pipeline holds as long as it wants the training.
        revision: commit that a worker on another machine checks out.
        clone_url: where such a worker clones from.
        changes: what differs from the commit: git diff, compressed, in Base64.
        remote: DVC remote through which such a worker takes and gives.
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
                from flows import sharing  # late, for DVC takes a second that a training here does not need

                its = sharing.Handover(revision, clone_url, changes)
                ended = sharing.train_apart(stage, its, remote, _elsewhere(variables), hear)
    except WaymarkError as error:
        ended = Failed(message=str(error))
    finally:
        children.stop_all()
    return Cancelled(message="the pipeline that asked for it is gone or cancelled") if unwanted.is_set() else ended


def _elsewhere(variables: dict[str, str]) -> dict[str, str]:
    """Leave out a store that is a file on the other machine: there the runs are logged anew."""
    uri = variables.get("MLFLOW_TRACKING_URI", "")
    return {name: its for name, its in variables.items() if its != uri or is_web(uri)}
