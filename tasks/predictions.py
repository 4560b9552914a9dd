"""A model's answers for every val and test record: predictions.parquet."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch.utils.data import DataLoader

from tasks.examples import Target, make_examples, places_of, read_target
from waymark.images.datamodule import Batch, RecordLoaders
from waymark.images.shards import Shards
from waymark.leakage import HELD_OUT, nearest_km
from waymark.metrics.figures import geometric_median
from waymark.metrics.functional import haversine_km
from waymark.models.guesser import Guesser
from waymark.models.heads import CellHead
from waymark.records import write_table

__all__ = ["HELD_OUT", "PREDICTIONS_SCHEMA", "batches_of", "predict", "write_predictions"]

PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        *((name, pa.float64()) for name in ("latitude", "longitude", "predicted_latitude", "predicted_longitude")),
        ("distance_km", pa.float64()),
        ("cell", pa.int64()),
        ("predicted_cell", pa.int64()),
        *((name, pa.float64()) for name in ("oracle_km", "constant_km", "radius_50_km", "radius_90_km")),
        ("landmarks", pa.list_(pa.string())),
        ("predicted_landmark", pa.string()),
        ("score", pa.float64()),
        ("rank", pa.int64()),
        ("probability", pa.float64()),
        ("nearest_train_km", pa.float64()),
    ]
)


def predict(guesser: Guesser, table: pd.DataFrame, shards: Shards, batch_size: int) -> pd.DataFrame:
    """Answer for every val and test record.

    Args:
        guesser: the model.
        table: records of all splits; those of train give the constant baseline and the nearest training place.
        shards: pictures.
        batch_size: records that go through the network at once.

    Returns:
        Rows of predictions.parquet.
    """
    held_out = table[table["split"].isin(HELD_OUT)].reset_index(drop=True)
    guesses = guesser.guess(batches_of(guesser, held_out, shards, batch_size))
    predictions = held_out[["record_id", "split", "latitude", "longitude", "landmarks"]].copy()
    predictions[["predicted_latitude", "predicted_longitude"]] = guesses.lat_lon
    predictions["distance_km"] = _distance_km(predictions, guesses.lat_lon)
    predictions["radius_50_km"], predictions["radius_90_km"] = guesses.radius_50_km, guesses.radius_90_km
    train = table[(table["split"] == "train") & table["latitude"].notna()]
    constant = geometric_median(places_of(train))
    predictions["constant_km"] = _distance_km(predictions, np.broadcast_to(constant, guesses.lat_lon.shape))
    _add_cells(predictions, guesser, guesses.cell, read_target(Path(guesser.locator.blueprint.target)))
    for name in ("predicted_landmark", "score", "rank"):
        predictions[name] = None
    predictions["probability"] = guesses.probability
    predictions["nearest_train_km"] = nearest_km(places_of(predictions), places_of(train))
    return predictions


def batches_of(guesser: Guesser, table: pd.DataFrame, shards: Shards, batch_size: int) -> "DataLoader[Batch]":
    """Load the pictures of records as the network sees them."""
    blueprint = guesser.locator.blueprint
    nothing = np.full((len(table), 2), np.nan), np.full(len(table), -1, dtype=np.int64)
    loaders = RecordLoaders(shards, blueprint.slots, batch_size, size_px=blueprint.size_px)
    return loaders.evaluation(make_examples(table, *nothing))


def write_predictions(predictions: pd.DataFrame, path: Path) -> None:
    """Write predictions.parquet; NaN becomes null."""
    written = pa.Table.from_pandas(predictions, PREDICTIONS_SCHEMA, preserve_index=False)
    write_table(written.replace_schema_metadata(None), path)


def _distance_km(predictions: pd.DataFrame, lat_lon: np.ndarray) -> np.ndarray:
    truth = places_of(predictions)
    return haversine_km(torch.tensor(np.array(lat_lon)), torch.from_numpy(truth)).numpy()


def _add_cells(predictions: pd.DataFrame, guesser: Guesser, predicted: np.ndarray, target: Target) -> None:
    """Add the true cell (null where it is no class of the model), the predicted one, and the oracle."""
    predictions["cell"] = predictions["predicted_cell"] = pd.array([pd.NA] * len(predictions), dtype="Int64")
    predictions["oracle_km"] = np.nan
    if target.cells is None or not isinstance(guesser.locator.head, CellHead):
        return
    cell = target.places["cell"].reindex(predictions["record_id"]).astype("Int64").reset_index(drop=True)
    predictions["cell"] = cell.where(cell.isin(guesser.locator.head.cell_ids.tolist()))
    predictions["predicted_cell"] = predicted
    centres = target.cells.set_index("cell")[["latitude", "longitude"]].reindex(cell.astype(float))
    predictions["oracle_km"] = _distance_km(predictions, centres.to_numpy(dtype=np.float64))
