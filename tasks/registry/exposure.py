"""What each model has seen, kept with its run: a later promotion must not test it on that."""

from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import pandas as pd
import pyarrow.parquet as pq
from mlflow.exceptions import MlflowException

from tasks.registry import tracking
from tasks.training.tables import SHARDS
from waymark.data.exposure import exposure_table
from waymark.data.records import write_table


def write_exposure(table: pd.DataFrame, folder: Path) -> None:
    """Write which records of a table a training sees, beside its checkpoint."""
    write_table(exposure_table(table, pq.read_table(SHARDS / "index.parquet")), folder / tracking.EXPOSURE)


def read_exposure(name: str, version_or_alias: str) -> pd.DataFrame | None:
    """Read what a registered model has seen.

    Args:
        name: of the registered model.
        version_or_alias: `3`, or `champion`.

    Returns:
        Rows of `waymark.data.exposure.EXPOSURE_SCHEMA`; None where there is no such version, or where its run kept no
        such table, as those did that are older than it.
    """
    store = tracking.client()
    try:
        if version_or_alias.isdigit():
            run_id = store.get_model_version(name, version_or_alias).run_id
        else:
            run_id = store.get_model_version_by_alias(name, version_or_alias).run_id
        if tracking.EXPOSURE not in {its.path for its in store.list_artifacts(run_id)}:
            return None
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the latter for an alias
            return None
        raise
    with TemporaryDirectory(prefix="waymark-") as folder:
        path = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=tracking.EXPOSURE, dst_path=folder, tracking_uri=tracking.tracking_uri()
        )
        return pq.read_table(path).to_pandas()
