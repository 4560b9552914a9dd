"""Versions in MLflow's registry: found by number or alias, and downloaded. Whoever opens the registry starts here."""

import logging
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before mlflow is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry, get_artifact_repository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.tracking import MlflowClient, get_tracking_uri

from waymark.errors import ModelError
from waymark.inference.bundle import ModelFiles
from waymark.inference.references import Reference, parse_reference, registry_uri
from waymark.system.addresses import sqlite_path, without_credentials

SCHEME = "mlflow-artifacts"  # of artifacts that went through MLflow's server
SPLITS = ("val", "test")


def open_registry(uri: str) -> MlflowClient:
    """Connect to a registry; artifacts that its server was given are found on this disk where it is a file."""
    _artifact_repository_registry.register(SCHEME, _repository)  # type: ignore[no-untyped-call]  # of mlflow
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its migrations are no news
    return MlflowClient(uri)


def on_this_disk(artifact_uri: str, tracking_uri: str) -> str:
    """Find such artifacts next to the database, or where MLFLOW_ARTIFACTS_DESTINATION says."""
    folder = Path(sqlite_path(tracking_uri) or "").absolute().parent / "mlruns"
    destination = os.environ.get("MLFLOW_ARTIFACTS_DESTINATION") or folder.as_uri()
    return f"{destination.rstrip('/')}/{artifact_uri.removeprefix(f'{SCHEME}:').lstrip('/')}"


def _repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
    store = tracking_uri or get_tracking_uri()
    if sqlite_path(store) is None:
        return MlflowArtifactsRepository(artifact_uri, tracking_uri, registry_uri)
    return get_artifact_repository(on_this_disk(artifact_uri, store), tracking_uri, registry_uri)


def find_version(store: MlflowClient, wanted: Reference) -> ModelVersion | None:
    """Find a version by its number or by an alias; None where the registry has none."""
    try:
        if wanted.version is not None:
            return store.get_model_version(wanted.model, wanted.version)
        return store.get_model_version_by_alias(wanted.model, str(wanted.alias))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the latter for an alias
            return None
        raise


def get_version(store: MlflowClient, wanted: Reference) -> ModelVersion:
    """Find a version that must be there.

    Raises:
        ModelError: the registry has no such model, version or alias; the message says what there is.
    """
    if (found := find_version(store, wanted)) is not None:
        return found
    raise ModelError(
        f"the registry has no {wanted.version or wanted.alias} of {wanted.model}; {contents(store, wanted.model)}"
    )


def contents(store: MlflowClient, name: str) -> str:
    """Describe what the registry has of a model, or which models it has."""
    models = {model.name: model for model in store.search_registered_models()}
    if name not in models:
        return f"it has the models {', '.join(sorted(models))}" if models else "it is empty: register one with make run"
    versions = sorted(int(version.version) for version in store.search_model_versions(f"name = '{name}'"))
    aliases = ", ".join(sorted(models[name].aliases)) or "no alias"
    return f"it has {aliases} and the versions {', '.join(map(str, versions))}"


def download_registered(reference: str, folder: Path, *, missing_ok: bool = False) -> ModelFiles | None:
    """Download a version from the registry.

    Args:
        reference: such as `champion`, `3` or `waymark-location@champion`.
        folder: where its files go.
        missing_ok: whether None is given where the registry has no such version.

    Raises:
        ModelError: the registry has no such version, cannot be reached, or holds a model of another kind.
    """
    wanted, uri = parse_reference(reference), str(registry_uri())
    try:
        store = open_registry(uri)
        version = find_version(store, wanted) if missing_ok else get_version(store, wanted)
        if version is None:
            return None
        version_uri = f"models:/{version.name}/{version.version}"
        local = Path(download_artifacts(artifact_uri=version_uri, dst_path=str(folder), tracking_uri=uri))
        artifacts = Model.load(str(local)).flavors["python_function"]["artifacts"]
        parts = {part: local / artifact["path"] for part, artifact in artifacts.items()}
        name, figures = f"{version.name} version {version.version}", figures_of(store, version)
        return ModelFiles(name, parts["checkpoint"], parts["calibration"], figures, parts.get("attribution"))
    except ModelError:
        raise
    except Exception as error:  # each kind of store has errors of its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            without_credentials(f"{reference} cannot be read from the registry at {uri}: {reason}")
        ) from error


def figures_of(store: MlflowClient, version: ModelVersion) -> dict[str, dict[str, float]]:
    """Read the figures on val and test of the run that made a version."""
    figures: dict[str, dict[str, float]] = {}
    if version.run_id:
        for key, value in sorted(store.get_run(version.run_id).data.metrics.items()):
            split, _, name = key.partition(".")
            if name and split in SPLITS:
                figures.setdefault(split, {})[name] = value
    return figures
