"""What a model learns from: its target, and records as examples."""

from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.training.tables import headings, places_of
from waymark.images.batches import Examples


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
