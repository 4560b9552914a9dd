"""The cells of a grid as a table, and the assignment of places to cells."""

from functools import partial
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from pyproj import Geod

from waymark.errors import GridError
from waymark.geo.crs import Points, project, unproject

INSIDE_M = 1.0
WGS84_GEOD = Geod(ellps="WGS84")
LEARNT = {b"cells": b"follow the training records"}  # metadata of the table of places in such cells


def assign_cells(grid: gpd.GeoDataFrame, lat_lon: ArrayLike) -> NDArray[np.int64]:
    """Find the cell of each place: the one whose square holds it, otherwise the nearest one in the CRS.

    A photo on the shore may be just off the generalised outline, in a square without land; which distance still
    belongs to the region is decided by the filter, not by the grid. On a border, the lower number wins.

    Args:
        grid: cells as `build_grid` returns them, or read from GeoParquet.
        lat_lon: `(N, 2)` latitude, longitude in degrees.

    Returns:
        `(N,)` numbers of cells.

    Raises:
        GridError: the grid has no cell or no CRS.
        CoordinateError: a place is outside the area of use of the grid's CRS.

    >>> from waymark.geo import build_grid, extent_region
    >>> grid = build_grid(extent_region([[45.0, 16.0], [45.2, 16.2]]), spacing_m=20_000, crs="EPSG:3765")
    >>> assign_cells(grid, [[45.0, 16.0], [45.2, 16.2], [44.0, 16.0]]).tolist()
    [4, 7, 0]
    """
    if not len(grid) or grid.crs is None:
        raise GridError("the grid has no cells or no CRS; build it again with build_grid")
    numbers = grid["cell"].to_numpy(dtype=np.int64)
    return holders(grid.geometry.to_numpy(), numbers, project(lat_lon, grid.crs.to_string()))


def holders(shapes: Any, numbers: NDArray[np.int64], xy_m: Points) -> NDArray[np.int64]:
    """Find the number of the shape that contains each point, or of the nearest; of several, the lowest.

    Args:
        shapes: `(C,)` polygons in the points' CRS, at least one.
        numbers: `(C,)` their numbers.
        xy_m: `(N, 2)` x, y.

    Returns:
        `(N,)` numbers.
    """
    points = shapely.points(xy_m)
    tree = shapely.STRtree(shapes)
    unset = np.iinfo(np.int64).max
    found = np.full(len(points), unset)
    point, shape = tree.query(points, predicate="intersects")
    np.minimum.at(found, point, numbers[shape])
    outside = np.flatnonzero(found == unset)
    point, shape = tree.query_nearest(points[outside], all_matches=True)
    np.minimum.at(found, outside[point], numbers[shape])
    return found


def empty_grid(crs: str) -> gpd.GeoDataFrame:
    """Build an empty grid, with the columns of `build_grid`."""
    nothing = np.empty(0, dtype=object)
    return describe_cells(nothing, nothing, np.empty((0, 2)), crs)


def describe_cells(cells: Any, land_m: Any, middle_m: Points, crs: str) -> gpd.GeoDataFrame:
    """Make the table of a grid, with the columns that `build_grid` names.

    Args:
        cells: `(C,)` polygons in the CRS, by number.
        land_m: `(C,)` the land in each.
        middle_m: `(C, 2)` x, y of the centre of each.
        crs: CRS of all of these.
    """
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
    """Find the nearest land to each point, a metre inside the cell: on its border it could be the neighbour's."""
    inside = shapely.intersection(land_m, shapely.buffer(cells, -INSIDE_M, join_style="mitre"))
    inside = np.where(shapely.is_empty(inside), shapely.point_on_surface(land_m), inside)
    return shapely.get_point(shapely.shortest_line(inside, points), 0)


def _area_km2(land_m: Any, crs: str) -> Points:
    """Compute areas on the WGS84 ellipsoid between geodesics, rounded to 1 m2; long edges are segmentized."""
    sides_m = np.ptp(shapely.bounds(land_m)[:, ::2], axis=1)
    dense = shapely.segmentize(land_m, np.maximum(sides_m / 16, 1.0))
    to_degrees = partial(unproject, crs=crs, anywhere=True)
    # Oriented in metres, because in degrees a ring across the antimeridian appears reversed.
    degrees = shapely.transform(shapely.orient_polygons(dense), lambda xy: to_degrees(xy)[:, ::-1])
    areas_m2 = [WGS84_GEOD.geometry_area_perimeter(shape)[0] for shape in degrees]
    return np.maximum(np.round(np.array(areas_m2)), 1.0) / 1e6
