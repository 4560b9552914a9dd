"""A model's answers for every val and test record: predictions.parquet and candidates.parquet."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch.utils.data import DataLoader

from tasks.training.evaluation import HELD_OUT
from tasks.training.examples import Target, make_examples, read_target
from tasks.training.tables import places_of
from waymark.data.records import write_table
from waymark.geo.sphere import nearest_km
from waymark.images.batches import Batch, RecordLoaders
from waymark.images.embeddings import Embeddings
from waymark.images.shards import Shards
from waymark.inference.predictor import Guesses, Predictor
from waymark.metrics.figures import geometric_median
from waymark.metrics.functional import haversine_km
from waymark.models.areas import SHARES
from waymark.models.heads import CellHead
from waymark.models.locator import Locator

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
        ("best_landmark", pa.string()),
        ("confidence", pa.float64()),
        *((name, pa.float64()) for name in ("area_50_km2", "area_90_km2")),
        *((name, pa.bool_()) for name in ("in_area_50", "in_area_90")),
    ]
)
CANDIDATES_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("record_id", "split")),
        pa.field("place", pa.int64(), nullable=False),
        pa.field("landmark", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)


class Answered(NamedTuple):
    """The val and test records, in the order of the table, and what a model says of them."""

    records: pd.DataFrame
    guesses: Guesses


def answer(predictor: Predictor, table: pd.DataFrame, views: Shards | Embeddings, batch_size: int) -> Answered:
    """Answer for every val and test record of a table, so many at once."""
    held_out = table[table["split"].isin(HELD_OUT)].reset_index(drop=True)
    batches = batches_of(predictor.locator, held_out, views, batch_size)
    target = read_target(Path(predictor.locator.config.target))
    cells = None
    if target.cells is not None:
        cells = target.places["cell"].reindex(held_out["record_id"]).fillna(-1).to_numpy(dtype=np.int64)
    return Answered(held_out, predictor.predict(batches, held_out["landmarks"].tolist(), true_cells=cells))


def predict(predictor: Predictor, table: pd.DataFrame, views: Shards | Embeddings, batch_size: int) -> pd.DataFrame:
    """Answer for every val and test record, and give the rows of predictions.parquet."""
    return predictions_of(predictor, table, answer(predictor, table, views, batch_size))


def predictions_of(predictor: Predictor, table: pd.DataFrame, answered: Answered) -> pd.DataFrame:
    """Compare answers with the truth.

    Args:
        predictor: the model.
        table: records of all splits; those of train give the constant baseline and the nearest training place.
        answered: by the model.

    Returns:
        Rows of predictions.parquet; what the model has no head for is NaN or null.
    """
    held_out, guesses = answered
    predictions = held_out[["record_id", "split", "latitude", "longitude", "landmarks"]].copy()
    predictions[["predicted_latitude", "predicted_longitude"]] = guesses.lat_lon
    predictions["distance_km"] = _distance_km(predictions, guesses.lat_lon)
    predictions["radius_50_km"], predictions["radius_90_km"] = guesses.radius_50_km, guesses.radius_90_km
    predictions["constant_km"] = predictions["nearest_train_km"] = np.nan
    if predictor.locator.place_head is not None:
        train = table[(table["split"] == "train") & table["latitude"].notna()]
        constant = geometric_median(places_of(train))
        predictions["constant_km"] = _distance_km(predictions, np.broadcast_to(constant, guesses.lat_lon.shape))
        predictions["nearest_train_km"] = nearest_km(places_of(predictions), places_of(train))
    _add_cells(predictions, predictor, guesses.cell, read_target(Path(predictor.locator.config.target)))
    predictions["predicted_landmark"], predictions["score"] = guesses.landmark, guesses.landmark_score
    predictions["rank"] = pd.Series(guesses.rank, dtype="Int64").where(guesses.rank > 0)
    predictions["probability"], predictions["best_landmark"] = guesses.probability, guesses.best_landmark
    predictions["confidence"] = guesses.landmark_confidence
    placed = predictions["latitude"].notna()
    for share in SHARES:
        area, held = getattr(guesses, f"area_{share}_km2"), getattr(guesses, f"in_area_{share}")
        predictions[f"area_{share}_km2"] = np.nan if area is None else area
        predictions[f"in_area_{share}"] = pd.Series(held, dtype="boolean").where(placed) if held is not None else pd.NA
    return predictions


def batches_of(
    locator: Locator, table: pd.DataFrame, views: Shards | Embeddings, batch_size: int
) -> "DataLoader[Batch]":
    """Load the pictures of records as the network sees them, or their embeddings."""
    config = locator.config
    nothing = np.full((len(table), 2), np.nan), np.full(len(table), -1, dtype=np.int64)
    loaders = RecordLoaders(views, config.slots, batch_size, size_px=config.size_px, interpolation=config.interpolation)
    return loaders.evaluation(make_examples(table, *nothing))


def write_predictions(predictions: pd.DataFrame, path: Path) -> None:
    """Write predictions.parquet; NaN becomes null."""
    columns = predictions.reindex(columns=PREDICTIONS_SCHEMA.names)  # an ensemble has no areas
    written = pa.Table.from_pandas(columns, PREDICTIONS_SCHEMA, preserve_index=False)
    write_table(written.replace_schema_metadata(None), path)


def write_candidates(answered: Answered, path: Path) -> None:
    """Write the best candidates of each record, at most five; none for a model without landmarks."""
    record, place = np.nonzero(answered.guesses.candidates != np.array(None))
    rows = answered.records.iloc[record]
    columns = {
        "record_id": rows["record_id"].to_numpy(),
        "split": rows["split"].to_numpy(),
        "place": place + 1,
        "landmark": answered.guesses.candidates[record, place],
        "score": answered.guesses.candidate_scores[record, place],
    }
    write_table(pa.table(columns, CANDIDATES_SCHEMA), path)


def _distance_km(predictions: pd.DataFrame, lat_lon: np.ndarray) -> np.ndarray:
    truth = places_of(predictions)
    return haversine_km(torch.tensor(np.array(lat_lon)), torch.from_numpy(truth)).numpy()


def _add_cells(predictions: pd.DataFrame, predictor: Predictor, predicted: np.ndarray, target: Target) -> None:
    """Add the true cell (null where it is no class of the model), the predicted one, and the oracle."""
    predictions["cell"] = predictions["predicted_cell"] = pd.array([pd.NA] * len(predictions), dtype="Int64")
    predictions["oracle_km"] = np.nan
    if target.cells is None or not isinstance(predictor.locator.place_head, CellHead):
        return
    cell = target.places["cell"].reindex(predictions["record_id"]).astype("Int64").reset_index(drop=True)
    predictions["cell"] = cell.where(cell.isin(predictor.locator.place_head.cell_ids.tolist()))
    predictions["predicted_cell"] = predicted
    centres = target.cells.set_index("cell")[["latitude", "longitude"]].reindex(cell.astype(float))
    predictions["oracle_km"] = _distance_km(predictions, centres.to_numpy(dtype=np.float64))
