"""Answer for every val and test record, and sum the answers up."""

import logging
from pathlib import Path
from typing import Annotated, Any

import geopandas
import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks import tracking
from tasks.examples import open_shards, places_of, read_table, read_target
from tasks.gallery import gallery_of, inside
from tasks.outputs import read_json, whole_folder, write_json
from tasks.predictions import HELD_OUT, batches_of, predict, write_predictions
from tasks.stage import STRICT, Stage
from waymark.geo import extent_region, load_region
from waymark.images.shards import Shards
from waymark.metrics.breakdown import errors_by, named_regions, region_of, with_shapes
from waymark.metrics.figures import Figures, place_figures
from waymark.metrics.intervals import CONFIDENCE, METHOD, RESAMPLES, SEED, place_intervals
from waymark.models.guesser import Guesser, load_guesser
from waymark.report.maps import error_map
from waymark.report.page import map_page

logger = logging.getLogger(__name__)

TRAINED = Path("trained")
REPORTS = Path("reports/models")


@dataclass(frozen=True, config=STRICT)
class Evaluate:
    """Section `evaluate` of params.yaml, and `region`.

    Args:
        region: whose outline the map shows.
        regions: vector file with a column name by whose polygons errors are summed up, null for countries.
        gallery: how many of the best and of the worst guesses the report shows.
        batch_size: records that go through the network at once.
    """

    region: str | None
    regions: str | None = None
    gallery: Annotated[int, Field(ge=0)] = 6
    batch_size: Annotated[int, Field(gt=0)] = 64


STAGE = Stage(
    "evaluate",
    Evaluate,
    shared=("region",),
    each="models",
    check=lambda settings: None if settings.regions is None else _check_regions(settings.regions),
)


def evaluate(model: str, settings: Evaluate) -> None:
    """Answer for every val and test record, and sum the answers up."""
    guesser = load_guesser(TRAINED / model / "model.ckpt", TRAINED / f"{model}-calibration")
    with whole_folder(REPORTS / model) as folder:
        metrics = write_evaluation(model, guesser, settings, folder)
    tracking.log_evaluation(tracking.run_of(model), metrics, REPORTS / model)
    for split, figures in metrics.items():
        logger.info("%s %s: mean %s km over %s records", model, split, figures["mean_km"], figures["records"])


def write_evaluation(model: str, guesser: Guesser, settings: Evaluate, folder: Path) -> dict[str, Figures]:
    """Write all that is measured of a model, and give its figures by split."""
    table, shards = read_table(), open_shards()
    predictions = predict(guesser, table, shards, settings.batch_size)
    metrics = {split: place_figures(predictions[predictions["split"] == split]) for split in HELD_OUT}
    write_predictions(predictions, folder / "predictions.parquet")
    write_json(metrics, folder / "metrics.json")
    write_json(_intervals(predictions, table), folder / "intervals.json")
    _write_errors(predictions, guesser, settings.regions, folder)
    write_json(_gallery(predictions, guesser, table, shards, settings.gallery), folder / "gallery.json")
    _write_plots(model, predictions, folder / "plots")
    (folder / "map.html").write_text(_map(model, predictions, settings.region))
    return metrics


def _check_regions(path: str) -> None:
    named_regions(path)


def _intervals(predictions: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """Say how far the figures would move with other records; groups are drawn whole."""
    groups = table.set_index("record_id")["group"]
    return {
        **{"confidence": CONFIDENCE, "method": METHOD, "resamples": RESAMPLES, "seed": SEED},
        **{split: place_intervals(predictions[predictions["split"] == split], groups).document() for split in HELD_OUT},
    }


def _write_errors(predictions: pd.DataFrame, guesser: Guesser, regions: str | None, folder: Path) -> None:
    """Write the errors by cell, with and without the cells' shapes, and by region."""
    target = read_target(Path(guesser.locator.blueprint.target))
    cell = pd.Series(pd.NA, index=predictions.index, dtype="Int64")
    cells = geopandas.GeoDataFrame({"cell": []}, geometry=[], crs=target.crs)
    if target.cells is not None:  # also those that are no class of the model
        cell = target.places["cell"].reindex(predictions["record_id"]).astype("Int64")
        cells = target.cells
    by_cell = errors_by(predictions, cell, "cell")
    by_cell.to_csv(folder / "errors_by_cell.csv", index=False)
    with_shapes(by_cell, cells).to_parquet(folder / "errors_by_cell.parquet")
    names = pd.Series(region_of(places_of(predictions), named_regions(regions)))
    errors_by(predictions, names, "region").to_csv(folder / "errors_by_region.csv", index=False)


def _gallery(
    predictions: pd.DataFrame, guesser: Guesser, table: pd.DataFrame, shards: Shards, count: int
) -> dict[str, Any]:
    """Choose guesses to look at, and look inside the network with the best of them."""
    gallery = gallery_of(predictions, table, shards, count)
    seen = next((guess["record_id"] for guess in gallery["best"] if guess["pictures"]), None)
    batch = None if seen is None else next(iter(batches_of(guesser, table[table["record_id"] == seen], shards, 1)))
    return {**gallery, **inside(guesser.locator, seen, batch)}


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
