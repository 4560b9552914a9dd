"""Grids of square geocells of one size over the land of a region."""

import logging
import math
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from waymark.errors import GridError
from waymark.geo.cells import describe_cells
from waymark.geo.crs import Points, project, resolve_crs
from waymark.geo.regions import WGS84, only_polygons
from waymark.geo.squares import MAX_CELLS, Squares, squares_with_land

log = logging.getLogger(__name__)

EDGE_DEG = 0.05  # an edge along a parallel that is straight in a CRS is then at most about half a metre off
SEAM_M = 2_000_000.0  # no edge of 0.05 degrees is this long, unless it crosses a seam of the CRS
TRIALS = 24  # spacings tried in the search for a number of cells


def build_grid(
    region: gpd.GeoDataFrame,
    *,
    spacing_m: float | None = None,
    spacing_deg: float | None = None,
    cells: int | None = None,
    crs: str,
    places: ArrayLike | None = None,
) -> gpd.GeoDataFrame:
    """Build a grid over the land of a region.

    A cell is a whole square (with `spacing_deg`, the quadrilateral between two parallels and two meridians), and
    squares without land are left out, so the cells do not overlap and together cover all of the land. Squares start at
    whole multiples of the spacing from the origin of the CRS (or from 0, 0 degrees), not at the region's corner: a
    changed outline adds or removes cells but never shifts them. Cells are numbered from south to north, and in a row
    from west to east.

    Args:
        region: polygons in EPSG:4326, as `load_region` returns.
        spacing_m: side of a square in metres of the CRS.
        spacing_deg: side in degrees.
        cells: target number of cells; a bisection finds the spacing in metres that comes nearest.
        crs: CRS of the cells, in metres, or `auto`.
        places: `(N, 2)` latitude, longitude in degrees; if set, squares without any are left out, so that a region as
            large as a continent has at most as many cells as there are places. `cells` then counts the rest.

    Returns:
        One row for each cell: `cell` (0 to n - 1), `geometry` (in `crs`, corners rounded to 1 mm), `area_km2` (of its
        land, on the ellipsoid), `latitude` and `longitude` in degrees of its centre, and `clipped`: the centre is off
        the land and replaced by the nearest point of the cell's land.

    Raises:
        GridError: not exactly one of the three is set, or it makes no grid or more than 200,000 cells.
        CoordinateError: the region is outside the area of use of the CRS.

    >>> from waymark.geo.regions import extent_region
    >>> grid = build_grid(extent_region([[45.0, 16.0], [45.2, 16.2]]), spacing_m=20_000, crs="EPSG:3765")
    >>> grid["cell"].tolist(), int(grid["area_km2"].sum())
    ([0, 1, 2, 3, 4, 5, 6, 7, 8], 897)
    """
    _check(spacing_m, spacing_deg, cells)
    land = land_of(region)
    crs = resolve_crs(crs, shapely.get_coordinates(land)[:, ::-1])
    if spacing_deg is not None:
        if places is None:
            check_number(land.area, spacing_deg, "spacing_deg")
        return _degree_grid(land, spacing_deg, crs, places)
    land_m = to_metres(np.array([land], dtype=object), crs)[0]
    places_m = None if places is None else project(places, crs)
    if spacing_m is None:
        return _search_grid(land_m, int(cells or 0), crs, places_m)
    if places is None:
        check_number(land_m.area, spacing_m, "spacing_m")
    return _metre_grid(squares_with_land(land_m, spacing_m, places=places_m), spacing_m, crs)


def land_of(region: gpd.GeoDataFrame) -> Any:
    """Return the land of a region in degrees.

    Raises:
        GridError: the region is not in degrees, or has no polygon.
    """
    if region.crs is None or not region.crs.equals(WGS84, ignore_axis_order=True):
        raise GridError(f"the region is in {region.crs}, not in {WGS84}; convert it with to_crs({WGS84!r})")
    land = only_polygons(region.geometry.union_all())
    if land.is_empty:
        raise GridError("the region has no polygon; use a region that load_region returns")
    return land


def _check(spacing_m: float | None, spacing_deg: float | None, cells: int | None) -> None:
    """Refuse parameters that cannot make a grid."""
    parameters = {"spacing_m": spacing_m, "spacing_deg": spacing_deg, "cells": cells}
    given = {name: float(value) for name, value in parameters.items() if value is not None}
    if len(given) != 1:
        raise GridError(
            f"set exactly one of spacing_m, spacing_deg and cells, the others null; set: {', '.join(given) or 'none'}"
        )
    [(name, value)] = given.items()
    top = {"spacing_m": math.inf, "spacing_deg": 180, "cells": MAX_CELLS + 1}[name]
    if not (math.isfinite(value) and 0 < value < top) or (name == "cells" and value % 1):
        kind = f"a whole number from 1 to {MAX_CELLS}" if name == "cells" else f"a number above 0 and below {top}"
        raise GridError(f"{name} is {value:g}; it must be {kind}")


def check_number(area: float, spacing: float, name: str) -> None:
    """Refuse a far too small spacing before any square is made.

    Raises:
        GridError: the area would hold more than 200,000 squares.
    """
    if area / spacing**2 > MAX_CELLS:
        raise GridError(
            f"{name} {spacing:g} would make more than {MAX_CELLS:,} cells; "
            f"use more than {math.sqrt(area / MAX_CELLS):.3g}"
        )


def to_metres(land: NDArray[np.object_], crs: str) -> NDArray[np.object_]:
    """Project polygons in degrees, with long edges segmentized.

    Raises:
        GridError: they cross a seam of the CRS.
        CoordinateError: they are outside its area of use.
    """
    dense = shapely.segmentize(land, EDGE_DEG)
    moved: NDArray[np.object_] = shapely.transform(dense, lambda xy: project(xy[:, ::-1], crs))
    corners_m, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(moved)), return_index=True)
    edges_m = np.hypot(*np.diff(corners_m, axis=0).T)[np.diff(ring) == 0]
    if edges_m.max() > SEAM_M:
        raise GridError(f"the region crosses a seam of {crs}; set crs: auto or one centred on the region")
    torn = ~shapely.is_valid(moved)
    moved[torn] = [only_polygons(shape) for shape in moved[torn]]
    return moved


def _metre_grid(squares: Squares, spacing_m: float, crs: str) -> gpd.GeoDataFrame:
    column, row = squares.column, squares.row
    corners = (np.round(edge * spacing_m, 3) for edge in (column, row, column + 1, row + 1))
    middle_m = np.column_stack([(column + 0.5) * spacing_m, (row + 0.5) * spacing_m])
    return describe_cells(shapely.box(*corners), squares.land, middle_m, crs)


def _degree_grid(land: Any, spacing_deg: float, crs: str, places: ArrayLike | None) -> gpd.GeoDataFrame:
    squares = squares_with_land(land, spacing_deg, places=None if places is None else _on_the_plane(places))
    steps = math.ceil(spacing_deg / EDGE_DEG)
    along, zero = np.arange(steps), np.zeros(steps, dtype=np.int64)
    # Points around one square in whole steps: neighbours project the same points of a shared edge.
    around_x = np.concatenate([along, zero + steps, steps - along, zero])
    around_y = np.concatenate([zero, along, zero + steps, steps - along])
    longitude = np.clip((squares.column[:, None] * steps + around_x) * (spacing_deg / steps), -180, 180)  # (N, 4 steps)
    latitude = np.clip((squares.row[:, None] * steps + around_y) * (spacing_deg / steps), -90, 90)
    corners_m = project(np.column_stack([latitude.ravel(), longitude.ravel()]), crs, anywhere=True)
    quadrilaterals = shapely.polygons(corners_m.reshape(len(squares.row), -1, 2))
    middle = np.column_stack([(squares.row + 0.5) * spacing_deg, (squares.column + 0.5) * spacing_deg])
    middle_m = project(np.clip(middle, (-90, -180), (90, 180)), crs, anywhere=True)
    return describe_cells(quadrilaterals, to_metres(squares.land, crs), middle_m, crs)


def _on_the_plane(places: ArrayLike) -> Points:
    """Return longitude, latitude; the outermost edges of the plane belong to the squares inside."""
    return np.minimum(np.asarray(places, dtype=np.float64).reshape(-1, 2)[:, ::-1], np.nextafter((180.0, 90.0), 0))


def _search_grid(land_m: Any, cells: int, crs: str, places_m: Points | None) -> gpd.GeoDataFrame:
    """Bisect for the spacing (in whole millimetres) whose number of cells is nearest; of two, the larger.

    The number is not monotonic in the spacing, so the result is near, and not always the nearest.
    """
    tried: dict[float, int] = {}

    def makes_more(spacing_m: float) -> bool:
        try:
            tried[spacing_m] = len(squares_with_land(land_m, spacing_m, places=places_m).row)
        except GridError:  # far too many
            return True
        return tried[spacing_m] > cells

    narrow_m = wide_m = round(math.sqrt(land_m.area / cells), 3)  # this spacing makes `cells` or more
    while places_m is not None and narrow_m > 1 and not makes_more(narrow_m):
        narrow_m = wide_m = round(narrow_m / 2, 3)
    trials = TRIALS + len(tried)
    while makes_more(wide_m) and wide_m < np.abs(land_m.bounds).max():
        narrow_m, wide_m = wide_m, wide_m * 2
    while cells not in tried.values() and wide_m - narrow_m > 0.01 and len(tried) < trials:
        middle_m = round((narrow_m + wide_m) / 2, 3)
        narrow_m, wide_m = (middle_m, wide_m) if makes_more(middle_m) else (narrow_m, middle_m)
    best_m = min(tried, key=lambda spacing_m: (abs(tried[spacing_m] - cells), -spacing_m))
    log.info("cells %d: spacing_m %g makes %d", cells, best_m, tried[best_m])
    return _metre_grid(squares_with_land(land_m, best_m, places=places_m), best_m, crs)
