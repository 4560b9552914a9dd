"""Answer for every val and test record, and sum the answers up."""

import base64
import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks import tracking
from tasks.examples import Target, headings, make_examples, open_shards, places_of, read_table, read_target
from tasks.outputs import read_json, whole_folder, write_json
from tasks.stage import STRICT, Stage
from waymark.geo import extent_region, load_region
from waymark.images.datamodule import RecordLoaders
from waymark.images.decode import jpeg_bytes
from waymark.images.shards import Shards
from waymark.metrics.figures import geometric_median, place_figures
from waymark.metrics.functional import haversine_km
from waymark.models.guesser import Guesser, load_guesser
from waymark.models.heads import CellsHead
from waymark.records import write_table
from waymark.report.maps import error_map
from waymark.report.page import map_page

logger = logging.getLogger(__name__)

TRAINED = Path("trained")
REPORTS = Path("reports/models")
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
    ]
)


@dataclass(frozen=True, config=STRICT)
class Evaluate:
    """Section `evaluate` of params.yaml, and `region`.

    Args:
        region: whose outline the map shows.
        gallery: how many of the best and of the worst guesses the report shows.
        batch_size: records that go through the network at once.
    """

    region: str | None
    gallery: Annotated[int, Field(ge=0)] = 6
    batch_size: Annotated[int, Field(gt=0)] = 64


STAGE = Stage("evaluate", Evaluate, shared=("region",), for_model=True)


def evaluate(model: str, settings: Evaluate) -> None:
    """Answer for every val and test record, and sum the answers up."""
    guesser = load_guesser(TRAINED / model / "model.ckpt", TRAINED / f"{model}-calibration")
    table, shards = read_table(), open_shards()
    predictions = _predict(guesser, table, shards, settings.batch_size)
    metrics = {split: place_figures(predictions[predictions["split"] == split]) for split in ("val", "test")}
    with whole_folder(REPORTS / model) as folder:
        written = pa.Table.from_pandas(predictions, PREDICTIONS_SCHEMA, preserve_index=False)
        write_table(written.replace_schema_metadata(None), folder / "predictions.parquet")
        write_json(metrics, folder / "metrics.json")
        write_json(_gallery(predictions, table, shards, settings.gallery), folder / "gallery.json")
        _write_plots(model, predictions, folder / "plots")
        (folder / "map.html").write_text(_map(model, predictions, settings.region))
    tracking.log_evaluation(tracking.run_of(model), metrics, REPORTS / model)
    for split, figures in metrics.items():
        logger.info("%s %s: mean %s km over %s records", model, split, figures["mean_km"], figures["records"])


def _predict(guesser: Guesser, table: pd.DataFrame, shards: Shards, batch_size: int) -> pd.DataFrame:
    held_out = table[table["split"].isin(["val", "test"])].reset_index(drop=True)
    nothing = np.full((len(held_out), 2), np.nan), np.full(len(held_out), -1, dtype=np.int64)
    loaders = RecordLoaders(shards, guesser.locator.blueprint.slots, batch_size)
    guesses = guesser.guess(loaders.evaluation(make_examples(held_out, *nothing)))
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
    return predictions


def _distance_km(predictions: pd.DataFrame, lat_lon: np.ndarray) -> np.ndarray:
    truth = places_of(predictions)
    return haversine_km(torch.tensor(np.array(lat_lon)), torch.from_numpy(truth)).numpy()


def _add_cells(predictions: pd.DataFrame, guesser: Guesser, predicted: np.ndarray, target: Target) -> None:
    """Add the true cell (null where it is no class of the model), the predicted one, and the oracle."""
    predictions["cell"] = predictions["predicted_cell"] = pd.array([pd.NA] * len(predictions), dtype="Int64")
    predictions["oracle_km"] = np.nan
    if target.cells is None or not isinstance(guesser.locator.head, CellsHead):
        return
    cell = target.places["cell"].reindex(predictions["record_id"]).astype("Int64").reset_index(drop=True)
    predictions["cell"] = cell.where(cell.isin(guesser.locator.head.cell_ids.tolist()))
    predictions["predicted_cell"] = predicted
    centres = target.cells.set_index("cell")[["latitude", "longitude"]].reindex(cell.astype(float))
    predictions["oracle_km"] = _distance_km(predictions, centres.to_numpy(dtype=np.float64))


def _gallery(predictions: pd.DataFrame, table: pd.DataFrame, shards: Shards, count: int) -> dict[str, list[Any]]:
    """Choose the best and the worst test guesses, with the pictures that the model saw."""
    ranked = predictions[(predictions["split"] == "test") & predictions["distance_km"].notna()]
    ranked = ranked.sort_values(["distance_km", "record_id"])
    views = table.set_index("record_id")["views"]
    columns = ["record_id", "distance_km", "latitude", "longitude", "predicted_latitude", "predicted_longitude"]
    chosen = {"best": ranked.head(count), "worst": ranked.iloc[::-1].head(count)}
    return {
        kind: [
            {
                **{name: row[name] for name in columns},
                "radius_90_km": None if np.isnan(row["radius_90_km"]) else row["radius_90_km"],
                "pictures": _pictures(row["record_id"], headings(views[row["record_id"]]), shards),
            }
            for row in rows.to_dict("records")
        ]
        for kind, rows in chosen.items()
    }


def _pictures(record_id: str, its_headings: list[float | None], shards: Shards) -> list[dict[str, Any]]:
    return [
        {"heading_deg": heading, "jpeg": base64.b64encode(jpeg_bytes(shards[record_id, view])).decode()}
        for view, heading in enumerate(its_headings)
        if (record_id, view) in shards
    ]


def _write_plots(model: str, predictions: pd.DataFrame, folder: Path) -> None:
    folder.mkdir()
    pd.DataFrame(read_json(TRAINED / model / "training.json")["curves"]).to_csv(folder / "curves.csv", index=False)
    test = predictions.loc[predictions["split"] == "test", "distance_km"].dropna().sort_values()
    share = np.arange(1, len(test) + 1) / max(1, len(test))
    pd.DataFrame({"distance_km": test, "share_within": share}).to_csv(folder / "errors.csv", index=False)


def _map(model: str, predictions: pd.DataFrame, region: str | None) -> str:
    places = places_of(predictions.dropna(subset=["latitude", "longitude"]))
    outline = extent_region(places) if region is None else load_region(region)
    title = f"{model}: where its guesses lie"
    return map_page(error_map(predictions, outline, title=title), title=title)


if __name__ == "__main__":
    STAGE.main(evaluate)
