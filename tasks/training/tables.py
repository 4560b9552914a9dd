"""The files that the stages of a model read: records, split and shards."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.common.outputs import read_json
from waymark.data.records import read_records
from waymark.errors import ModelError
from waymark.images.embeddings import ABOUT, INDEX, Embeddings
from waymark.images.shards import Shards

RECORDS = Path("data/filtered/records.parquet")
SPLIT = Path("data/split")
SHARDS = Path("data/shards")
EMBEDDINGS = Path("data/embeddings")
INPUTS = (
    RECORDS,
    *(SPLIT / name for name in ("records.parquet", "landmarks.parquet", "statistics.json")),
    SHARDS / "index.parquet",
)


def tables_of(target: str) -> list[Path]:
    """List the files of a model's target, which is a folder of tables or a table."""
    path = Path(target)
    return [path] if path.suffix else sorted(path.glob("*.parquet"))


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
    """Return the heading of each view, None where unknown."""
    return [
        None if view["heading_deg"] is None or np.isnan(view["heading_deg"]) else view["heading_deg"] for view in views
    ]


def open_shards() -> Shards:
    """Map the pictures."""
    return Shards(SHARDS)


def open_views(embeddings: str | None) -> Shards | Embeddings:
    """Map what a model looks at: pictures, or the embeddings of a name.

    Raises:
        ModelError: there are no such embeddings.
    """
    if embeddings is None:
        return open_shards()
    folder = EMBEDDINGS / embeddings
    if not folder.is_dir():
        raise ModelError(f"{folder} is missing; run dvc repro embed@{embeddings}")
    return Embeddings(folder)


def about_embeddings(embeddings: str | None) -> list[Path]:
    """List the files that say which embeddings a model learns from."""
    return [] if embeddings is None else [EMBEDDINGS / embeddings / name for name in (ABOUT, INDEX)]


def places_of(table: pd.DataFrame) -> NDArray[np.float64]:
    """Compute `(N, 2)` latitude, longitude in degrees, NaN where unknown; a copy that may be written to."""
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
