"""Runs in MLflow: found again by the checkpoint that they made, completed later, or logged anew."""

import getpass
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tasks.common.checkout import checkout
from tasks.common.outputs import file_digest, read_json, whole_file, write_json
from tasks.common.stage import WORK
from tasks.registry.lineage import PREFIX, lineage
from tasks.registry.turns import taking_turns
from tasks.training.tables import read_table

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before mlflow is imported
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
from mlflow.entities import Experiment, Metric, Param
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

from waymark.inference.mlflow_artifacts import read_without_server
from waymark.inference.references import is_served_from, registry_uri
from waymark.system.addresses import is_web, sqlite_path, sqlite_url, without_credentials

read_without_server()
logger = logging.getLogger(__name__)

EXPERIMENT = "waymark"
ELSEWHERE = "waymark-elsewhere"  # of machines that do not see the disk on which the first keeps its artifacts
MODEL_TAG = "waymark.model"
CHECKPOINT_TAG = "waymark.checkpoint.sha256"
EVALUATION_TAG = "waymark.evaluation.sha256"
REPORT_TAG = "waymark.report.sha256"
REVISION_TAG = "waymark.git.revision"
LINEAGE = "lineage.json"  # of a registered model, in its run: what its tags do not say
EXPOSURE = "exposure.parquet"  # what a model has seen, see tasks.registry.exposure
TRAINED = Path("trained")
REPORTS = Path("reports/models")
SPLIT_RECORDS = Path("data/split/records.parquet")
CURVES = ("train_loss", "val_loss", "val_mean_km", "val_gap", "val_top1")
ARTIFACTS = ("training.json", EXPOSURE)  # of a training, as far as they are there
EVALUATION = ("metrics.json", "predictions.parquet")  # and map.html, which compare draws
DETAILS = Path("reports/details")
SPEED = WORK / "speed"  # by which `evaluate` answered, and for which checkpoint
OF_TRAINING_ALONE = ("hardware", "torch", "flow_run", "experiment")  # what another checkout cannot know
IMPATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}  # MLflow's own: minutes


class Note(NamedTuple):
    """What is to be said of a training to the store: kept beside the work until the store has all of it."""

    model: str
    tags: dict[str, str]
    run_id: str | None = None

    def write(self, path: Path) -> None:
        """Keep it."""
        with whole_file(path) as beside:
            write_json(self._asdict(), beside)


def tracking_uri() -> str:
    """Give the store: what the user's environment says, else a file at the root of the user's checkout."""
    return str(registry_uri(checkout(), must_exist=False))


def client() -> MlflowClient:
    """Connect to the store."""
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its migrations are no news
    if (path := sqlite_path(uri)) is not None:
        _make_store(path)
    return MlflowClient(uri)


def _make_store(path: Path) -> None:
    """Have MLflow make its database beside: made by two at once, or by half, it would be broken for good."""
    if path.exists():
        return
    with taking_turns("mlflow"):
        if not path.exists():
            with whole_file(path) as beside:
                for left in path.parent.glob(f"{beside.name}*"):  # by a kill: a half database, and what undoes it
                    left.unlink()
                MlflowClient(sqlite_url(beside)).search_experiments(max_results=1)


@contextmanager
def forgiving(what: str) -> Iterator[None]:
    """Go on where the store does not answer within seconds: the outputs hold the truth, and it follows from them.

    Args:
        what: that is logged, for the warning.
    """
    before = {name: os.environ.get(name) for name in IMPATIENCE}
    os.environ.update({name: value for name, value in IMPATIENCE.items() if before[name] is None})
    try:
        yield
    except Exception as error:  # each kind of store has errors of its own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        logger.warning(
            "MLflow was not told of %s, and will be when it answers again: %s", what, without_credentials(reason)
        )
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


def experiment_id() -> str:
    """Find or make the experiment whose artifacts this machine can write.

    MLflow fixes where they go when an experiment is made: next to a store that is a file, through a server that was
    there first. A path is written by the client on its own disk, without an error also where that is the wrong one, so
    that only the checkout which serves the store writes there; others make an experiment of their own.
    """
    found = client().get_experiment_by_name(EXPERIMENT)
    if found is None:
        return _create(EXPERIMENT)
    if not is_web(tracking_uri()) or is_served_from(checkout(), tracking_uri()) or not _is_path(found):
        return str(found.experiment_id)
    found = client().get_experiment_by_name(ELSEWHERE)
    return _create(ELSEWHERE) if found is None else str(found.experiment_id)


def _create(name: str) -> str:
    path = sqlite_path(tracking_uri())
    beside = (path.absolute().parent / "mlruns").as_uri() if path is not None else None  # else as the server says
    try:
        return str(client().create_experiment(name, artifact_location=beside))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # made by another training meanwhile
            raise
        return experiment_id()


def _is_path(its: Experiment) -> bool:
    return urlsplit(its.artifact_location).scheme in ("", "file")


def all_experiments() -> list[str]:
    """List the experiments that hold trainings, wherever these ran."""
    found = [client().get_experiment_by_name(name) for name in (EXPERIMENT, ELSEWHERE)]
    return [str(its.experiment_id) for its in found if its is not None]


def begin_run(note: Note, params: dict[str, Any]) -> str:
    """Start the run of a training, or take up the one that a kill cut off."""
    store = client()
    if note.run_id is not None and _exists(note.run_id):
        return note.run_id
    tags = {MODEL_TAG: note.model, **note.tags, **_columns(note)}
    run = store.create_run(experiment_id(), run_name=f"{note.model} {datetime.now():%Y-%m-%d %H:%M:%S}", tags=tags)
    flat = [Param(name, str(value)) for name, value in _flat(params).items()]
    store.log_batch(run.info.run_id, params=flat)
    return str(run.info.run_id)


def _columns(note: Note) -> dict[str, str]:
    """Fill the columns that MLflow shows of each run: who started what, at which commit."""
    columns = {MLFLOW_SOURCE_NAME: f"tasks/train.py {note.model}", MLFLOW_SOURCE_TYPE: "LOCAL"}
    if REVISION_TAG in note.tags:
        columns[MLFLOW_GIT_COMMIT] = note.tags[REVISION_TAG]
    with suppress(OSError, KeyError, ImportError):  # in a container whose user has no name
        columns[MLFLOW_USER] = getpass.getuser()
    return columns


def _exists(run_id: str) -> bool:
    try:
        return bool(client().get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # such as no answer at all
            raise
        return False


def _flat(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def logged_epochs(run_id: str) -> set[int]:
    """List the epochs whose figures a run has."""
    return {metric.step for metric in client().get_metric_history(run_id, "train/loss")}


def log_epochs(run_id: str, rows: Mapping[int, Mapping[str, Any]]) -> None:
    """Log the figures of epochs, named as in the curves of `training.json`, unless the run has them already."""
    known, now = logged_epochs(run_id), int(time.time() * 1000)
    metrics = [
        Metric(name.replace("_", "/", 1), row[name], now, epoch)
        for epoch, row in rows.items()
        for name in CURVES
        if epoch not in known and row.get(name) is not None
    ]
    for start in range(0, len(metrics), 1000):  # as many as MLflow takes at once
        client().log_batch(run_id, metrics=metrics[start : start + 1000])


def end_training(model: str, note: Note) -> None:
    """Log what a training made; what the store cannot be told now, the next `run_of` tells it."""
    note.write(_note_path(file_digest(TRAINED / model / "model.ckpt")))
    with forgiving(f"the end of the training of {model}"):
        run_of(model)


def _note_path(digest: str) -> Path:
    return checkout() / WORK / "runs" / f"{digest}.json"


def run_of(model: str) -> str:
    """Find the run that made the trained model, with all that is known of it.

    A training that the store was not told of in full is told now, and its files are logged where they lack: another
    machine may have put them where only it can read them. A model that came out of DVC's cache has no run in this
    store, and is logged anew.
    """
    digest = file_digest(TRAINED / model / "model.ckpt")
    path = _note_path(digest)
    run_id = None if path.exists() else _find(digest)
    if run_id is None:
        note = Note(**read_json(path)) if path.exists() else _note_anew(model)
        run_id = _complete(note, digest)
        path.unlink(missing_ok=True)
    _log_lacking(run_id, [path for name in ARTIFACTS if (path := TRAINED / model / name).exists()])
    _complete_evaluation(model, run_id)
    return run_id


def _find(digest: str) -> str | None:
    found = client().search_runs(all_experiments(), f"tags.`{CHECKPOINT_TAG}` = '{digest}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _note_anew(model: str) -> Note:
    """Gather what is known of a model without its run: its inputs from its training, code and data from here."""
    logger.info("the store has no run of this %s; logging it anew", model)
    training = read_json(TRAINED / model / "training.json")
    tags = lineage(training["params"], training["lineage"]).tags()
    unknown = {f"{PREFIX}{name}" for name in OF_TRAINING_ALONE}
    known = {tag: value for tag, value in tags.items() if tag not in unknown}
    return Note(model, {**known, "waymark.logged_anew": "true"})


def _complete(note: Note, digest: str) -> str:
    """Tell the store all that it lacks of a training; the digest comes last, as it says that nothing lacks."""
    training = read_json(TRAINED / note.model / "training.json")
    run_id = begin_run(note, training["params"])
    log_epochs(run_id, {row["epoch"]: row for row in training["curves"]})
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


def _log_lacking(run_id: str, paths: list[Path], place: str | None = None) -> None:
    """Log the files that a run lacks at some place."""
    store = client()
    there = {Path(its.path).name for its in store.list_artifacts(run_id, place)}
    for path in paths:
        if path.name not in there:
            store.log_artifact(run_id, str(path), place)


def _complete_evaluation(model: str, run_id: str) -> None:
    """Log the figures of val and test, and what `evaluate` wrote, unless the run has just these."""
    folder = REPORTS / model
    drawn = DETAILS / model / "map.html"  # by compare, later
    paths = [*(folder / name for name in EVALUATION), *([drawn] if drawn.exists() else [])]
    if not all(path.exists() for path in paths):
        return
    digest, store = " ".join(file_digest(path)[:16] for path in paths), client()
    _log_speed(model, run_id)
    if store.get_run(run_id).data.tags.get(EVALUATION_TAG) == digest:
        return _log_lacking(run_id, paths, "evaluation")
    for split, figures in read_json(folder / "metrics.json").items():
        for name, value in figures.items():
            if value is not None:
                store.log_metric(run_id, f"{split}.{name}", value)
    for path in paths:
        store.log_artifact(run_id, str(path), "evaluation")
    store.set_tag(run_id, EVALUATION_TAG, digest)


def _log_speed(model: str, run_id: str) -> None:
    """Log how many pictures the model answered for in a second, where it was evaluated here."""
    path = SPEED / f"{model}.json"
    if not path.exists() or "images_per_second" in client().get_run(run_id).data.metrics:
        return
    speed = read_json(path)
    if speed["checkpoint"] == file_digest(TRAINED / model / "model.ckpt"):
        client().log_metric(run_id, "images_per_second", speed["images_per_second"])


def log_report(run_id: str, path: Path) -> None:
    """Log the report with a run, unless the run has just this one."""
    digest, store = file_digest(path), client()
    if store.get_run(run_id).data.tags.get(REPORT_TAG) != digest:
        store.log_artifact(run_id, str(path), "report")
        store.set_tag(run_id, REPORT_TAG, digest)


def lineage_of(version: ModelVersion) -> dict[str, str]:
    """Give all that is known of where a version comes from: by its run's file, and by its tags, which older ones have.

    Tags that were set since count more.
    """
    store, known = client(), {}
    if LINEAGE in {its.path for its in store.list_artifacts(version.run_id)}:
        with TemporaryDirectory(prefix="waymark-") as folder:
            known = read_json(Path(store.download_artifacts(version.run_id, LINEAGE, folder)))
    return {**known, **version.tags}
