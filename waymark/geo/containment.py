"""Which of many shapes holds a place, or is the nearest to it."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray


def holding(lat_lon: NDArray[np.float64], shapes: Any, *, shore_deg: float) -> NDArray[np.int64]:
    """Find the shape that holds each place, or the nearest one within a distance.

    A place in several shapes belongs to the first of them; across the antimeridian nothing is near.

    Args:
        lat_lon: `(N, 2)` latitude, longitude in degrees, NaN where unknown.
        shapes: `(S,)` valid polygons in EPSG:4326.
        shore_deg: largest distance to a shape in degrees, because coasts are coarse.

    Returns:
        `(N,)` index of the shape; -1 for an unknown place and one that is near none.

    >>> squares = shapely.box([0, 1], 0, [1, 2], 1)
    >>> holding(np.array([[0.5, 1.5], [0.5, 2.1], [0.5, 9.0], [np.nan, 0.5]]), squares, shore_deg=0.25).tolist()
    [1, 1, -1, -1]
    """
    found = np.full(len(lat_lon), len(shapes))
    known = np.flatnonzero(np.isfinite(lat_lon).all(axis=1))
    points = shapely.points(lat_lon[known][:, ::-1])
    parts, owner = shapely.get_parts(np.asarray(shapes, dtype=object), return_index=True)
    shapely.prepare(parts)
    part, point = shapely.STRtree(points).query(parts, predicate="intersects")
    np.minimum.at(found, known[point], owner[part])
    outside = found[known] == len(shapes)
    point, part = shapely.STRtree(parts).query_nearest(points[outside], max_distance=shore_deg)
    np.minimum.at(found, known[outside][point], owner[part])
    return np.where(found == len(shapes), -1, found)
