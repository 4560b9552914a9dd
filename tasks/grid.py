"""Divide the region into cells, and say in which cell each place lies."""

import logging
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks.outputs import whole_folder
from tasks.stage import STRICT, Stage
from waymark.errors import ParameterError
from waymark.geo import assign_cells, build_grid, empty_grid, extent_region, load_region
from waymark.records import write_table

logger = logging.getLogger(__name__)

PLACES = Path("data/projected/places.parquet")
GRID = Path("data/grid")


@dataclass(frozen=True, config=STRICT)
class Grid:
    """Section `grid` of params.yaml, and `region`; one of the three is set, the others null.

    Args:
        region: country code or vector file to divide; null takes the extent of the places.
        spacing_m: side of the squares in metres of the CRS.
        spacing_deg: side of the squares in degrees.
        cells: number of cells wanted.
    """

    region: str | None
    spacing_m: Annotated[float, Field(gt=0)] | None = None
    spacing_deg: Annotated[float, Field(gt=0)] | None = None
    cells: Annotated[int, Field(gt=0)] | None = None


def _check(settings: Grid) -> None:
    given = [name for name in ("spacing_m", "spacing_deg", "cells") if getattr(settings, name) is not None]
    if len(given) != 1:
        names = " and ".join(given) or "none of them"
        raise ParameterError(f"params.yaml: grid: one of spacing_m, spacing_deg and cells must be set, not {names}")


STAGE = Stage("grid", Grid, shared=("region",), check=_check)


def grid_places(settings: Grid) -> None:
    """Divide the region into cells, and say in which cell each place lies."""
    places = pq.read_table(PLACES)
    lat_lon = np.stack([places["latitude"].to_numpy(), places["longitude"].to_numpy()], axis=1)
    cells = _divide(lat_lon, places.schema.metadata[b"crs"].decode(), settings)
    cell = assign_cells(cells, lat_lon) if len(lat_lon) else np.empty(0, dtype=np.int64)
    table = pa.table({"record_id": places["record_id"], "cell": cell})
    with whole_folder(GRID) as folder:
        cells.to_parquet(folder / "cells.parquet", compression="zstd")
        write_table(table, folder / "places.parquet")
    logger.info("%d cells, %d of them with a place", len(cells), len(np.unique(table["cell"].to_numpy())))


def _divide(lat_lon: NDArray[np.float64], crs: str, settings: Grid) -> GeoDataFrame:
    if settings.region is None and not len(lat_lon):
        return empty_grid(crs)
    region = extent_region(lat_lon) if settings.region is None else load_region(settings.region)
    return build_grid(
        region, spacing_m=settings.spacing_m, spacing_deg=settings.spacing_deg, cells=settings.cells, crs=crs
    )


if __name__ == "__main__":
    STAGE.main(grid_places)
