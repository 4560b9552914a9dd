"""MLflow's store: where it is, and the experiment that this machine can write to."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tasks.common.outputs import whole_file
from tasks.common.stage import WORK
from waymark.inference.references import environment_name, is_served_from, registry_uri
from waymark.inference.registry import open_registry
from waymark.system.addresses import is_web, sqlite_path, sqlite_url
from waymark.system.checkout import checkout

EXPERIMENT = environment_name("waymark")
ELSEWHERE = environment_name(
    "waymark-elsewhere"
)  # of machines that do not see the disk on which the first keeps its artifacts


def tracking_uri() -> str:
    """Find the store: what the user's environment says, else a file at the root of the user's checkout."""
    return str(registry_uri(must_exist=False))


def client() -> MlflowClient:
    """Connect to the store, which is made where there is none."""
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    if (path := sqlite_path(uri)) is not None:
        _make_store(path)
    return open_registry(uri)


def _make_store(path: Path) -> None:
    """Let MLflow make its database under another name: made by two at once, or by half, it would be broken for good."""
    if path.exists():
        return
    with only_one("mlflow"):
        if not path.exists():
            with whole_file(path) as fresh:
                for left in path.parent.glob(f"{fresh.name}*"):  # by a kill: a half database, and what undoes it
                    left.unlink()
                open_registry(sqlite_url(fresh)).search_experiments(max_results=1)


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Wait for a lock of the user's checkout, which the kernel releases when the process dies."""
    lock = checkout() / WORK / "locks" / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def experiment_id() -> str:
    """Find or make the experiment whose artifacts this machine can write.

    MLflow fixes where they go when an experiment is made: next to a store that is a file, through a server that was
    there first. A path is written by the client on its own disk, without an error also where that is the wrong one, so
    that only the checkout which serves the store writes there; others make an experiment of their own.
    """
    found, uri = client().get_experiment_by_name(EXPERIMENT), tracking_uri()
    if found is None:
        return _create(EXPERIMENT)
    on_a_disk = urlsplit(found.artifact_location).scheme in ("", "file")
    if not on_a_disk or not is_web(uri) or is_served_from(checkout(), uri):
        return str(found.experiment_id)
    found = client().get_experiment_by_name(ELSEWHERE)
    return _create(ELSEWHERE) if found is None else str(found.experiment_id)


def _create(name: str) -> str:
    path = sqlite_path(tracking_uri())
    artifacts = (path.absolute().parent / "mlruns").as_uri() if path is not None else None  # else as the server says
    try:
        return str(client().create_experiment(name, artifact_location=artifacts))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # made by another training meanwhile
            raise
        return experiment_id()


def all_experiments() -> list[str]:
    """List the experiments that hold trainings, wherever these ran."""
    found = [client().get_experiment_by_name(name) for name in (EXPERIMENT, ELSEWHERE)]
    return [str(experiment.experiment_id) for experiment in found if experiment is not None]
