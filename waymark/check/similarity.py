"""Near-duplicates within a source, and pictures that are more similar to other landmarks than to their own."""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from waymark.data.duplicates import MOST_BITS, Looks, near_pairs

NEAREST = 3  # neighbours whose distance is averaged
SEARCHED = 50  # neighbours searched for those of other classes


@dataclass(frozen=True)
class Alike:
    """Pairs of near-duplicates among V pictures.

    Attributes:
        pairs: `(P, 2)` pictures, the lower number first. Of several identical ones not every pair is listed, but
            enough to connect them.
        bits: `(P,)` number of bits in which their hashes differ.
    """

    pairs: NDArray[np.int64]
    bits: NDArray[np.int64]

    def clusters(self, count: int, *, most_bits: int = MOST_BITS) -> NDArray[np.int64]:
        """Number the clusters of pictures that pairs connect, `(count,)`."""
        pairs = self.pairs[self.bits <= most_bits]
        graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def near_duplicates(pictures: Looks) -> Alike:
    """Find near-duplicate pictures, by the rule of `waymark.data.duplicates`.

    Args:
        pictures: V pictures, each as a record of one view.
    """
    rows = np.flatnonzero(pictures.telling[:, 0])
    figures = np.column_stack([pictures.mean[rows, 0], pictures.std[rows, 0], pictures.hashes[rows, 0].view(float)])
    _, first, same_as = np.unique(figures.view(np.int64), axis=0, return_index=True, return_inverse=True)
    order = np.lexsort((rows, same_as))
    again = np.flatnonzero(np.diff(same_as[order]) == 0) + 1  # those that are identical to the one before
    same = [rows[first[same_as[order[again]]]], rows[order[again]], rows[order[again - 1]], rows[order[again]]]
    near = list(near_pairs(pictures, rows[first], rows[first]))
    left = np.concatenate([*same[::2], *(pairs.left for pairs in near)])
    right = np.concatenate([*same[1::2], *(pairs.right for pairs in near)])
    bits = np.concatenate([np.zeros(2 * len(again), np.int64), *(pairs.bits for pairs in near)])
    pairs, where = np.unique(np.column_stack([left, right])[left < right], axis=0, return_index=True)
    return Alike(pairs, bits[left < right][where])


def stranger_than_others(
    descriptor: NDArray[np.float32], classes: NDArray[np.int64], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compute how much nearer pictures of other classes are than those of the own class.

    The mean distance to the three nearest of the own class, divided by that to the three nearest of others: above 1
    a picture is more similar to others. Pictures of the same group (frames of one clip) are not compared with each
    other, unless the class has no other group.

    Args:
        descriptor: `(N, D)`.
        classes: `(N,)` number of each picture's class.
        groups: `(N,)` number of each picture's group.

    Returns:
        `(N,)`; 0 if a class has only one picture or there is no other class.
    """
    ratio = np.zeros(len(classes))
    if len(np.unique(classes)) < 2:
        return ratio
    count = min(SEARCHED + 1, len(classes))
    search = faiss.IndexFlatL2(descriptor.shape[1])
    search.add(np.ascontiguousarray(descriptor, dtype=np.float32))
    squared, neighbour = search.search(np.ascontiguousarray(descriptor, dtype=np.float32), count)
    distance = np.sqrt(np.maximum(squared, 0))
    foreign = classes[neighbour] != classes[:, None]
    # If fewer than three of 50 are of other classes, the farthest of the 50 stands for those beyond it.
    others = np.sort(np.where(foreign, distance, distance[:, -1:]), axis=1)[:, :NEAREST].mean(axis=1)
    for one in np.unique(classes):
        rows = np.flatnonzero(classes == one)
        if len(rows) > 1:
            ratio[rows] = _own_distance(descriptor[rows], groups[rows]) / np.maximum(others[rows], 1e-6)
    return ratio


def _own_distance(descriptor: NDArray[np.float32], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the mean distance to the three nearest of the class, from other groups if there are any."""
    same = groups[:, None] == groups
    excluded = np.where(same.all(axis=1)[:, None], np.eye(len(groups), dtype=bool), same)
    distance = np.where(excluded, np.inf, cdist(descriptor, descriptor))
    nearest = np.sort(distance, axis=1)[:, :NEAREST]
    return np.asarray(np.nanmean(np.where(np.isfinite(nearest), nearest, np.nan), axis=1))
