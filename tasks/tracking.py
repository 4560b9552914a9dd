"""Runs in MLflow: found again by the checkpoint that they made, or logged anew."""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.checkout import checkout
from tasks.examples import read_table
from tasks.lineage import lineage
from tasks.outputs import file_digest, read_json

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before mlflow is imported
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

EXPERIMENT = "waymark"
CHECKPOINT_TAG = "waymark.checkpoint.sha256"
TRAINED = Path("trained")
REPORTS = Path("reports/models")
SPLIT_RECORDS = Path("data/split/records.parquet")


def tracking_uri() -> str:
    """Give the store: what the user's environment says, else a file at the root of the user's checkout."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{checkout() / 'mlflow.db'}"


def client() -> MlflowClient:
    """Connect to the store."""
    mlflow.set_tracking_uri(tracking_uri())
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its migrations are no news
    return MlflowClient(tracking_uri())


def experiment_id() -> str:
    """Find or make the experiment; artifacts of a file store lie beside it."""
    store = client()
    found = store.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    beside = (checkout() / "mlruns").as_uri() if tracking_uri().startswith("sqlite:") else None
    return str(store.create_experiment(EXPERIMENT, artifact_location=beside))


def begin_run(model: str, params: dict[str, Any], work: Path) -> str:
    """Start the run of a training, or take up the one that a kill cut off.

    Returns:
        The id of the run, which also stands in the work folder until the training is through.
    """
    marker = work / "run_id"
    if marker.exists() and _exists(marker.read_text()):
        return marker.read_text()
    run_id = _create(model, params)
    marker.write_text(run_id)
    return run_id


def _create(model: str, params: dict[str, Any]) -> str:
    store, experiment = client(), experiment_id()
    run = store.create_run(experiment, run_name=model, tags={"waymark.model": model, **lineage(model)})
    for name, value in _flat(params).items():
        store.log_param(run.info.run_id, name, value)
    return str(run.info.run_id)


def _exists(run_id: str) -> bool:
    try:
        return bool(client().get_run(run_id).info.lifecycle_stage == "active")
    except mlflow.exceptions.MlflowException:
        return False


def _flat(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def end_training(run_id: str, model: str, table: pd.DataFrame) -> None:
    """Tag a run with the checkpoint that it made, and log what it was trained on."""
    store = client()
    with mlflow.start_run(run_id=run_id):
        for context in ("train", "val"):
            rows = table.loc[table["split"] == context, ["record_id", "latitude", "longitude"]].reset_index(drop=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of mlflow, which knows two names for a local file
                dataset = mlflow.data.from_pandas(rows, source=str(SPLIT_RECORDS), name=f"{context} records")
            mlflow.log_input(dataset, context=context)
        mlflow.log_artifact(str(TRAINED / model / "training.json"))
    store.set_tag(run_id, CHECKPOINT_TAG, file_digest(TRAINED / model / "model.ckpt"))


def run_of(model: str) -> str:
    """Find the run that made the trained model; where the store has none, log it anew.

    A model that came out of DVC's cache, or from another machine, has no run in this store.
    """
    digest = file_digest(TRAINED / model / "model.ckpt")
    found = client().search_runs([experiment_id()], f"tags.`{CHECKPOINT_TAG}` = '{digest}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    logger.info("the store has no run of this %s; logging it anew", model)
    training = read_json(TRAINED / model / "training.json")
    run_id = _create(model, training["params"])
    store = client()
    for row in training["curves"]:
        for name in ("train_loss", "val_loss", "val_mean_km"):
            if row[name] is not None:
                store.log_metric(run_id, name.replace("_", "/", 1), row[name], step=row["epoch"])
    store.set_tag(run_id, "waymark.logged_anew", "true")  # its lineage is that of this checkout, not of the training
    end_training(run_id, model, read_table())
    if (REPORTS / model / "metrics.json").exists():
        log_evaluation(run_id, read_json(REPORTS / model / "metrics.json"), REPORTS / model)
    return run_id


def log_evaluation(run_id: str, metrics: dict[str, dict[str, Any]], folder: Path) -> None:
    """Log the figures of val and test, and what `evaluate` wrote, with the run."""
    store = client()
    for split, figures in metrics.items():
        for name, value in figures.items():
            if value is not None:
                store.log_metric(run_id, f"{split}.{name}", value)
    for name in ("metrics.json", "predictions.parquet", "map.html"):
        store.log_artifact(run_id, str(folder / name), "evaluation")
