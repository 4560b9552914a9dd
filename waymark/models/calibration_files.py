"""A calibration as files: what validation says of a model, and the records that it is asked with."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from waymark.errors import ModelError
from waymark.models.areas import Areas
from waymark.models.calibration import Radii, RetrievalIndex
from waymark.models.heads import CellHead
from waymark.models.locator import Locator
from waymark.models.recognition import Fusion
from waymark.system.untrusted import CLOSED, read_document, read_table, regular_file

NAMES = pa.schema([("landmark", pa.string()), ("name", pa.string())])


@dataclass(frozen=True)
class Calibration:
    """What validation says of a model; None for what its heads do not answer.

    Args:
        temperature: what the logits of cells are divided by.
        neighbours: records asked for the spread, for heads without probabilities.
        radii: from difficulties to radii.
        landmark: how landmarks are recognised, and refused.
        areas: which cells are the answer as an area, for heads over a grid.
    """

    __pydantic_config__: ClassVar[Any] = CLOSED

    temperature: Annotated[float, Field(gt=0)] | None
    neighbours: Annotated[int, Field(gt=0)] | None
    radii: Radii | None
    landmark: Fusion | None = None
    areas: Areas | None = None


class CalibrationFiles(NamedTuple):
    """What lies in the folder of a calibration."""

    calibration: Calibration
    retrieval: RetrievalIndex
    cells: gpd.GeoDataFrame | None  # `cell`, `area_km2` and `geometry`, where the model has any and they were kept
    names: dict[str, str]  # what people call landmarks, by their id


def index_schema(width: int) -> pa.Schema:
    """List the columns of `index.parquet`, whose embeddings have so many numbers."""
    return pa.schema(
        [
            ("record_id", pa.string()),
            ("latitude", pa.float64()),
            ("longitude", pa.float64()),
            ("landmark", pa.string()),
            ("embedding", pa.list_(pa.float32(), width)),
        ]
    )


def save_calibration(
    calibration: Calibration,
    index: RetrievalIndex,
    record_ids: list[str],
    folder: Path,
    cells: gpd.GeoDataFrame | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """Write `calibration.json` and `index.parquet`, `cells.parquet` and `landmarks.parquet` where there are any.

    Args:
        calibration: of the model.
        index: of its training records.
        record_ids: of those.
        folder: where to.
        cells: the grid; `cell`, `area_km2` and `geometry` are kept, to show where a model believes a record to be.
        names: what people call the landmarks of the index, by their id.
    """
    (folder / "calibration.json").write_text(json.dumps(asdict(calibration), indent=2) + "\n")
    schema = index_schema(index.embedding.shape[1])
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(index.embedding.ravel()), index.embedding.shape[1])
    table = pa.table(
        {
            "record_id": record_ids,
            "latitude": pa.array(index.lat_lon[:, 0], from_pandas=True),
            "longitude": pa.array(index.lat_lon[:, 1], from_pandas=True),
            "landmark": [None] * len(record_ids) if index.landmark is None else index.landmark,
            "embedding": embedding,
        },
        schema,
    )
    pq.write_table(table, folder / "index.parquet", compression="zstd")
    if cells is not None:
        cells[["cell", "area_km2", "geometry"]].reset_index(drop=True).to_parquet(
            folder / "cells.parquet", compression="zstd"
        )
    if names is not None:
        columns = {"landmark": list(names), "name": list(names.values())}
        pq.write_table(pa.table(columns, NAMES), folder / "landmarks.parquet", compression="zstd")


def read_calibration(folder: Path, locator: Locator) -> CalibrationFiles:
    """Read the calibration of a network.

    Raises:
        ModelError: a file is missing, is none that Waymark wrote, or belongs to another network.
    """
    outlines, names = folder / "cells.parquet", folder / "landmarks.parquet"
    try:
        calibration = read_document(folder / "calibration.json", Calibration)
        table = read_table(folder / "index.parquet", index_schema(locator.width))
        return CalibrationFiles(
            calibration,
            _index(table, calibration.landmark is not None),
            _cells(outlines, locator) if outlines.exists() else None,
            _names(read_table(names, NAMES)) if names.exists() else {},
        )
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename} is missing; calibrate the model first") from None
    except ModelError as error:
        raise ModelError(f"{error}; calibrate the model again") from error


def _index(table: pa.Table, landmarks: bool) -> RetrievalIndex:
    embedding = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    embedding = embedding.reshape(table.num_rows, -1)
    lat_lon = np.stack([table[name].to_numpy().astype(np.float64) for name in ("latitude", "longitude")], axis=1)
    if not len(embedding) or not np.isfinite(embedding).all() or np.isinf(lat_lon).any():
        raise ModelError("index.parquet holds no records, or numbers that are NaN or infinite")
    shown = np.array(table["landmark"].to_pylist(), dtype=object)
    return RetrievalIndex(embedding, lat_lon, shown if landmarks else None)


def _names(table: pa.Table) -> dict[str, str]:
    landmarks, names = (table[column].to_pylist() for column in NAMES.names)
    if None in landmarks or None in names:
        raise ModelError("landmarks.parquet has a landmark without id or name")
    return dict(zip(landmarks, names, strict=True))


def _cells(path: Path, locator: Locator) -> gpd.GeoDataFrame:
    """Read the outlines of the cells, of which the head has one for each class."""
    read_table(regular_file(path))  # or its few bytes might be very many
    try:
        cells = gpd.read_parquet(path)
        cell_ids = locator.place_head.cell_ids.tolist() if isinstance(locator.place_head, CellHead) else []
        known = cells["cell"].tolist()
        sized = np.isfinite(cells["area_km2"].to_numpy(dtype=np.float64)).all()
        if len(set(known)) < len(known) or not set(cell_ids) <= set(known) or cells.crs is None or not sized:
            raise ModelError(f"{path} holds the cells of another model")
        return cells
    except ModelError:
        raise
    except Exception as error:  # GeoPandas raises anything on tables without geometry
        raise ModelError(f"{path} holds no outlines of cells ({type(error).__name__})") from error
