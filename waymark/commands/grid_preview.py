"""Grids to choose from: number of cells, images in a cell, and the error of the best possible answer."""

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from waymark.errors import GridError
from waymark.geo.cells import assign_cells
from waymark.geo.crs import project, resolve_crs, unproject
from waymark.geo.grid import build_grid, land_of
from waymark.geo.quadtree import build_quadtree
from waymark.geo.regions import region_lat_lon
from waymark.geo.sphere import great_circle_km

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GridPreview:
    """One grid, and its measures before any training.

    Attributes:
        name: such as `40 km`, or `quadtree 20` for one of at least 20 records.
        kind: `squares` or `quadtree`.
        spacing_km: side of the squares, or of the largest squares of a quadtree.
        min_records: of a quadtree; None for squares.
        cells: what `build_grid` or `build_quadtree` returned.
        images: `(C,)` training records in each cell, by number.
        centre_km: `(N,)` error of each record if the clipped centre of its cell were the answer (the oracle error).
        training_km: `(N,)` likewise with the mean position of its cell's training records, if it has any.
    """

    name: str
    kind: str
    spacing_km: float
    min_records: int | None
    cells: gpd.GeoDataFrame
    images: NDArray[np.int64]
    centre_km: Floats
    training_km: Floats


def preview_grids(
    region: gpd.GeoDataFrame,
    lat_lon: ArrayLike,
    *,
    spacings_km: Sequence[float],
    min_records: Sequence[int] = (),
    crs: str,
    others: ArrayLike | None = None,
    places: ArrayLike | None = None,
) -> list[GridPreview]:
    """Build grids of squares of several spacings, and quadtrees, and measure each.

    Args:
        region: polygons in EPSG:4326, as `load_region` returns.
        lat_lon: `(N, 2)` latitude, longitude in degrees of the training records.
        spacings_km: sides of squares; the largest is also that of the quadtrees' largest squares.
        min_records: for each a quadtree whose non-empty cells hold at least this many training records.
        crs: CRS of the cells, in metres, or `auto`.
        others: `(M, 2)` records that are measured in place of the training records, to see how well small cells
            serve places that are not in train.
        places: as in `build_grid`: squares without any of these are left out.

    Returns:
        The grids of squares in the order of their spacings, then the quadtrees.

    Raises:
        GridError: there is no record or no spacing, or a grid cannot be built.
        CoordinateError: the region or a record is outside the area of use of the CRS.
    """
    training = np.asarray(lat_lon, dtype=np.float64).reshape(-1, 2)
    if not len(training) or not len(spacings_km):
        raise GridError("a preview needs at least one record with coordinates, and one spacing")
    crs = resolve_crs(crs, region_lat_lon(gpd.GeoDataFrame(geometry=[land_of(region)], crs=region.crs)))
    measured = training if others is None else np.asarray(others, dtype=np.float64).reshape(-1, 2)
    grids: list[tuple[float, int | None]] = [(spacing_km, None) for spacing_km in spacings_km]
    grids += [(max(spacings_km), least) for least in min_records]
    made = []
    for spacing_km, least in tqdm(grids, unit="grid", desc="preview", disable=None):
        spacing_m = round(spacing_km * 1000, 3)
        if least is None:
            cells = build_grid(region, spacing_m=spacing_m, crs=crs, places=places)
        else:
            cells = build_quadtree(region, training, spacing_m=spacing_m, min_records=least, crs=crs, places=places)
        made.append(_preview(cells, spacing_km, least, training, measured))
    return made


def preview_table(previews: Sequence[GridPreview], *, enough: int) -> pd.DataFrame:
    """Compare grids in a table.

    Args:
        previews: what `preview_grids` returned.
        enough: images that a cell should have.

    Returns:
        One row for each: `grid`, `kind`, `spacing_km`, `min_records`; `cells`, and `classes`, those with training
        records; `images_min`, `images_median`, `images_max` of the classes, and `few`, the share of the classes with
        fewer than `enough`; `centre_mean_km`, `centre_median_km`, `training_mean_km`, `training_median_km`.
    """
    return pd.DataFrame([_row(preview, enough) for preview in previews])


def _row(preview: GridPreview, enough: int) -> dict[str, object]:
    images = preview.images[preview.images > 0]
    return {
        "grid": preview.name,
        "kind": preview.kind,
        "spacing_km": preview.spacing_km,
        "min_records": preview.min_records,
        "cells": len(preview.cells),
        "classes": len(images),
        "images_min": int(images.min()),
        "images_median": float(np.median(images)),
        "images_max": int(images.max()),
        "few": float((images < enough).mean()),
        "centre_mean_km": float(preview.centre_km.mean()),
        "centre_median_km": float(np.median(preview.centre_km)),
        "training_mean_km": float(preview.training_km.mean()),
        "training_median_km": float(np.median(preview.training_km)),
    }


def _preview(
    cells: gpd.GeoDataFrame, spacing_km: float, least: int | None, training: Floats, measured: Floats
) -> GridPreview:
    cell = assign_cells(cells, training)
    images = np.bincount(cell, minlength=len(cells))
    centres = cells.sort_values("cell")[["latitude", "longitude"]].to_numpy(dtype=np.float64)  # (C, 2)
    answers = centres.copy()
    filled = images > 0
    answers[filled] = _mean_places(cell, training, cells.crs.to_string())
    found = assign_cells(cells, measured)
    return GridPreview(
        name=f"{spacing_km:g} km" if least is None else f"quadtree {least}",
        kind="squares" if least is None else "quadtree",
        spacing_km=spacing_km,
        min_records=least,
        cells=cells,
        images=images,
        centre_km=great_circle_km(centres[found], measured),
        training_km=great_circle_km(answers[found], measured),
    )


def _mean_places(cell: NDArray[np.int64], lat_lon: Floats, crs: str) -> Floats:
    """Compute the mean position in the CRS of the records of each non-empty cell, in degrees."""
    sums = pd.DataFrame(project(lat_lon, crs)).groupby(cell).mean()
    return unproject(sums.to_numpy(), crs, anywhere=True)
