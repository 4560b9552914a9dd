"""Divide the region into cells, and assign each place to a cell."""

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from tasks.common.geography import Region
from tasks.common.outputs import whole_folder
from tasks.common.stage import STRICT, Stage
from waymark.data.records import write_table
from waymark.errors import ParameterError
from waymark.geo.cells import LEARNT, assign_cells, empty_grid
from waymark.geo.grid import build_grid
from waymark.geo.quadtree import build_quadtree
from waymark.geo.regions import extent_region, load_region
from waymark.options.kinds import AtLeastOne, Cells, SpacingDeg, SpacingM

logger = logging.getLogger(__name__)

PLACES = Path("data/projected/places.parquet")
SPLIT = Path("data/split/records.parquet")
GRID = Path("data/grid")


@dataclass(frozen=True, config=STRICT)
class Grid:
    """Section `grid` of params.yaml, or an entry of `grids`, and `region`.

    Squares use one of the first three, the others null. A quadtree uses `spacing_m`, `spacing_deg` and `cells` null,
    and the rest, so that changing only `kind` splits the squares with many training records and merges those with few.

    Args:
        region: country code or vector file to divide; null for the extent of the places, without empty squares.
        kind: squares of one size, or a quadtree that follows the training records.
        spacing_m: side of the squares in metres of the CRS; of the largest squares of a quadtree.
        spacing_deg: side of the squares in degrees.
        cells: target number of cells.
        min_records: quadtree: smallest number of training records in a non-empty cell.
        max_records: quadtree: a square with more is split; null for twice `min_records`.
        min_spacing_m: quadtree: smallest side of a square.
    """

    region: Region | None
    kind: Literal["squares", "quadtree"] = "squares"
    spacing_m: SpacingM | None = None
    spacing_deg: SpacingDeg | None = None
    cells: Cells | None = None
    min_records: AtLeastOne = 20
    max_records: AtLeastOne | None = None
    min_spacing_m: SpacingM = 1000.0


def check_grid(settings: Grid) -> None:
    """Refuse inconsistent keys.

    Raises:
        ParameterError: not exactly one of the three sizes is set, or another than `spacing_m` for a quadtree.
    """
    given = [name for name in ("spacing_m", "spacing_deg", "cells") if getattr(settings, name) is not None]
    if len(given) != 1:
        names = " and ".join(given) or "none of them"
        raise ParameterError(f"one of spacing_m, spacing_deg and cells must be set, not {names}")
    if settings.kind == "quadtree" and settings.spacing_m is None:
        raise ParameterError(
            f"{given[0]} is for kind: squares; kind: quadtree uses spacing_m, the side of its largest"
            f" squares: set that, and {given[0]} to null"
        )


STAGE = Stage("grid", Grid, shared=("region",), check=check_grid)


def grid_places(settings: Grid, destination: Path = GRID) -> None:
    """Divide the region into cells, and assign each place to a cell."""
    places = pq.read_table(PLACES)
    cells = _divide(places, settings)
    lat_lon = _lat_lon(places)
    cell = assign_cells(cells, lat_lon) if len(lat_lon) else np.empty(0, dtype=np.int64)
    table = pa.table({"record_id": places["record_id"], "cell": cell})
    if settings.kind == "quadtree":
        table = table.replace_schema_metadata(LEARNT)
    with whole_folder(destination) as folder:
        cells.to_parquet(folder / "cells.parquet", compression="zstd")
        write_table(table, folder / "places.parquet")
    logger.info("%d cells, %d of them with a place", len(cells), len(np.unique(table["cell"].to_numpy())))


def _divide(places: pa.Table, settings: Grid) -> GeoDataFrame:
    lat_lon, crs = _lat_lon(places), places.schema.metadata[b"crs"].decode()
    if settings.region is None and not len(lat_lon):
        return empty_grid(crs)
    region = extent_region(lat_lon) if settings.region is None else load_region(settings.region)
    only = lat_lon if settings.region is None else None
    if settings.kind == "squares" or settings.spacing_m is None:
        return build_grid(
            region,
            spacing_m=settings.spacing_m,
            spacing_deg=settings.spacing_deg,
            cells=settings.cells,
            crs=crs,
            places=only,
        )
    return build_quadtree(
        region,
        _lat_lon(places.filter(pc.is_in(places["record_id"], _training_ids()))),
        spacing_m=settings.spacing_m,
        min_records=settings.min_records,
        max_records=settings.max_records,
        min_spacing_m=min(settings.min_spacing_m, settings.spacing_m),
        crs=crs,
        places=only,
    )


def _training_ids() -> pa.Array:
    split = pq.read_table(SPLIT, columns=["record_id", "split"])
    return split.filter(pc.equal(split["split"], "train"))["record_id"].combine_chunks()


def _lat_lon(places: pa.Table) -> NDArray[np.float64]:
    return np.stack([places["latitude"].to_numpy(), places["longitude"].to_numpy()], axis=1)


if __name__ == "__main__":
    STAGE.main(grid_places)
