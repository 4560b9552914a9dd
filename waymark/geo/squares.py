"""Squares of a plane that contain land, and the land in each; a quadtree clips a large outline once for each level.

The plane may be metres of a CRS (x, y) or degrees (longitude, latitude). Squares are snapped to whole multiples of the
spacing, counted from the plane's origin.
"""

from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from waymark.errors import GridError
from waymark.geo.crs import Points
from waymark.geo.regions import only_polygons

MAX_CELLS = 200_000
POLYGON, MULTIPOLYGON = 3, 6  # shapely's type ids


class Squares(NamedTuple):
    """Squares that contain land, from south to north, and in a row from west to east.

    Attributes:
        column: `(N,)` the west edge is `column * spacing`.
        row: `(N,)` the south edge is `row * spacing`.
        land: `(N,)` the polygons of land in it.
    """

    column: NDArray[np.int64]
    row: NDArray[np.int64]
    land: NDArray[np.object_]


def squares_with_land(land: Any, spacing: float, *, places: Points | None = None) -> Squares:
    """Find the squares that overlap with the land.

    Args:
        land: polygons, valid, in the plane.
        spacing: side of a square, in the plane's unit.
        places: `(N, 2)` points of the plane; if set, squares without any are left out.

    Returns:
        The squares and the land in each.

    Raises:
        GridError: there would be more than 200,000.

    >>> squares_with_land(shapely.box(0.5, 0.5, 2.5, 1.0), 1.0).column.tolist()
    [0, 1, 2]
    """
    lattice = None if places is None else lattice_squares(places, spacing)
    west, south, east, north = land.bounds
    size = 1
    while size < max(east - west, north - south) / spacing:
        size *= 2
    columns, rows = np.meshgrid(_tiles(west, east, spacing * size), _tiles(south, north, spacing * size))
    squares = _cut(
        columns.ravel() * size, rows.ravel() * size, np.full(columns.size, land, dtype=object), size, spacing
    )
    while size > 1:
        squares = quarters(squares, size, spacing)
        size //= 2
        if lattice is not None:
            squares = chosen(squares, occupied(squares, lattice, size))
        if len(squares.row) > MAX_CELLS:
            raise GridError(f"the grid would have more than {MAX_CELLS:,} cells; use a larger spacing or fewer cells")
    return chosen(squares, np.lexsort((squares.column, squares.row)))


def quarters(squares: Squares, size: int, spacing: float) -> Squares:
    """Split squares of `size` spacings, an even number, into four each, and keep the quarters with land."""
    half = size // 2
    parts = [(squares.column + i * half, squares.row + j * half) for j in (0, 1) for i in (0, 1)]
    column, row = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _cut(column, row, np.tile(squares.land, 4), half, spacing)


def lattice_squares(places: Points, spacing: float) -> NDArray[np.int64]:
    """Compute the `(N, 2)` column and row of the square of each point."""
    return np.floor(places / spacing).astype(np.int64)


def occupied(squares: Squares, lattice: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    """Mark the squares of `size` spacings that contain any of the `(N, 2)` lattice squares."""
    return np.isin(square_keys(squares.column // size, squares.row // size), square_keys(*(lattice // size).T))


def square_keys(column: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.complex128]:
    """Compute a number for each square by which squares can be sorted and found."""
    return column + 1j * row


def chosen(squares: Squares, index: NDArray[Any]) -> Squares:
    """Select squares by a mask or an order."""
    return Squares(*(part[index] for part in squares))


def _tiles(low: float, high: float, side: float) -> NDArray[np.int64]:
    return np.arange(np.floor(low / side), np.floor(high / side) + 1).astype(np.int64)


def _cut(column: NDArray[np.int64], row: NDArray[np.int64], land: Any, size: int, spacing: float) -> Squares:
    """Clip each piece of land to its square of `size` spacings, and keep the squares with a remainder."""
    boxes = shapely.box(column * spacing, row * spacing, (column + size) * spacing, (row + size) * spacing)
    touched = np.flatnonzero(shapely.intersects(boxes, land))
    cut = shapely.intersection(boxes[touched], land[touched])
    # Land that touches the edge of a square leaves lines and points, with or without polygons.
    mixed = ~np.isin(shapely.get_type_id(cut), (POLYGON, MULTIPOLYGON))
    cut[mixed] = [only_polygons(shape) for shape in cut[mixed]]
    held = shapely.area(cut) > 0
    kept = touched[held]
    return Squares(column[kept], row[kept], cut[held])
