"""Which runs and versions MLflow may forget: never what an alias, a rollback, or a model at hand needs."""

import os
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.entities.model_registry import ModelVersion

from tasks.common.outputs import file_digest
from tasks.registry.runs import CHECKPOINT_TAG
from tasks.registry.store import all_experiments, client, tracking_uri
from tasks.registry.versions import NEXT, PREVIOUS
from waymark.inference.references import LANDMARK, LOCATION
from waymark.system.addresses import is_web
from waymark.system.processes import run_command

HISTORY = (PREVIOUS, NEXT)
DATABASE = "WAYMARK_MLFLOW_DATABASE"
PURGE = """import os, sys
from mlflow.cli import gc
from waymark.inference.registry import open_registry
open_registry(os.environ["WAYMARK_MLFLOW_DATABASE"])
gc(["--backend-store-uri", os.environ["WAYMARK_MLFLOW_DATABASE"], *sys.argv[1:]])
"""  # `mlflow gc` takes its database as an argument alone, which may hold a password that ps would show
REVISIONS = ("waymark.git.locked_revision", "waymark.git.revision")  # the first has the dvc.lock


class Needed(NamedTuple):
    """What must stay."""

    versions: set[tuple[str, str]]
    runs: set[str]
    revisions: set[str]


class Forgettable(NamedTuple):
    """What may go."""

    runs: list[str]
    versions: list[tuple[str, str]]
    logged_models: list[str]
    bytes: int  # of the artifacts that lie on this machine


def needed(folders: Iterable[Path]) -> Needed:
    """Gather what aliases, the history of promotions, and the models in some checkouts need."""
    store = client()
    versions: list[ModelVersion] = []
    for name in (LOCATION, LANDMARK):
        known = {str(version.version): version for version in store.search_model_versions(f"name = '{name}'")}
        kept = {str(version) for alias in store.search_registered_models(f"name = '{name}'")
                for version in alias.aliases.values()}  # fmt: skip
        kept |= {number for number, version in known.items() if any(tag in version.tags for tag in HISTORY)}
        kept |= {
            known[number].tags[tag] for number in kept & set(known) for tag in HISTORY if tag in known[number].tags
        }
        versions += [known[number] for number in sorted(kept & set(known))]
    digests = {file_digest(path) for folder in folders for path in folder.glob("trained/*/model.ckpt")}
    at_hand = {run.info.run_id for run in _runs() if run.data.tags.get(CHECKPOINT_TAG) in digests}
    return Needed(
        {(version.name, str(version.version)) for version in versions},
        {str(version.run_id) for version in versions} | at_hand,
        {next(filter(None, map(version.tags.get, REVISIONS)), "") for version in versions} - {""},
    )


def _runs() -> list[Run]:
    return mlflow.search_runs(all_experiments(), output_format="list")


def forgettable(before: datetime, kept: Needed) -> Forgettable:
    """List the runs that began before some time and that nothing needs, with the versions that they made."""
    limit_ms = before.timestamp() * 1000
    runs = [run for run in _runs() if run.info.start_time < limit_ms and run.info.run_id not in kept.runs]
    ids, store = {run.info.run_id for run in runs}, client()
    versions = [
        (name, str(version.version))
        for name in (LOCATION, LANDMARK)
        for version in store.search_model_versions(f"name = '{name}'")
        if version.run_id in ids
    ]
    logged = mlflow.search_logged_models(all_experiments(), output_format="list")
    models = [model for model in logged if model.source_run_id in ids]
    places = [run.info.artifact_uri for run in runs] + [model.artifact_location for model in models]
    return Forgettable(
        sorted(ids), sorted(versions), sorted(model.model_id for model in models), sum(map(_size, places))
    )


def _size(uri: str) -> int:
    """Sum up the files of an artifact folder on this machine; 0 for one elsewhere."""
    folder = Path(uri.removeprefix("file://"))
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_absolute() else 0


def forget(what: Forgettable, database: str | None = None) -> bool:
    """Delete runs, versions and models; where the store's database is known, with their artifacts.

    Args:
        what: to delete.
        database: of MLflow's server, where the store is one that runs on this machine.

    Returns:
        Whether the artifacts went, too. `mlflow gc` purges every experiment that somebody has deleted besides, and
        without names every logged model, so it is not called where that would take more than what was asked for.
    """
    store = client()
    for name, version in what.versions:
        store.delete_model_version(name, version)
    for model in what.logged_models:
        store.delete_logged_model(model)
    for run in what.runs:
        store.delete_run(run)
    uri = tracking_uri()
    database = database if is_web(uri) else uri
    if not database or not what.logged_models or store.search_experiments(view_type=ViewType.DELETED_ONLY):
        return False
    names = ["--run-ids", ",".join(what.runs)] if what.runs else []
    names += ["--logged-model-ids", ",".join(what.logged_models)]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": uri, DATABASE: database}
    command = [sys.executable, "-c", PURGE, *names]
    return run_command(command, env=environment, capture_output=True).returncode == 0
