"""Tables and a map of each model that complement the report: reports/details/M."""

from pathlib import Path
from typing import NamedTuple

import geopandas
import pandas as pd

from tasks.training.examples import read_target
from tasks.training.tables import places_of
from waymark.geo.regions import extent_region
from waymark.metrics.breakdown import errors_by, region_of, with_shapes
from waymark.report.maps import error_map
from waymark.report.page import map_page
from waymark.report.theme import note_figure


class Errors(NamedTuple):
    """What `waymark.metrics.breakdown.errors_by` found of one model."""

    by_cell: geopandas.GeoDataFrame  # with the shapes of the cells
    by_region: pd.DataFrame


def errors_of(predictions: pd.DataFrame, target: Path, regions: geopandas.GeoDataFrame) -> Errors:
    """Sum up errors by cell and by region.

    Args:
        predictions: rows of predictions.parquet.
        target: table that the model learns from; without cells the first part is empty.
        regions: what `waymark.metrics.breakdown.named_regions` returned.
    """
    learnt = read_target(target)
    cell = pd.Series(pd.NA, index=predictions.index, dtype="Int64")
    cells = geopandas.GeoDataFrame({"cell": []}, geometry=[], crs=learnt.crs)
    if learnt.cells is not None:  # also those that are no class of the model
        cell = learnt.places["cell"].reindex(predictions["record_id"]).astype("Int64")
        cells = learnt.cells
    names = pd.Series(region_of(places_of(predictions), regions))
    return Errors(with_shapes(errors_by(predictions, cell, "cell"), cells), errors_by(predictions, names, "region"))


def write_errors(errors: Errors, folder: Path) -> None:
    """Write the errors for people (CSV), and with the cells' shapes for a GIS (GeoParquet)."""
    errors.by_cell.drop(columns="geometry").to_csv(folder / "errors_by_cell.csv", index=False)
    errors.by_cell.to_parquet(folder / "errors_by_cell.parquet")
    errors.by_region.to_csv(folder / "errors_by_region.csv", index=False)


def write_map(
    model: str, predictions: pd.DataFrame, region: geopandas.GeoDataFrame | None, folder: Path, *, places: bool
) -> None:
    """Write map.html: where the guesses of a model lie.

    Args:
        model: its name.
        predictions: rows of predictions.parquet.
        region: outline; None takes the extent of the places.
        folder: to write to.
        places: whether the model answers places.
    """
    title = f"{model}: where its guesses lie"
    drawn = note_figure(f"{model} names landmarks and no places.")
    if places:
        known = places_of(predictions.dropna(subset=["latitude", "longitude"]))
        drawn = error_map(predictions, extent_region(known) if region is None else region, title=title)
    (folder / "map.html").write_text(map_page(drawn, title=title))
