"""Answer for every val and test record, and sum the answers up."""

import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

import geopandas
import numpy as np
import pandas as pd
from pydantic.dataclasses import dataclass

from tasks.common.geography import Region
from tasks.common.outputs import read_json, whole_folder, write_json
from tasks.common.stage import STRICT, Stage
from tasks.registry import tracking
from tasks.reporting.attention import drawn_attention, view_maps, write_attention
from tasks.reporting.gallery import gallery_of, inside
from tasks.reporting.landmark_gallery import confusions, landmark_gallery
from tasks.training.examples import read_target
from tasks.training.landmark_classes import NAMES
from tasks.training.predictions import (
    HELD_OUT,
    Answered,
    answer,
    batches_of,
    predictions_of,
    write_candidates,
    write_predictions,
)
from tasks.training.tables import open_shards, places_of, read_table
from waymark.geo.regions import extent_region, load_region
from waymark.images.shards import Shards
from waymark.inference.predictor import Predictor, load_predictor
from waymark.metrics.breakdown import errors_by, named_regions, region_of, with_shapes
from waymark.metrics.figures import Figures, landmark_figures, place_figures
from waymark.metrics.intervals import CONFIDENCE, METHOD, RESAMPLES, SEED, landmark_intervals, place_intervals
from waymark.metrics.landmarks import LANDMARK_COLUMNS, landmark_table
from waymark.metrics.queries import Relevant
from waymark.metrics.risk import answer_curve
from waymark.models.size import size_of
from waymark.options.kinds import Batch, FewOrNone, PathText
from waymark.report.maps import error_map
from waymark.report.page import map_page
from waymark.report.tables import in_words
from waymark.report.theme import note_figure

logger = logging.getLogger(__name__)

TRAINED = Path("trained")
REPORTS = Path("reports/models")
CHOOSING = ("val_mean_km", "val_gap")  # columns of the curves that each model has, be they empty


@dataclass(frozen=True, config=STRICT)
class Evaluate:
    """Section `evaluate` of params.yaml, and `region`.

    Args:
        region: whose outline the map shows.
        regions: vector file with a column name by whose polygons errors are summed up, null for countries.
        gallery: how many of the best and of the worst guesses the report shows.
        batch_size: records that go through the network at once.
        relevant: which records count in figures of landmarks: all that show one, or those that show one known to
            training.
    """

    region: Region | None
    regions: PathText | None = None
    gallery: FewOrNone = 6
    batch_size: Batch = 64
    relevant: Relevant = "all"


STAGE = Stage(
    "evaluate",
    Evaluate,
    shared=("region",),
    each="models",
    check=lambda settings: None if settings.regions is None else _check_regions(settings.regions),
)


class Evaluation(NamedTuple):
    """What was measured of a model."""

    metrics: dict[str, Figures]  # by split
    images_per_second: float  # that it answered for here, from the shards on


def evaluate(model: str, settings: Evaluate) -> None:
    """Answer for every val and test record, and sum the answers up."""
    predictor = load_predictor(TRAINED / model / "model.ckpt", TRAINED / f"{model}-calibration")
    with whole_folder(REPORTS / model) as folder:
        found = write_evaluation(model, predictor, settings, folder)
    with tracking.forgiving(f"the evaluation of {model}"):
        run_id = tracking.run_of(model)
        tracking.client().log_metric(run_id, "images_per_second", found.images_per_second)
    for split, figures in found.metrics.items():
        logger.info("%s %s: %s", model, split, in_words(figures))


def write_evaluation(model: str, predictor: Predictor, settings: Evaluate, folder: Path) -> Evaluation:
    """Write all that is measured of a model, and give its figures by split."""
    table, shards = read_table(), open_shards()
    start = time.perf_counter()
    answered = answer(predictor, table, shards, settings.batch_size)
    seconds = time.perf_counter() - start
    predictions = predictions_of(predictor, table, answered)
    metrics = {split: _figures(rows, predictor, settings.relevant) for split, rows in _by_split(predictions).items()}
    write_predictions(predictions, folder / "predictions.parquet")
    write_candidates(answered, folder / "candidates.parquet")
    write_attention(view_maps(answered, predictor.locator.config.slots, shards), folder / "attention.parquet")
    write_json(metrics, folder / "metrics.json")
    write_json(size_of(predictor.locator, TRAINED / model / "model.ckpt"), folder / "size.json")
    write_json(_intervals(predictions, table, predictor, settings.relevant), folder / "intervals.json")
    _write_errors(predictions, predictor, settings.regions, folder)
    _write_landmarks(predictions, predictor, settings.relevant, table, shards, folder)
    write_json(_gallery(predictions, answered, predictor, table, shards, settings.gallery), folder / "gallery.json")
    _write_plots(model, predictions, settings.relevant, folder / "plots")
    (folder / "map.html").write_text(_map(model, predictions, predictor, settings.region))
    return Evaluation(metrics, _pictures(answered.records, shards) / seconds)


def _by_split(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {split: predictions[predictions["split"] == split] for split in HELD_OUT}


def _pictures(records: pd.DataFrame, shards: Shards) -> int:
    """Count the pictures of records."""
    views = zip(records["record_id"], records["views"].map(len), strict=True)
    return sum((record_id, view) in shards for record_id, count in views for view in range(count))


def _figures(predictions: pd.DataFrame, predictor: Predictor, relevant: Relevant) -> Figures:
    """Sum up what the heads of a model answered for one split."""
    places = {} if predictor.locator.place_head is None else place_figures(predictions)
    landmarks = {} if predictor.locator.landmark_head is None else landmark_figures(predictions, relevant)
    return {**places, **landmarks}


def _check_regions(path: str) -> None:
    named_regions(path)


def _intervals(
    predictions: pd.DataFrame, table: pd.DataFrame, predictor: Predictor, relevant: Relevant
) -> dict[str, Any]:
    """Say how far the figures would move with other records; groups are drawn whole."""
    groups = table.set_index("record_id")["group"]
    found: dict[str, Any] = {"confidence": CONFIDENCE, "method": METHOD, "resamples": RESAMPLES, "seed": SEED}
    for split, rows in _by_split(predictions).items():
        found[split] = {} if predictor.locator.place_head is None else place_intervals(rows, groups).document()
        if predictor.locator.landmark_head is not None:
            landmarks = landmark_intervals(rows, groups, relevant).document()
            found[split] |= {"landmark_unit": landmarks.pop("unit"), "landmark_units": landmarks.pop("units")}
            found[split] |= landmarks
    return found


def _write_errors(predictions: pd.DataFrame, predictor: Predictor, regions: str | None, folder: Path) -> None:
    """Write the errors by cell, with and without the cells' shapes, and by region."""
    target = read_target(Path(predictor.locator.config.target))
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


def _write_landmarks(
    predictions: pd.DataFrame,
    predictor: Predictor,
    relevant: Relevant,
    table: pd.DataFrame,
    shards: Shards,
    folder: Path,
) -> None:
    """Write how each landmark of test was recognised, and what is taken for what; nothing for models without any."""
    each, pairs = pd.DataFrame(columns=list(LANDMARK_COLUMNS)), []
    if predictor.locator.landmark_head is not None:
        landmarks = pd.read_parquet(NAMES)
        each = landmark_table(predictions[predictions["split"] == "test"], landmarks, relevant)
        pairs = confusions(predictions, landmarks, relevant, table, shards)
    each.to_csv(folder / "landmarks.csv", index=False)
    write_json(pairs, folder / "confusions.json")


def _gallery(
    predictions: pd.DataFrame, answered: Answered, predictor: Predictor, table: pd.DataFrame, shards: Shards, count: int
) -> dict[str, Any]:
    """Choose guesses to look at, and look inside the network with the best of them."""
    gallery: dict[str, Any] = gallery_of(predictions, table, shards, count)
    landmarks = landmark_gallery(predictions, table, shards, predictor.names, count)
    best = [its["record_id"] for its in (*gallery["best"], *landmarks["best"]) if its["pictures"]]
    seen = next(iter(best), None)
    batch = None if seen is None else next(iter(batches_of(predictor, table[table["record_id"] == seen], shards, 1)))
    shown = [its["record_id"] for its in (*landmarks["best"], *landmarks["worst"])]
    maps = view_maps(answered, predictor.locator.config.slots, shards)
    return {
        **gallery,
        **inside(predictor.locator, seen, batch),
        "landmarks": landmarks,
        "attention": drawn_attention(maps, shown, shards),
    }


def _write_plots(model: str, predictions: pd.DataFrame, relevant: Relevant, folder: Path) -> None:
    folder.mkdir()
    curves = pd.DataFrame(read_json(TRAINED / model / "training.json")["curves"])
    missing = [name for name in CHOOSING if name not in curves]
    curves.reindex(columns=[*curves, *missing]).to_csv(folder / "curves.csv", index=False)
    test = predictions[predictions["split"] == "test"]
    distance_km = test["distance_km"].dropna().sort_values()
    share = np.arange(1, len(distance_km) + 1) / max(1, len(distance_km))
    pd.DataFrame({"distance_km": distance_km, "share_within": share}).to_csv(folder / "errors.csv", index=False)
    answer_curve(test, relevant).to_csv(folder / "answers.csv", index=False)


def _map(model: str, predictions: pd.DataFrame, predictor: Predictor, region: str | None) -> str:
    title = f"{model}: where its guesses lie"
    if predictor.locator.place_head is None:
        return map_page(note_figure(f"{model} names landmarks and no places."), title=title)
    places = places_of(predictions.dropna(subset=["latitude", "longitude"]))
    outline = extent_region(places) if region is None else load_region(region)
    return map_page(error_map(predictions, outline, title=title), title=title)


if __name__ == "__main__":
    STAGE.main(evaluate)
