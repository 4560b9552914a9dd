"""Artifacts that MLflow's server hands on, for whoever opens its database on the same machine without the server."""

import os
from pathlib import Path
from typing import Any

from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry, get_artifact_repository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.tracking import get_tracking_uri

from waymark.system.addresses import sqlite_path

SCHEME = "mlflow-artifacts"


def read_without_server() -> None:
    """Let MLflow find such artifacts on this disk, next to the database, where the store is a file and no server."""
    _artifact_repository_registry.register(SCHEME, _repository)  # type: ignore[no-untyped-call]  # of mlflow


def on_this_disk(artifact_uri: str, tracking_uri: str) -> str:
    """Locate such artifacts next to a database, or where MLFLOW_ARTIFACTS_DESTINATION says."""
    default = Path(sqlite_path(tracking_uri) or "").absolute().parent / "mlruns"
    destination = os.environ.get("MLFLOW_ARTIFACTS_DESTINATION") or default.as_uri()
    return f"{destination.rstrip('/')}/{artifact_uri.removeprefix(f'{SCHEME}:').lstrip('/')}"


def _repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
    store = tracking_uri or get_tracking_uri()
    if sqlite_path(store) is None:
        return MlflowArtifactsRepository(artifact_uri, tracking_uri, registry_uri)
    return get_artifact_repository(on_this_disk(artifact_uri, store), tracking_uri, registry_uri)
