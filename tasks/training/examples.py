"""What a model learns from: its target, and the records of train and val as examples."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.training.landmark_classes import LandmarkClasses, landmark_labels, learn_classes
from tasks.training.tables import headings, places_of, with_places
from waymark.errors import ModelError
from waymark.geo.crs import project
from waymark.images.batches import Examples
from waymark.models.heads import NO_LANDMARK, HeadParts, TrainingPlaces


@dataclass(frozen=True)
class Target:
    """The table that a model learns from.

    Args:
        crs: in which the model answers.
        places: x_m, y_m (NaN without the grid's or projection's row) and cell by record_id.
        cells: the grid, for models that use it.
    """

    crs: str
    places: pd.DataFrame
    cells: geopandas.GeoDataFrame | None


def read_target(folder: Path) -> Target:
    """Read the table that a model learns from; one of landmarks has no places, and no CRS of its own."""
    if folder.suffix:
        return Target("EPSG:4326", pd.DataFrame(index=pd.Index([], name="record_id")), None)
    places = pd.read_parquet(folder / "places.parquet").set_index("record_id")
    if (folder / "cells.parquet").exists():
        cells = geopandas.read_parquet(folder / "cells.parquet")
        return Target(cells.crs.to_string(), places, cells)
    crs = pq.read_schema(folder / "places.parquet").metadata[b"crs"].decode()
    return Target(crs, places, None)


def make_examples(
    table: pd.DataFrame,
    xy_m: NDArray[np.float64],
    label: NDArray[np.int64],
    landmark: NDArray[np.int64] | None = None,
) -> Examples:
    """Turn rows of `read_table` into examples.

    Args:
        table: records.
        xy_m: `(N, 2)` metres, NaN where unknown.
        label: `(N,)` class of the cell, -1 where unknown.
        landmark: `(N,)` class of the landmark, -1 where unknown; None where no head asks.
    """
    return Examples(
        record_ids=table["record_id"].tolist(),
        headings=[headings(views) for views in table["views"]],
        lat_lon=places_of(table),
        xy_m=xy_m,
        label=label,
        landmark=np.full(len(table), -1, dtype=np.int64) if landmark is None else landmark,
    )


class Material(NamedTuple):
    """What a model learns from, and what it learns to tell apart."""

    train: Examples
    val: Examples
    cell: NDArray[np.int64]  # (N,) number of each training record's cell in the grid, -1 without
    cells: int  # that are classes
    classes: LandmarkClasses | None

    def places(self, target: Target, region: geopandas.GeoDataFrame) -> TrainingPlaces:
        """Gather what a head for places may learn before any gradient."""
        placed = ~np.isnan(self.train.lat_lon).any(axis=1)
        grid = None if target.cells is None else target.cells.sort_values("cell")
        return TrainingPlaces(self.train.lat_lon[placed], self.train.xy_m[placed], region, self.cell[placed], grid)


def choose_material(model: str, parts: HeadParts, table: pd.DataFrame, target: Target) -> Material:
    """Choose the records of train and val for the heads of a model; its classes are learnt on train alone.

    Args:
        model: name of the entry, for errors.
        parts: its heads.
        table: records with their split.
        target: table that the model learns from.

    Raises:
        ModelError: the records hold nothing that a head could learn.
    """
    classes = None if parts.landmark is None else learn_classes(table, model, parts.landmark.least_images)
    tables = {split: _rows(table, split, model, parts, classes) for split in ("train", "val")}
    cells = {split: _cells(rows, target) for split, rows in tables.items()}
    kept = np.empty(0, dtype=np.int64)
    if parts.place is not None and parts.place.has_cells:
        kept = _kept_cells(cells["train"], model)
    train, val = (_examples(tables[split], cells[split], kept, target, classes) for split in ("train", "val"))
    count = len(kept)
    if parts.place is not None and parts.place.by_records:
        count = int(tables["train"]["latitude"].notna().sum())
    return Material(train, val, cells["train"], count, classes)


def _rows(
    table: pd.DataFrame, split: str, model: str, parts: HeadParts, classes: LandmarkClasses | None
) -> pd.DataFrame:
    """Choose the records that train some head, or of val all that a landmark model is asked about."""
    placed = None if parts.place is None else with_places(table, split, model)
    if parts.landmark is None or classes is None:
        return placed if placed is not None else table
    rows = table[table["split"] == split]
    label = landmark_labels(rows, classes.landmarks)
    wanted = (label >= 0) | (split == "val")
    if parts.landmark.background > 0:
        wanted |= label == NO_LANDMARK
    if placed is not None:
        wanted |= rows["record_id"].isin(placed["record_id"]).to_numpy()
    return rows[wanted]


def _cells(table: pd.DataFrame, target: Target) -> NDArray[np.int64]:
    """Look up the `(N,)` number of each record's cell in the grid, -1 without a grid or coordinates."""
    if target.cells is None:
        return np.full(len(table), -1, dtype=np.int64)
    return target.places["cell"].reindex(table["record_id"]).fillna(-1).to_numpy(dtype=np.int64)


def _kept_cells(cell: NDArray[np.int64], model: str) -> NDArray[np.int64]:
    """List the cells with a training record: no other can be a class."""
    kept = np.unique(cell[cell >= 0])
    if len(kept) < 2:
        raise ModelError(
            f"all training records of {model} lie in one cell, which leaves nothing to learn;"
            " choose a smaller grid.spacing_m or add records from elsewhere"
        )
    return kept


def _examples(
    table: pd.DataFrame,
    cell: NDArray[np.int64],
    kept: NDArray[np.int64],
    target: Target,
    classes: LandmarkClasses | None,
) -> Examples:
    label = np.full(len(cell), -1, dtype=np.int64)
    if len(kept):
        found = np.searchsorted(kept, cell).clip(max=len(kept) - 1)
        label = np.where(kept[found] == cell, found, -1)
    lat_lon = places_of(table)
    known = ~np.isnan(lat_lon).any(axis=1)
    xy_m = np.full_like(lat_lon, np.nan)
    if len(target.places):  # a model of landmarks alone has no map
        xy_m[known] = project(lat_lon[known], target.crs)
    return make_examples(table, xy_m, label, None if classes is None else landmark_labels(table, classes.landmarks))
