"""The grid of geocells over a region's land, and the cell of each place."""

import logging
import math
from functools import partial
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from pyproj import Geod

from waymark.errors import GridError
from waymark.geo.crs import Points, project, resolve_crs, unproject
from waymark.geo.regions import WGS84, only_polygons
from waymark.geo.squares import MAX_CELLS, Squares, squares_with_land

log = logging.getLogger(__name__)

EDGE_DEG = 0.05  # an edge along a parallel, drawn straight in a CRS, then is at most about half a metre off
SEAM_M = 2_000_000.0  # no edge of 0.05 degrees is that long, unless the CRS is torn between its ends
INSIDE_M = 1.0
TRIALS = 24  # spacings that a search for a number of cells looks at
WGS84_GEOD = Geod(ellps="WGS84")


def build_grid(
    region: gpd.GeoDataFrame,
    *,
    spacing_m: float | None = None,
    spacing_deg: float | None = None,
    cells: int | None = None,
    crs: str,
) -> gpd.GeoDataFrame:
    """Lay a grid over the land of a region.

    A cell is a whole square (with `spacing_deg`, the quadrilateral between two parallels and two meridians), and
    squares without land are left out, so the cells do not overlap and together cover all of the land. Squares start at
    whole multiples of the spacing from the origin of the CRS (or from 0, 0 degrees), not at the region's corner: a
    changed outline adds or removes cells but never shifts them. Cells are numbered from south to north, and in a row
    from west to east.

    Args:
        region: polygons in EPSG:4326, as `load_region` gives.
        spacing_m: side of a square in metres of the CRS.
        spacing_deg: side in degrees.
        cells: wanted number of cells; a bisection looks for the spacing in metres that comes nearest.
        crs: CRS of the cells, in metres, or `auto`.

    Returns:
        One row for each cell: `cell` (0 to n - 1), `geometry` (in `crs`, corners rounded to 1 mm), `area_km2` (of its
        land, on the ellipsoid), `latitude` and `longitude` in degrees of its middle, and `clipped`: the middle is off
        the land, so the nearest point of the cell's own land stands for it.

    Raises:
        GridError: not exactly one of the three is set, or it makes no grid or more than 200,000 cells.
        CoordinateError: the region lies outside the area of use of the CRS.

    >>> from waymark.geo.regions import extent_region
    >>> grid = build_grid(extent_region([[45.0, 16.0], [45.2, 16.2]]), spacing_m=20_000, crs="EPSG:3765")
    >>> grid["cell"].tolist(), int(grid["area_km2"].sum())
    ([0, 1, 2, 3, 4, 5, 6, 7, 8], 897)
    """
    land = _check(region, spacing_m, spacing_deg, cells)
    edges = shapely.get_coordinates(land)[:, ::-1]
    crs = resolve_crs(crs, edges)
    if spacing_deg is not None:
        return _degree_grid(land, spacing_deg, crs)
    land_m = _to_metres(np.array([land], dtype=object), crs)[0]
    _check_number(land_m.area, spacing_m, "spacing_m")
    if spacing_m is not None:
        return _metre_grid(squares_with_land(land_m, spacing_m), spacing_m, crs)
    return _search_grid(land_m, int(cells or 0), crs)


def assign_cells(grid: gpd.GeoDataFrame, lat_lon: ArrayLike) -> NDArray[np.int64]:
    """Find the cell of each place: the one whose square holds it, otherwise the nearest one in the CRS.

    A photo on the shore may lie just off the generalised outline, in a square without land; how far off is still the
    region's is for the filter to say, not for the grid. On a border, the lower number wins.

    Args:
        grid: cells as `build_grid` gives them, also when read again from GeoParquet.
        lat_lon: `(N, 2)` latitude, longitude in degrees.

    Returns:
        `(N,)` numbers of cells.

    Raises:
        GridError: the grid has no cell or no CRS.
        CoordinateError: a place lies outside the area of use of the grid's CRS.

    >>> from waymark.geo.regions import extent_region
    >>> grid = build_grid(extent_region([[45.0, 16.0], [45.2, 16.2]]), spacing_m=20_000, crs="EPSG:3765")
    >>> assign_cells(grid, [[45.0, 16.0], [45.2, 16.2], [44.0, 16.0]]).tolist()
    [4, 7, 0]
    """
    if not len(grid) or grid.crs is None:
        raise GridError("the grid has no cells or no CRS; build it again with build_grid")
    places = shapely.points(project(lat_lon, grid.crs.to_string()))
    numbers = grid["cell"].to_numpy(dtype=np.int64)
    tree = shapely.STRtree(grid.geometry.to_numpy())
    unset = np.iinfo(np.int64).max
    found = np.full(len(places), unset)
    place, cell = tree.query(places, predicate="intersects")
    np.minimum.at(found, place, numbers[cell])
    outside = np.flatnonzero(found == unset)
    place, cell = tree.query_nearest(places[outside], all_matches=True)
    np.minimum.at(found, outside[place], numbers[cell])
    return found


def _check(region: gpd.GeoDataFrame, spacing_m: float | None, spacing_deg: float | None, cells: int | None) -> Any:
    """The land of a region in degrees, if the parameters can make a grid of it."""
    parameters = {"spacing_m": spacing_m, "spacing_deg": spacing_deg, "cells": cells}
    given = {name: float(value) for name, value in parameters.items() if value is not None}
    if len(given) != 1:
        raise GridError(
            f"set one of spacing_m, spacing_deg and cells, the others null; set: {', '.join(given) or 'none'}"
        )
    [(name, value)] = given.items()
    top = {"spacing_m": math.inf, "spacing_deg": 180, "cells": MAX_CELLS + 1}[name]
    if not (math.isfinite(value) and 0 < value < top) or (name == "cells" and value % 1):
        kind = f"a whole number from 1 to {MAX_CELLS}" if name == "cells" else f"a number above 0 and below {top}"
        raise GridError(f"{name} is {value:g}; it must be {kind}")
    if region.crs is None or not region.crs.equals(WGS84, ignore_axis_order=True):
        raise GridError(
            f"the region is in {region.crs}, not in {WGS84}; take what load_region gives, or its to_crs({WGS84!r})"
        )
    land = only_polygons(region.geometry.union_all())
    if land.is_empty:
        raise GridError("the region has no polygon; take what load_region gives")
    if spacing_deg is not None:
        _check_number(land.area, spacing_deg, "spacing_deg")
    return land


def _check_number(area: float, spacing: float | None, name: str) -> None:
    """Refuse a spacing that is far too small before any square is made."""
    if spacing is not None and area / spacing**2 > MAX_CELLS:
        raise GridError(
            f"{name} {spacing:g} would make more than {MAX_CELLS:,} cells; "
            f"take more than {math.sqrt(area / MAX_CELLS):.3g}"
        )


def _to_metres(land: NDArray[np.object_], crs: str) -> NDArray[np.object_]:
    """Project polygons in degrees, their long edges in short steps."""
    dense = shapely.segmentize(land, EDGE_DEG)
    moved: NDArray[np.object_] = shapely.transform(dense, lambda xy: project(xy[:, ::-1], crs))
    corners_m, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(moved)), return_index=True)
    edges_m = np.hypot(*np.diff(corners_m, axis=0).T)[np.diff(ring) == 0]
    if edges_m.max() > SEAM_M:
        raise GridError(f"the region lies across a seam of {crs}; set crs: auto or one centred on the region")
    torn = ~shapely.is_valid(moved)
    moved[torn] = [only_polygons(shape) for shape in moved[torn]]
    return moved


def _metre_grid(squares: Squares, spacing_m: float, crs: str) -> gpd.GeoDataFrame:
    column, row = squares.column, squares.row
    corners = (np.round(edge * spacing_m, 3) for edge in (column, row, column + 1, row + 1))
    middle_m = np.column_stack([(column + 0.5) * spacing_m, (row + 0.5) * spacing_m])
    return _describe(shapely.box(*corners), squares.land, middle_m, crs)


def _degree_grid(land: Any, spacing_deg: float, crs: str) -> gpd.GeoDataFrame:
    squares = squares_with_land(land, spacing_deg)
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
    return _describe(quadrilaterals, _to_metres(squares.land, crs), middle_m, crs)


def _search_grid(land_m: Any, cells: int, crs: str) -> gpd.GeoDataFrame:
    """Bisect for the spacing (in whole millimetres) whose number of cells comes nearest; of two, the wider.

    The number does not fall steadily as the spacing grows, so this finds a near one, and not always the nearest.
    """
    tried: dict[float, int] = {}

    def makes_more(spacing_m: float) -> bool:
        try:
            tried[spacing_m] = len(squares_with_land(land_m, spacing_m).row)
        except GridError:  # far too many
            return True
        return tried[spacing_m] > cells

    narrow_m = wide_m = round(math.sqrt(land_m.area / cells), 3)  # so narrow a spacing makes `cells` or more
    while makes_more(wide_m) and wide_m < np.abs(land_m.bounds).max():
        narrow_m, wide_m = wide_m, wide_m * 2
    while cells not in tried.values() and wide_m - narrow_m > 0.01 and len(tried) < TRIALS:
        middle_m = round((narrow_m + wide_m) / 2, 3)
        narrow_m, wide_m = (middle_m, wide_m) if makes_more(middle_m) else (narrow_m, middle_m)
    best_m = min(tried, key=lambda spacing_m: (abs(tried[spacing_m] - cells), -spacing_m))
    log.info("cells %d: spacing_m %g makes %d", cells, best_m, tried[best_m])
    return _metre_grid(squares_with_land(land_m, best_m), best_m, crs)


def empty_grid(crs: str) -> gpd.GeoDataFrame:
    """Build the grid of no land: the columns of `build_grid` without a row."""
    nothing = np.empty(0, dtype=object)
    return _describe(nothing, nothing, np.empty((0, 2)), crs)


def _describe(cells: Any, land_m: Any, middle_m: Points, crs: str) -> gpd.GeoDataFrame:
    """The table of the grid."""
    points = shapely.points(middle_m)
    clipped = ~shapely.covers(land_m, points)
    points[clipped] = _nearest_land(points[clipped], land_m[clipped], cells[clipped])
    lat_lon = unproject(shapely.get_coordinates(points), crs, anywhere=True)
    columns = {
        "cell": np.arange(len(cells), dtype=np.int64),
        "area_km2": _area_km2(land_m, crs),
        "latitude": lat_lon[:, 0],
        "longitude": lat_lon[:, 1],
        "clipped": clipped,
    }
    return gpd.GeoDataFrame(columns, geometry=cells, crs=crs)


def _nearest_land(points: Any, land_m: Any, cells: Any) -> Any:
    """The nearest land to each point that is a metre inside the cell, for on its border it could be the neighbour's."""
    inside = shapely.intersection(land_m, shapely.buffer(cells, -INSIDE_M, join_style="mitre"))
    inside = np.where(shapely.is_empty(inside), shapely.point_on_surface(land_m), inside)
    return shapely.get_point(shapely.shortest_line(inside, points), 0)


def _area_km2(land_m: Any, crs: str) -> Points:
    """Area on the WGS84 ellipsoid between geodesics, rounded to 1 m2; long straight edges are cut into short ones."""
    sides_m = np.ptp(shapely.bounds(land_m)[:, ::2], axis=1)
    dense = shapely.segmentize(land_m, np.maximum(sides_m / 16, 1.0))
    to_degrees = partial(unproject, crs=crs, anywhere=True)
    # Turned the right way round in metres, for in degrees a ring across the antimeridian looks turned over.
    degrees = shapely.transform(shapely.orient_polygons(dense), lambda xy: to_degrees(xy)[:, ::-1])
    areas_m2 = [WGS84_GEOD.geometry_area_perimeter(shape)[0] for shape in degrees]
    return np.maximum(np.round(np.array(areas_m2)), 1.0) / 1e6
