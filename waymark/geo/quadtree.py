"""Grids of geocells whose size follows the training records: fine where there are many, coarse where few."""

import math

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray

from waymark.errors import GridError
from waymark.geo.cells import describe_cells
from waymark.geo.crs import Points, project, resolve_crs
from waymark.geo.grid import check_number, land_of, to_metres
from waymark.geo.joining import join_poor
from waymark.geo.squares import (
    MAX_CELLS,
    Squares,
    chosen,
    lattice_squares,
    quarters,
    square_keys,
    squares_with_land,
)

MIN_SPACING_M = 1000.0

Integers = NDArray[np.int64]


def build_quadtree(
    region: gpd.GeoDataFrame,
    lat_lon: ArrayLike,
    *,
    spacing_m: float,
    min_records: int,
    max_records: int | None = None,
    min_spacing_m: float = MIN_SPACING_M,
    crs: str,
    places: ArrayLike | None = None,
) -> gpd.GeoDataFrame:
    """Build a grid over the land of a region that is finer where there are more training records.

    It starts with the squares that `build_grid` makes of the same spacing. A square with more than `max_records` is
    split into its quarters, and so on (Finkel and Bentley 1974; for geocells Weyand et al. 2016, PlaNet). Then each
    cell with records, but fewer than `min_records`, is merged with the neighbour that makes the smallest bounding box,
    or with the nearest cell if there is no neighbour, as on an island. So every cell has no record or at least
    `min_records`, unless there are fewer in total. Squares without any record stay unchanged: they cover the land, and
    are not a class of any model. As in a grid of squares, the cells do not overlap and together cover all of the land.

    A merged cell may be neither square nor in one piece. Its centre is the centroid of its squares, moved to its land
    if it is off the land. The grid depends on the positions of the records and not on their order.

    Args:
        region: polygons in EPSG:4326, as `load_region` returns.
        lat_lon: `(N, 2)` latitude, longitude in degrees of the training records, and of no others: the grid is learnt.
        spacing_m: side of the largest squares, in metres of the CRS.
        min_records: smallest number of training records in a non-empty cell.
        max_records: a square with more is split; None means twice `min_records`.
        min_spacing_m: smallest side of a square; at least 1 m.
        crs: CRS of the cells, in metres, or `auto`.
        places: as in `build_grid`: largest squares without any of these are left out.

    Returns:
        The columns of `build_grid`; cells are numbered by their first square, from south to north, and in a row from
        west to east.

    Raises:
        GridError: a parameter makes no grid, or more than 200,000 cells.
        CoordinateError: the region or a record is outside the area of use of the CRS.

    >>> from waymark.geo import extent_region
    >>> records = [[45.02, 16.1]] * 3 + [[45.09, 16.2]] * 5
    >>> region = extent_region([[45.0, 16.0], [45.2, 16.2]])
    >>> cells = build_quadtree(region, records, spacing_m=20_000, min_records=2, crs="EPSG:3765")
    >>> [round(side / 1000) for side in cells.length / 4]
    [20, 20, 20, 20, 10, 10, 20, 10, 10, 20, 20, 20]
    """
    most = 2 * min_records if max_records is None else max_records
    _check(spacing_m, min_records, most, min_spacing_m)
    land = land_of(region)
    crs = resolve_crs(crs, shapely.get_coordinates(land)[:, ::-1])
    land_m = to_metres(np.array([land], dtype=object), crs)[0]
    xy_m = project(lat_lon, crs)
    places_m = None if places is None else project(places, crs)
    if places is None:
        check_number(land_m.area, spacing_m, "spacing_m")
    roots = squares_with_land(land_m, spacing_m, places=places_m)
    squares, size, lattice_m = _cut_full(roots, spacing_m, xy_m, most, min_spacing_m)
    corners = np.stack([squares.column, squares.row, squares.column + size, squares.row + size])  # (4, S)
    boxes = shapely.box(*np.round(corners * lattice_m, 3))
    cell = join_poor(corners, boxes, xy_m, min_records)
    return describe_cells(
        _united(boxes, cell), _united(squares.land, cell), _middles(squares, size, cell) * lattice_m, crs
    )


def _check(spacing_m: float, min_records: int, max_records: int, min_spacing_m: float) -> None:
    if min_records < 1:
        raise GridError(f"min_records is {min_records}; it must be 1 or more")
    if max_records < min_records:
        raise GridError(f"max_records is {max_records}, below min_records {min_records}; raise it, or set it to null")
    if not 1 <= min_spacing_m <= spacing_m < math.inf:
        raise GridError(
            f"spacing_m is {spacing_m:g} and min_spacing_m {min_spacing_m:g}; spacing_m must be at least"
            " min_spacing_m, and that at least 1 m"
        )


def _cut_full(
    roots: Squares, spacing_m: float, xy_m: Points, most: int, min_spacing_m: float
) -> tuple[Squares, Integers, float]:
    """Split squares with more records than `most` into quarters, down to the smallest side.

    Records that share one square of the smallest side cannot be separated, so a square with no others stays.

    Returns:
        The squares from south to north, their sizes as multiples of the smallest side, and that side.
    """
    size = 1
    while spacing_m / (2 * size) >= min_spacing_m:
        size *= 2
    lattice_m = spacing_m / size  # a power of two, so that lines of the lattice are the same numbers at every size
    lattice, records = np.unique(lattice_squares(xy_m, lattice_m), axis=0, return_counts=True)
    squares = Squares(roots.column * size, roots.row * size, roots.land)
    done: list[tuple[Squares, Integers]] = []
    while True:
        held, distinct = _count(squares, lattice, records, size)
        full = (held > most) & (distinct > 1)
        done.append((chosen(squares, ~full), np.full((~full).sum(), size)))
        if not full.any():
            break
        squares = quarters(chosen(squares, full), size, lattice_m)
        size //= 2
        if sum(len(sizes) for _, sizes in done) + len(squares.row) > MAX_CELLS:
            raise GridError(f"the grid would have more than {MAX_CELLS:,} cells; raise max_records or spacing_m")
    column, row, land = (np.concatenate(part) for part in zip(*(squares for squares, _ in done), strict=True))
    order = np.lexsort((column, row))
    sizes = np.concatenate([sizes for _, sizes in done])
    return chosen(Squares(column, row, land), order), sizes[order], lattice_m


def _count(squares: Squares, lattice: Integers, records: Integers, size: int) -> tuple[Integers, Integers]:
    """Count the records in each square, and the squares of the lattice that contain them."""
    parents, parent = np.unique(square_keys(*(lattice // size).T), return_inverse=True)
    totals = np.zeros((2, len(parents) + 1), dtype=np.int64)  # the last is for squares without records
    np.add.at(totals[0], parent, records)
    np.add.at(totals[1], parent, 1)
    keys = square_keys(squares.column // size, squares.row // size)
    found = np.searchsorted(parents, keys).clip(max=len(parents) - 1) if len(parents) else np.zeros(len(keys), int)
    known = parents[found] == keys if len(parents) else np.zeros(len(keys), dtype=bool)
    held, distinct = totals[:, np.where(known, found, -1)]
    return held, distinct


def _united(shapes: NDArray[np.object_], cell: Integers) -> NDArray[np.object_]:
    """Compute the union of the shapes of each cell."""
    order = np.argsort(cell, kind="stable")
    groups = np.split(shapes[order], np.flatnonzero(np.diff(cell[order])) + 1)
    united = np.empty(len(groups), dtype=object)
    united[:] = [group[0] if len(group) == 1 else shapely.union_all(group) for group in groups]
    return united


def _middles(squares: Squares, size: Integers, cell: Integers) -> Points:
    """Compute the centroid of the squares of each cell, as multiples of the smallest side."""
    weight = size.astype(np.float64) ** 2
    total = np.bincount(cell, weights=weight)
    edges = (squares.column, squares.row)
    return np.column_stack([np.bincount(cell, weights=weight * (edge + size / 2)) / total for edge in edges])
