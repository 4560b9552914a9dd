"""Which pictures look alike: near-duplicates by hash, and a crude likeness by colours and gradients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors

HASH_RADIUS = 4  # of 64 bits that may differ between near-duplicates
SMALL_RADIUS = 14.0  # mean difference of the small copies in levels of 255, up to which they show the same
OF_CONTRAST = 0.25  # of the standard deviation of their levels: bare walls all look alike
FAINTEST = 3.0  # what JPEG at another quality does to a small copy
SAME_LEVEL = 10  # so near to the commonest colour, in levels of 255, a pixel counts as being of it
MOST_COMPARED = 150_000  # different hashes; beyond them only equal ones are held against each other
NEAREST = 3  # neighbours whose distance is averaged
SEARCHED = 50  # neighbours among which those of other classes are looked for


def small_copy(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average `(H, W, 3)` pixels to `(8, 8, 3)`."""
    return np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.BOX))


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
        pairs: `(P, 2)` pictures, the lower number first. Of several with one hash, not every pair stands here, but
            enough to join them.
        bits: `(P,)` how many bits of their hashes differ.
        complete: whether different hashes were compared too.
    """

    pairs: NDArray[np.int64]
    bits: NDArray[np.int64]
    complete: bool

    def clusters(self, count: int, *, most_bits: int = HASH_RADIUS) -> NDArray[np.int64]:
        """Number the clusters of pictures that hang together by pairs, `(count,)`."""
        pairs = self.pairs[self.bits <= most_bits]
        graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def near_duplicates(hashes: NDArray[np.uint8], small: NDArray[np.uint8], wanted: NDArray[np.bool_]) -> Alike:
    """Find pictures whose hashes differ in at most 4 of 64 bits and whose small copies have the same colours.

    Args:
        hashes: `(V, 64)` bits.
        small: `(V, 8, 8, 3)` small copies.
        wanted: `(V,)` which pictures to compare; even ones hash to noise.
    """
    rows = np.flatnonzero(wanted)
    different, first, which = np.unique(
        np.packbits(hashes[rows], axis=1).view(">u8").ravel(), return_index=True, return_inverse=True
    )
    order = np.lexsort((rows, which))
    behind = np.flatnonzero(np.diff(which[order]) == 0) + 1  # those that have the hash of the one before
    candidates = [
        np.column_stack([rows[first[which[order[behind]]]], rows[order[behind]]]),
        np.column_stack([rows[order[behind - 1]], rows[order[behind]]]),
    ]
    complete = len(different) <= MOST_COMPARED
    if complete and len(different) > 1:
        candidates.append(rows[first][_within_radius(hashes[rows[first]])])
    pairs = np.unique(np.sort(np.concatenate(candidates), axis=1), axis=0)
    pairs = pairs[(pairs[:, 0] != pairs[:, 1])]
    left, right = (small[pairs[:, side]].astype(np.float64) for side in (0, 1))
    contrast = np.minimum(left.std(axis=(1, 2)).max(axis=1), right.std(axis=(1, 2)).max(axis=1))
    allowed = np.clip(OF_CONTRAST * contrast, FAINTEST, SMALL_RADIUS)
    pairs = pairs[np.abs(left - right).mean(axis=(1, 2, 3)) <= allowed]
    return Alike(pairs, (hashes[pairs[:, 0]] != hashes[pairs[:, 1]]).sum(axis=1), complete)


def _within_radius(hashes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pairs of `(U, 64)` hashes that differ in few bits: of vectors of +1 and -1, the squared distance is 4 a bit."""
    signs = hashes.astype(np.float32) * 2 - 1
    search = NearestNeighbors(radius=np.sqrt(4 * (HASH_RADIUS + 0.5)), algorithm="brute").fit(signs)
    near = search.radius_neighbors(signs, return_distance=False)
    left = np.repeat(np.arange(len(signs)), [len(its) for its in near])
    right = np.concatenate(near).astype(np.int64)
    return np.column_stack([left, right])[left < right]


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
