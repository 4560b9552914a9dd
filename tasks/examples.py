"""What the stages of a model read: records, split, shards and the model's target."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.outputs import read_json
from waymark.errors import ModelError
from waymark.images.datamodule import Examples
from waymark.images.shards import Shards
from waymark.records import read_records

RECORDS = Path("data/filtered/records.parquet")
SPLIT = Path("data/split")
SHARDS = Path("data/shards")
INPUTS = (RECORDS, SPLIT / "records.parquet", SPLIT / "statistics.json", SHARDS / "index.parquet")


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
    """Read the table that a model learns from."""
    places = pd.read_parquet(folder / "places.parquet").set_index("record_id")
    if (folder / "cells.parquet").exists():
        cells = geopandas.read_parquet(folder / "cells.parquet")
        return Target(cells.crs.to_string(), places, cells)
    crs = pq.read_schema(folder / "places.parquet").metadata[b"crs"].decode()
    return Target(crs, places, None)


def read_table() -> pd.DataFrame:
    """Read the records that have a split and a picture, with their split, in the order of their ids."""
    records = read_records(RECORDS).to_pandas()
    split = pd.read_parquet(SPLIT / "records.parquet")[["record_id", "split"]]
    return records.drop(columns="split").merge(split[split["split"] != "unused"], on="record_id")


def read_statistics() -> dict[str, Any]:
    """Read what the training pixels are like, as the split wrote it."""
    statistics: dict[str, Any] = read_json(SPLIT / "statistics.json")
    return statistics


def headings(views: Any) -> list[float | None]:
    """Give the heading of each view, None where unknown."""
    return [
        None if view["heading_deg"] is None or np.isnan(view["heading_deg"]) else view["heading_deg"] for view in views
    ]


def make_examples(table: pd.DataFrame, xy_m: NDArray[np.float64], label: NDArray[np.int64]) -> Examples:
    """Turn rows of `read_table` into examples.

    Args:
        table: records.
        xy_m: `(N, 2)` metres, NaN where unknown.
        label: `(N,)` class, -1 where unknown.
    """
    return Examples(
        record_ids=table["record_id"].tolist(),
        headings=[headings(views) for views in table["views"]],
        lat_lon=places_of(table),
        xy_m=xy_m,
        label=label,
    )


def open_shards() -> Shards:
    """Map the pictures."""
    return Shards(SHARDS)


def places_of(table: pd.DataFrame) -> NDArray[np.float64]:
    """Give `(N, 2)` latitude, longitude in degrees, NaN where unknown; a copy that may be written to."""
    return np.array(table[["latitude", "longitude"]], dtype=np.float64)


def with_places(table: pd.DataFrame, split: str, model: str) -> pd.DataFrame:
    """Keep the records of a split that have coordinates.

    Raises:
        ModelError: there are none, so that a model for places has nothing to learn from.
    """
    found = table[(table["split"] == split) & table["latitude"].notna()]
    if found.empty:
        raise ModelError(
            f"{model} learns places, but no {split} record has coordinates; add coordinates to the source,"
            f" change split, or take {model} out of models"
        )
    return found
