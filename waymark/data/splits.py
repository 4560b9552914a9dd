"""Who is trained on, who chooses the model, who tests it."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from waymark.data.filters import hash_share
from waymark.errors import SplitError

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
HALF = Fraction(1, 2)

Assignment = dict[str, str]  # group -> split


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse fractions that are no division into train, val and test.

    Raises:
        SplitError: not three, one of them negative, nothing to train on, or a sum that is not 1.
    """
    if len(fractions) != 3 or min(fractions) < 0 or fractions[0] == 0:
        raise SplitError(f"fractions must be three shares (train, val, test) from 0 to 1, not {list(fractions)}")
    if not abs(sum(fractions) - 1) <= SUM_TOLERANCE:  # NaN is no sum either
        raise SplitError(f"fractions {list(fractions)} add up to {sum(fractions):.9g}; make them add up to 1")


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
        for group, own in assigned.items():
            held[own].append(group)
        spare = [group for groups in held.values() if len(groups) > 1 for group in groups]
        nearest = min(spare, key=lambda group: (abs(share[group] - middle), group))
        logger.warning("split %s came out empty: too few groups for a hash; group %s moves there", split, nearest)
        assigned[nearest] = split


def stratified(
    classes: Mapping[str, str], fractions: Sequence[float], seed: int, sizes: Mapping[str, int] | None = None
) -> Assignment:
    """Divide each class in the wanted shares, and all classes together, too.

    Of a class of n records without groups, train, val and test get n times their fraction, rounded up or down, and
    training at least one. What one class rounds off is carried to the next, so that the totals keep to the fractions
    even where every class is tiny: of classes of four, 90/5/5 takes a record for val or test from two in five. So

    * a class of one is trained on,
    * a class of two gives at most one away, and does so when it is its turn,
    * where the shares are whole, as of 100 or 20, they are exact.

    The smallest classes come first, equal ones in a seeded order. What a class of one can give to nobody is
    taken from larger classes, which then round up, but never by more than that.

    Where records come in groups, which are never split apart, the shares still count records: the largest groups go
    first, each to the split that lacks most. Then a class may miss its shares by as much as its largest group,
    which the next classes make good.

    Where a wanted split comes out empty, one group moves there from the class with most in training.

    Args:
        classes: class of each group.
        fractions: shares of train, val and test.
        seed: of the order in which classes and groups are taken.
        sizes: number of records of each group; 1 by default.

    Raises:
        SplitError: too few classes have several groups to fill the splits wanted.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for group, its_class in classes.items():
        members[its_class].append(group)
    sizes = dict.fromkeys(classes, 1) if sizes is None else sizes
    count = {its_class: sum(sizes[group] for group in groups) for its_class, groups in members.items()}
    quotas = _Quotas(fractions)
    assigned: Assignment = {}
    for its_class in sorted(members, key=lambda name: (count[name], hash_share(f"class {name}", seed), name)):
        groups = sorted(members[its_class], key=lambda group: (-sizes[group], hash_share(group, seed), group))
        wanted = quotas.of(count[its_class], largest=sizes[groups[0]])
        given = dict.fromkeys(SPLITS, 0)
        for group in groups:
            split = max(SPLITS, key=lambda split: wanted[split] - given[split])
            if group == groups[-1] and not given["train"]:
                split = "train"
            assigned[group] = split
            given[split] += sizes[group]
        quotas.carry(given)
    _fill_from_classes(assigned, members, sizes, fractions)
    return assigned


class _Quotas:
    """How many records of one class after the other go to each split, with what is carried between them."""

    def __init__(self, fractions: Sequence[float]) -> None:
        _, self.val, self.test = (Fraction(fraction).limit_denominator(10**6) for fraction in fractions)
        self.of_held = self.test / (self.val + self.test) if self.val + self.test else Fraction(0)
        self.owed = self.owed_test = Fraction(0)  # to val and test together, and to test of what both were given

    def of(self, records: int, *, largest: int) -> dict[str, int]:
        """Divide the records of a class whose largest group has so many."""
        slack = largest - 1  # as far beyond the next whole number as groups may make necessary
        val, test = records * self.val, records * self.test
        self.owed += val + test
        # First both together, so that val and test do not both take theirs from the same tiny class.
        held = ceil(self.owed - HALF)  # a half stays in training
        held = _within(held, floor(val + test) - slack, min(ceil(val + test) + slack, records - 1))
        tested = floor(held * self.of_held + self.owed_test + HALF)
        low, high = max(floor(test), held - ceil(val)) - slack, min(ceil(test), held - floor(val)) + slack
        tested = _within(tested, low, min(high, held))
        return {"train": records - held, "val": held - tested, "test": tested}

    def carry(self, given: Mapping[str, int]) -> None:
        """Take account of what the class really gave."""
        held = given["val"] + given["test"]
        self.owed -= held
        self.owed_test += held * self.of_held - given["test"]


def _within(number: int, low: int, high: int) -> int:
    return max(0, low, min(number, high))


def _fill_from_classes(
    assigned: Assignment, members: Mapping[str, list[str]], sizes: Mapping[str, int], fractions: Sequence[float]
) -> None:
    for split, fraction in zip(SPLITS, fractions, strict=True):
        if not fraction or split in assigned.values():
            continue
        trained = [[group for group in groups if assigned[group] == "train"] for groups in members.values()]
        spare = max(trained, key=len, default=[])
        if len(spare) < 2:  # every class keeps one for training
            spare = [group for group, split in assigned.items() if split != "train"]
        if len(spare) < 2:
            raise SplitError(
                f"stratified leaves {split} empty: no class has a group to spare, for each keeps one for training; use"
                " split.by: hash, raise filter.min_images, or give split.fractions a zero"
            )
        moved = min(spare, key=lambda group: (sizes[group], group))
        logger.warning("split %s came out empty: too few records in each class; group %s moves there", split, moved)
        assigned[moved] = split


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
