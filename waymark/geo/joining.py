"""Merge squares of a quadtree into cells, so that none has too few records."""

import heapq
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from waymark.geo.cells import holders
from waymark.geo.crs import Points

Integers = NDArray[np.int64]


def join_poor(corners: Integers, boxes: Any, xy_m: Points, min_records: int) -> Integers:
    """Merge squares until each cell has no record, or enough of them.

    Records are counted like in `assign_cells`: one off all squares belongs to the nearest, one on a border to the
    lower number. As new numbers move those on borders, the count is repeated until there is nothing to merge.

    Args:
        corners: `(4, S)` west, south, east, north of each square in whole steps of a lattice.
        boxes: `(S,)` the squares in the CRS.
        xy_m: `(N, 2)` records in the CRS.
        min_records: smallest number that is enough.

    Returns:
        `(S,)` cell of each square, numbered by their first squares.

    >>> corners = np.array([[0, 0, 1, 1], [1, 0, 2, 1], [2, 0, 3, 1]]).T
    >>> xy_m = np.array([[0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [2.6, 0.5]])
    >>> join_poor(corners, shapely.box(*corners), xy_m, 2).tolist()
    [0, 0, 1]
    """
    cell = np.arange(corners.shape[1])
    while len(xy_m):
        held = np.bincount(holders(boxes, cell, xy_m), minlength=len(cell))
        if (held > 0).sum() < 2 or held[held > 0].min() >= min_records:
            break
        cell = _numbered(_join(corners, cell, held, min_records))
    return cell


def _join(corners: Integers, cell: Integers, held: Integers, min_records: int) -> Integers:
    """Repeatedly merge the cell with the fewest records, of equals the lowest, with its best neighbour."""
    cell, held = cell.copy(), held.copy()
    squares = _members(cell)
    filled = np.flatnonzero(held[cell] > 0)
    tree = shapely.STRtree(shapely.box(*corners[:, filled]))
    poor = [(int(held[number]), number) for number in np.flatnonzero((held > 0) & (held < min_records)).tolist()]
    heapq.heapify(poor)
    left = int((held > 0).sum())
    while poor and left > 1:
        records, poorest = heapq.heappop(poor)
        if held[poorest] != records:  # merged in the meantime
            continue
        neighbours = _nearest(tree, filled, corners, cell, squares[poorest])
        chosen = _best(np.unique(cell[neighbours]), poorest, squares, corners, held)
        cell[squares[poorest]] = chosen
        squares[chosen] = np.concatenate([squares[chosen], squares[poorest]])
        held[chosen] += records
        held[poorest] = 0
        left -= 1
        if held[chosen] < min_records:
            heapq.heappush(poor, (int(held[chosen]), chosen))
    return cell


def _members(cell: Integers) -> list[Integers]:
    """List the squares of each cell."""
    order = np.argsort(cell, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(cell[order])) + 1)


def _nearest(tree: shapely.STRtree, filled: Integers, corners: Integers, cell: Integers, own: Integers) -> Integers:
    """Find the filled squares of other cells that are nearest to a cell's own squares, in growing boxes."""
    reach = 0
    grown = np.array([-1, -1, 1, 1])[:, None]
    while True:
        one, other = tree.query(shapely.box(*(corners[:, own] + reach * grown)))
        one, other = own[one], filled[other]
        foreign = cell[other] != cell[own[0]]
        gap = _gap(corners[:, one[foreign]], corners[:, other[foreign]])
        if len(gap) and gap.min() <= 2 * reach**2 + 1:  # everything nearer than the reach has been found
            return np.unique(other[foreign][gap == gap.min()])
        reach = max(2 * reach, int(corners[2, own[0]] - corners[0, own[0]]))


def _best(neighbours: Integers, poorest: int, squares: list[Integers], corners: Integers, held: Integers) -> int:
    """Choose the cell that makes the smallest bounding box, of equals the one with the fewest records."""

    def rank(number: int) -> tuple[int, int, int]:
        both = corners[:, np.concatenate([squares[poorest], squares[number]])]
        side = max(both[2].max() - both[0].min(), both[3].max() - both[1].min())
        return int(side), int(held[number]), number

    best: int = min(neighbours.tolist(), key=rank)
    return best


def _gap(one: Integers, other: Integers) -> Integers:
    """Measure gaps of `(4, P)` squares: 0 for a common edge, 1 for a corner, else twice the squared distance."""
    along_x = np.minimum(one[2], other[2]) - np.maximum(one[0], other[0])  # negative for a gap
    along_y = np.minimum(one[3], other[3]) - np.maximum(one[1], other[1])
    apart = np.minimum(along_x, 0) ** 2 + np.minimum(along_y, 0) ** 2
    gap: Integers = 2 * apart + ((along_x == 0) & (along_y == 0))
    return gap


def _numbered(cell: Integers) -> Integers:
    """Renumber cells in the order of their first squares."""
    _, first, cell = np.unique(cell, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[cell]
