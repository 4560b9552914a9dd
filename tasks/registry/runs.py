"""The run of a training in MLflow: begun while it trains, completed from its outputs, found again by its checkpoint."""

import getpass
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # before mlflow is imported

import mlflow
import pandas as pd
import pyarrow.parquet as pq
from mlflow.entities import Metric, Param
from mlflow.entities.model_registry import ModelVersion
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

from tasks.common.circumstances import lock_state, of_checkout
from tasks.common.outputs import file_digest, read_json
from tasks.common.publishing import SPEED, kept_record
from tasks.registry.store import all_experiments, client, experiment_id, only_one, tracking_uri
from tasks.training.tables import read_table

logger = logging.getLogger(__name__)

PREFIX = "waymark."
TRAINING_TAG = "waymark.training"  # id of the record that the training wrote
MODEL_TAG = "waymark.model"
CHECKPOINT_TAG = "waymark.checkpoint.sha256"
EVALUATION_TAG = "waymark.evaluation.sha256"
REPORT_TAG = "waymark.report.sha256"
REVISION_TAG = "waymark.git.revision"
TEST_TAG = "waymark.split.test_sha256"
LINEAGE = "lineage.json"  # of a registered model, in its run: what its tags do not hold
EXPOSURE = "exposure.parquet"  # the records that a training sees
TRAINED, SPLIT_RECORDS = Path("trained"), Path("data/split/records.parquet")
REPORTS, MAPS = Path("reports/models"), Path("reports/details")
CURVES = ("train_loss", "val_loss", "val_mean_km", "val_gap", "val_top1")
ARTIFACTS = ("training.json", EXPOSURE)  # of a training, as far as they are there
EVALUATION = ("metrics.json", "predictions.parquet")  # and the map, once compare has drawn it
INPUT_TAGS = {
    "data_digest": "data.digest",
    "test_sha256": "split.test_sha256",
    "params_sha256": "params.sha256",
    "requirements_sha256": "requirements.lock.sha256",
    "weights_sha256": "weights.sha256",
}  # of the lineage in training.json
BATCH = 1000  # metrics that MLflow takes at once


def tagged(values: Mapping[str, str]) -> dict[str, str]:
    """Name tags of ours; what is not known gets none."""
    return {f"{PREFIX}{name}": value for name, value in values.items() if value}


def begin(record: Mapping[str, Any]) -> str:
    """Start the run of a training, or find the one that was started before a kill or while MLflow was away.

    Args:
        record: as `tasks.common.publishing.begin_record` writes it.
    """
    with only_one("runs"):
        return _find(TRAINING_TAG, record["id"]) or _create(record)


def _find(tag: str, value: str) -> str | None:
    found = client().search_runs(all_experiments(), f"tags.`{tag}` = '{value}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _create(record: Mapping[str, Any]) -> str:
    model, lineage = record["model"], {tag: record["lineage"].get(name) for name, tag in INPUT_TAGS.items()}
    known = tagged({**record["circumstances"], **lineage})
    tags = {TRAINING_TAG: record["id"], MODEL_TAG: model, **known, **_columns(model, known)}
    run = client().create_run(experiment_id(), run_name=f"{model} {datetime.now():%Y-%m-%d %H:%M:%S}", tags=tags)
    params = [Param(name, str(value)) for name, value in _flat(record["params"]).items()]
    client().log_batch(run.info.run_id, params=params)
    return str(run.info.run_id)


def _columns(model: str, known: Mapping[str, str]) -> dict[str, str]:
    """Fill the columns that MLflow shows of each run: who started what, at which commit."""
    columns = {MLFLOW_SOURCE_NAME: f"tasks/train.py {model}", MLFLOW_SOURCE_TYPE: "LOCAL"}
    if REVISION_TAG in known:
        columns[MLFLOW_GIT_COMMIT] = known[REVISION_TAG]
    with suppress(OSError, KeyError, ImportError):  # in a container whose user has no name
        columns[MLFLOW_USER] = getpass.getuser()
    return columns


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def log_curves(run_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Log the figures of epochs, named as in the curves of `training.json`, unless the run has them already."""
    known = {metric.step for metric in client().get_metric_history(run_id, "train/loss")}
    now = int(time.time() * 1000)
    metrics = [
        Metric(name.replace("_", "/", 1), row[name], now, row["epoch"])
        for row in rows
        for name in CURVES
        if row["epoch"] not in known and row.get(name) is not None
    ]
    for start in range(0, len(metrics), BATCH):
        client().log_batch(run_id, metrics=metrics[start : start + BATCH])


def run_of(model: str) -> str:
    """Find the run that made the trained model, and log whatever it lacks.

    A training that MLflow was away from is logged now, and so are files that the run lacks: another machine may have
    put them where only it can read them. A model that came out of DVC's cache has no run in this store, and gets one.
    """
    digest = file_digest(TRAINED / model / "model.ckpt")
    kept = kept_record(digest)
    run_id = None if kept.exists() else _find(CHECKPOINT_TAG, digest)
    if run_id is None:
        record = read_json(kept) if kept.exists() else {}
        run_id = _complete(record if "id" in record else _record_of(model, digest), digest)  # older ones have no id
        kept.unlink(missing_ok=True)
    _log_lacking(run_id, [path for name in ARTIFACTS if (path := TRAINED / model / name).exists()])
    _complete_evaluation(model, run_id)
    return run_id


def _record_of(model: str, digest: str) -> dict[str, Any]:
    """Gather what is known of a model without a record: its inputs from its training, code and data from here."""
    logger.info("the store has no run of this %s; logging it from its outputs", model)
    training = read_json(TRAINED / model / "training.json")
    known = {**of_checkout(training["lineage"]["data"]), "logged_anew": "true"}
    return {**training, "id": digest, "model": model, "circumstances": known}


def _complete(record: Mapping[str, Any], digest: str) -> str:
    """Log all that the run of a training lacks; the checkpoint's digest comes last, as it says that nothing lacks."""
    training = read_json(TRAINED / record["model"] / "training.json")
    run_id = begin(record)
    log_curves(run_id, training["curves"])
    table, data_digest = read_table(), training["lineage"]["data_digest"]
    with mlflow.start_run(run_id=run_id):
        for context in ("train", "val"):
            rows = table.loc[table["split"] == context, ["record_id", "latitude", "longitude"]].reset_index(drop=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of mlflow, which knows two names for a local file
                dataset = mlflow.data.from_pandas(
                    rows, source=str(SPLIT_RECORDS), name=f"{context} records", digest=data_digest
                )
            mlflow.log_input(dataset, context=context)
    client().set_tag(run_id, CHECKPOINT_TAG, digest)
    return run_id


def _log_lacking(run_id: str, paths: list[Path], folder: str | None = None) -> None:
    """Log the files that a run lacks in one of its folders."""
    store = client()
    there = {Path(artifact.path).name for artifact in store.list_artifacts(run_id, folder)}
    for path in paths:
        if path.name not in there:
            store.log_artifact(run_id, str(path), folder)


def _complete_evaluation(model: str, run_id: str) -> None:
    """Log the figures of val and test, and what was made of them, unless the run has just these."""
    made = (*(REPORTS / model / name for name in EVALUATION), MAPS / model / "map.html")
    paths = [path for path in made if path.exists()]
    if not paths:
        return
    _log_speed(model, run_id)
    if _has_files(run_id, paths, EVALUATION_TAG):
        return _log_lacking(run_id, paths, "evaluation")
    for split, figures in read_json(REPORTS / model / "metrics.json").items():
        for name, value in figures.items():
            if value is not None:
                client().log_metric(run_id, f"{split}.{name}", value)
    log_files(run_id, paths, "evaluation", EVALUATION_TAG)


def _log_speed(model: str, run_id: str) -> None:
    """Log how many pictures the model answered for in a second, where it was evaluated here."""
    path = SPEED / f"{model}.json"
    if path.exists() and "images_per_second" not in client().get_run(run_id).data.metrics:
        speed = read_json(path)
        if speed["checkpoint"] == file_digest(TRAINED / model / "model.ckpt"):
            client().log_metric(run_id, "images_per_second", speed["images_per_second"])


def log_files(run_id: str, paths: Sequence[Path], folder: str, tag: str) -> None:
    """Log files into a folder of a run, unless the run has just these by its tag."""
    if not _has_files(run_id, paths, tag):
        for path in paths:
            client().log_artifact(run_id, str(path), folder)
        client().set_tag(run_id, tag, _digest(paths))


def _has_files(run_id: str, paths: Sequence[Path], tag: str) -> bool:
    return bool(client().get_run(run_id).data.tags.get(tag) == _digest(paths))


def _digest(paths: Sequence[Path]) -> str:
    return " ".join(file_digest(path)[:16] for path in paths)


def write_lineage(run_id: str) -> dict[str, str]:
    """Write into a run, for the versions that are made from it, all that its tags hold of where it comes from."""
    known = {**client().get_run(run_id).data.tags, **tagged(lock_state())}
    lineage = {tag: value for tag, value in known.items() if tag.startswith(PREFIX)}
    client().log_dict(run_id, lineage, LINEAGE)
    return lineage


def read_lineage(version: ModelVersion) -> dict[str, str]:
    """Read where a version comes from: from its run's file, and from its tags, which count more."""
    return {**(_read_artifact(version, LINEAGE, read_json) or {}), **version.tags}


def read_exposure(version: ModelVersion) -> pd.DataFrame | None:
    """Read which records a version was trained and calibrated on.

    Returns:
        Rows of `waymark.data.exposure.EXPOSURE_SCHEMA`; None where its run kept no such table, as those did that are
        older than it.
    """
    return _read_artifact(version, EXPOSURE, lambda path: pq.read_table(path).to_pandas())


def _read_artifact(version: ModelVersion, name: str, read: Callable[[Path], Any]) -> Any:
    """Read a file of the run that made a version; None where it has none."""
    if name not in {artifact.path for artifact in client().list_artifacts(version.run_id)}:
        return None
    with TemporaryDirectory(prefix="waymark-") as folder:
        path = mlflow.artifacts.download_artifacts(
            run_id=version.run_id, artifact_path=name, dst_path=folder, tracking_uri=tracking_uri()
        )
        return read(Path(path))
