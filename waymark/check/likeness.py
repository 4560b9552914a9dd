"""Which pictures of a source are near-duplicates, and a crude likeness of others by colours and gradients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

from waymark.likeness import MOST_BITS, Looks, near_pairs

SAME_LEVEL = 10  # so near to the commonest colour, in levels of 255, a pixel counts as being of it
NEAREST = 3  # neighbours whose distance is averaged
SEARCHED = 50  # neighbours among which those of other classes are looked for


def evenness(pixels: NDArray[np.uint8]) -> float:
    """Share of the `(H, W, 3)` pixels that have the picture's median colour, nearly.

    >>> evenness(np.full((8, 8, 3), 200, np.uint8))
    1.0
    """
    flat = pixels.reshape(-1, 3).astype(np.int16)
    return float((np.abs(flat - np.median(flat, axis=0)) <= SAME_LEVEL).all(axis=1).mean())


def colour_and_gradient(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe `(H, W, 3)` pixels by 64 colours and by 8 directions of edges in 16 fields, `(192,)`.

    Square roots of histograms, so that Euclidean distance is Hellinger's; colours and edges weigh the same.
    """
    levels = pixels.reshape(-1, 3) >> 6
    colours = np.bincount(levels @ np.array([16, 4, 1]), minlength=64).astype(np.float64)
    grey = pixels.astype(np.float64).mean(axis=2)
    down, across = np.gradient(grey)
    direction = np.minimum((np.arctan2(down, across) % np.pi) / np.pi * 8, 7).astype(int)
    rows, columns = (np.minimum(np.arange(side) * 4 // side, 3) for side in grey.shape)
    field = (rows[:, None] * 4 + columns) * 8 + direction
    edges = np.bincount(field.ravel(), weights=np.hypot(down, across).ravel(), minlength=128)
    parts = [np.sqrt(part / max(part.sum(), 1e-9)) for part in (colours, edges)]
    return np.concatenate(parts).astype(np.float32)


@dataclass(frozen=True)
class Alike:
    """Pairs of near-duplicates among V pictures.

    Attributes:
        pairs: `(P, 2)` pictures, the lower number first. Of several that are the same, not every pair stands here,
            but enough to join them.
        bits: `(P,)` how many bits of their hashes differ.
    """

    pairs: NDArray[np.int64]
    bits: NDArray[np.int64]

    def clusters(self, count: int, *, most_bits: int = MOST_BITS) -> NDArray[np.int64]:
        """Number the clusters of pictures that hang together by pairs, `(count,)`."""
        pairs = self.pairs[self.bits <= most_bits]
        graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def near_duplicates(pictures: Looks) -> Alike:
    """Find pictures that show the same, by the rule of `waymark.likeness`.

    Args:
        pictures: V pictures, each as a record of one view.
    """
    rows = np.flatnonzero(pictures.telling[:, 0])
    figures = np.column_stack([pictures.mean[rows, 0], pictures.std[rows, 0], pictures.hashes[rows, 0].view(float)])
    _, first, same_as = np.unique(figures.view(np.int64), axis=0, return_index=True, return_inverse=True)
    order = np.lexsort((rows, same_as))
    again = np.flatnonzero(np.diff(same_as[order]) == 0) + 1  # those that look just as the one before
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
    """How much nearer pictures of other classes look than those of a picture's own.

    The mean distance to the three nearest of the own class, divided by that to the three nearest of others: above 1
    a picture looks more like others. Pictures of the same group (frames of one clip) are no witnesses for each
    other, unless the class has no other group.

    Args:
        descriptor: `(N, D)`.
        classes: `(N,)` number of each picture's class.
        groups: `(N,)` number of each picture's group.

    Returns:
        `(N,)`; 0 where a class has but one picture or nothing stands against it.
    """
    ratio = np.zeros(len(classes))
    if len(np.unique(classes)) < 2:
        return ratio
    count = min(SEARCHED + 1, len(classes))
    distance, neighbour = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(descriptor).kneighbors(descriptor)
    strange = classes[neighbour] != classes[:, None]
    # Where fewer than three of 50 are strangers, the farthest of the 50 stands for those beyond it.
    strangers = np.sort(np.where(strange, distance, distance[:, -1:]), axis=1)[:, :NEAREST].mean(axis=1)
    for one in np.unique(classes):
        rows = np.flatnonzero(classes == one)
        if len(rows) > 1:
            ratio[rows] = _own_distance(descriptor[rows], groups[rows]) / np.maximum(strangers[rows], 1e-6)
    return ratio


def _own_distance(descriptor: NDArray[np.float32], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean distance of each to the three nearest of its class, from other groups where there are any."""
    same = groups[:, None] == groups
    unwanted = np.where(same.all(axis=1)[:, None], np.eye(len(groups), dtype=bool), same)
    distance = np.where(unwanted, np.inf, pairwise_distances(descriptor))
    nearest = np.sort(distance, axis=1)[:, :NEAREST]
    return np.asarray(np.nanmean(np.where(np.isfinite(nearest), nearest, np.nan), axis=1))
