"""Who is trained on, who chooses the model, who tests it."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from waymark.errors import SplitError
from waymark.selection import hash_share

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
COLUMN_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
SUM_TOLERANCE = 1e-9

Assignment = dict[str, str]  # group -> split


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse fractions that are no division into train, val and test.

    Raises:
        SplitError: not three, one of them negative, nothing to train on, or a sum that is not 1.
    """
    if len(fractions) != 3 or min(fractions) < 0 or fractions[0] == 0:
        raise SplitError(f"split.fractions must be three shares (train, val, test) from 0 to 1, not {list(fractions)}")
    if not abs(sum(fractions) - 1) <= SUM_TOLERANCE:  # NaN is no sum either
        raise SplitError(f"split.fractions {list(fractions)} add up to {sum(fractions):.9g}; make them add up to 1")


def by_hash(groups: Sequence[str], fractions: Sequence[float], seed: int) -> Assignment:
    """Let a hash of the group decide, so that new data never moves old data.

    Where there are so few groups that a wanted split comes out empty, the group whose hash lies
    nearest to the middle of that split's interval moves there, from a split that has others. With dozens of groups or
    more that never happens, and the assignment depends on nothing but group and seed.

    Args:
        groups: groups that are never split apart, each once or more.
        fractions: shares of train, val and test.
        seed: another seed is another division.

    Raises:
        SplitError: fewer groups than splits wanted.
    """
    share = {group: hash_share(group, seed) for group in set(groups)}
    edges = np.cumsum(fractions)
    assigned = {group: SPLITS[min(int(np.searchsorted(edges, u, side="right")), 2)] for group, u in share.items()}
    _fill_empty(assigned, share, fractions, edges)
    return assigned


def _fill_empty(
    assigned: Assignment, share: Mapping[str, float], fractions: Sequence[float], edges: NDArray[np.float64]
) -> None:
    wanted = [split for split, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0]
    if len(share) < len(wanted):
        raise SplitError(
            f"{len(share)} groups cannot fill {' and '.join(wanted)}; add records, group them less coarsely"
            " (download.photos.group), or give split.fractions a zero"
        )
    empty = [split for split in wanted if split not in assigned.values()]
    for split in empty:
        middle = edges[SPLITS.index(split)] - fractions[SPLITS.index(split)] / 2
        held = defaultdict(list)
        for group, its in assigned.items():
            held[its].append(group)
        spare = [group for groups in held.values() if len(groups) > 1 for group in groups]
        nearest = min(spare, key=lambda group: (abs(share[group] - middle), group))
        logger.warning("split %s came out empty: too few groups for a hash; group %s moves there", split, nearest)
        assigned[nearest] = split


def stratified(classes: Mapping[str, str], fractions: Sequence[float], seed: int) -> Assignment:
    """Divide each class in the wanted shares, exactly.

    Of n groups of a class, test and val get their share rounded to the nearest whole (a half
    goes up) but leave at least one for training: a class of one is trained on, a class of two
    gives its second to test only where twice the share of test reaches a half.

    Args:
        classes: class of each group.
        fractions: shares of train, val and test.
        seed: of the order in which groups are taken.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for group, its_class in classes.items():
        members[its_class].append(group)
    assigned: Assignment = {}
    for groups in members.values():
        groups.sort(key=lambda group: (hash_share(group, seed), group))
        test = min(_nearest_whole(len(groups) * fractions[2]), len(groups) - 1)
        val = min(_nearest_whole(len(groups) * fractions[1]), len(groups) - 1 - test)
        for rank, group in enumerate(groups):
            assigned[group] = "test" if rank < test else "val" if rank < test + val else "train"
    return assigned


def _nearest_whole(share: float) -> int:
    """Round a half up; 50 * 0.29 is 14.5, though floats say 14.499999999999998.

    >>> _nearest_whole(50 * 0.29)
    15
    """
    return int(round(share, 9) + 0.5)


def by_blocks(xy_m: NDArray[np.float64], *, block_m: float, fractions: Sequence[float], seed: int) -> list[str]:
    """Divide by place: whole squares go to one split.

    Args:
        xy_m: `(N, 2)` places in metres.
        block_m: side of the squares.
        fractions: shares of the squares for train, val and test.
        seed: of the hash of a square.
    """
    blocks = [f"{column},{row}" for column, row in np.floor(xy_m / block_m).astype(int).tolist()]
    assigned = by_hash(blocks, fractions, seed)
    return [assigned[block] for block in blocks]


def within_buffer(xy_m: NDArray[np.float64], splits: Sequence[str], buffer_m: float) -> NDArray[np.bool_]:
    """Find training places nearer than `buffer_m` to one of val or test.

    Args:
        xy_m: `(N, 2)` places in metres.
        splits: split of each.
        buffer_m: width of the strip in which nobody is trained on.
    """
    train = np.array([split == "train" for split in splits], dtype=bool)
    held_out = np.array([split in ("val", "test") for split in splits], dtype=bool)
    near = np.zeros(len(splits), dtype=bool)
    if buffer_m > 0 and train.any() and held_out.any():
        distance_m, _ = cKDTree(xy_m[held_out]).query(xy_m[train])
        near[train] = distance_m < buffer_m
    return near


def from_column(values: Sequence[str | None]) -> list[str]:
    """Take the division that the data brings along; a record without one is unused.

    Raises:
        SplitError: a value is no split's name, or no record has one.
    """
    splits = ["unused" if value is None else COLUMN_NAMES.get(value.lower(), "") for value in values]
    if "" in splits:
        wrong = values[splits.index("")]
        raise SplitError(f"column split holds {wrong!r}; it may hold train, val and test")
    if set(splits) == {"unused"}:
        raise SplitError("split.by is column, but no record brings a split along; use hash, stratified or blocks")
    return splits


def near_duplicates(hashes: Sequence[str], splits: Sequence[str]) -> NDArray[np.bool_]:
    """Find training records that look like one of val or test: the training copy yields.

    Args:
        hashes: perceptual hash of each record's views, joined; empty where it has none.
        splits: split of each record.

    Returns:
        `(N,)` whether the record is a training copy.
    """
    held_out = {hash for hash, split in zip(hashes, splits, strict=True) if split in ("val", "test") and hash}
    return np.array(
        [split == "train" and hash in held_out for hash, split in zip(hashes, splits, strict=True)], dtype=bool
    )
