import hashlib
from collections import Counter
from fractions import Fraction
from itertools import combinations
from math import ceil, floor

import numpy as np
import pytest

from waymark.data.splits import (
    by_blocks,
    by_hash,
    check_fractions,
    from_column,
    stratified,
    within_buffer,
)
from waymark.errors import SplitError

FRACTIONS = [(0.8, 0.1, 0.1), (0.7, 0.15, 0.15), (0.9, 0.05, 0.05), (0.8, 0.2, 0.0)]
GROUPS = [f"place-{number:05}" for number in range(10_000)]


@pytest.mark.parametrize("fractions", [*FRACTIONS, (1.0, 0.0, 0.0), (0.34, 0.33, 0.33)])
def test_fractions_that_add_up_are_taken(fractions):
    check_fractions(fractions)


@pytest.mark.parametrize(
    ("fractions", "said"),
    [
        ((0.8, 0.1, 0.2), r"add up to 1\.1; make them add up to 1"),
        ((0.8, 0.1, 0.05), r"add up to 0\.95;"),
        ((0.8, 0.1, 0.1001), r"add up to 1\.0001;"),
        ((0.8, 0.1, 0.10000001), r"add up to 1\.00000001;"),
        ((float("nan"), 0.1, 0.1), "add up to nan"),
        ((0.8, 0.2), "must be three shares"),
        ((1.1, -0.2, 0.1), "must be three shares"),
        ((0.0, 0.5, 0.5), "must be three shares"),
    ],
)
def test_fractions_that_are_no_division_are_refused_with_their_sum(fractions, said):
    with pytest.raises(SplitError, match=said):
        check_fractions(fractions)


@pytest.mark.parametrize("fractions", FRACTIONS)
def test_hash_comes_near_the_fractions_for_many_groups(fractions):
    counts = Counter(by_hash(GROUPS, fractions, 1).values())
    for split, fraction in zip(("train", "val", "test"), fractions, strict=True):
        deviation = (fraction * (1 - fraction) / len(GROUPS)) ** 0.5  # of a binomial share
        assert abs(counts[split] / len(GROUPS) - fraction) <= 4 * deviation


def test_hash_depends_on_group_and_seed_only():
    expected = by_hash(GROUPS, (0.8, 0.1, 0.1), 1)
    assert by_hash(GROUPS[::-1] + GROUPS[:50], (0.8, 0.1, 0.1), 1) == expected
    other = by_hash(GROUPS, (0.8, 0.1, 0.1), 2)
    moved = sum(other[group] != expected[group] for group in GROUPS) / len(GROUPS)
    assert moved == pytest.approx(1 - 0.8**2 - 0.1**2 - 0.1**2, abs=0.02)  # what independent draws would move


def test_hash_is_the_same_in_every_release():
    """Were it to change, yesterday's test records would be trained on."""
    assigned = by_hash(GROUPS[:200], (0.5, 0.25, 0.25), 7)
    for group, split in assigned.items():
        quarter = hashlib.sha256(f"7:{group}".encode()).digest()[0] // 64
        assert split == ("train", "train", "val", "test")[quarter]


def test_new_groups_never_move_old_ones():
    before = by_hash(GROUPS[:100], (0.8, 0.1, 0.1), 3)
    assert set(before.values()) == {"train", "val", "test"}
    after = by_hash(GROUPS, (0.8, 0.1, 0.1), 3)
    assert {group: after[group] for group in before} == before


def test_an_empty_split_is_filled_and_nothing_else_moves(caplog):
    groups = GROUPS[:4]
    for seed in range(60):
        raw = {group: by_hash(GROUPS, (0.8, 0.1, 0.1), seed)[group] for group in groups} if seed < 6 else None
        caplog.clear()
        assigned = by_hash(groups, (0.8, 0.1, 0.1), seed)
        assert set(assigned.values()) == {"train", "val", "test"}
        if raw is not None:
            missing = {"train", "val", "test"} - set(raw.values())
            moved = [group for group in groups if assigned[group] != raw[group]]
            assert len(moved) == len(missing) == len(caplog.records)
            assert {assigned[group] for group in moved} == missing


def test_a_split_of_fraction_zero_stays_empty():
    for seed in range(20):
        assert "test" not in by_hash(GROUPS[:3], (0.8, 0.2, 0.0), seed).values()
    assert set(by_hash(GROUPS[:1], (1.0, 0.0, 0.0), 1).values()) == {"train"}


@pytest.mark.parametrize(("groups", "fractions"), [(2, (0.8, 0.1, 0.1)), (1, (0.8, 0.2, 0.0)), (0, (1.0, 0.0, 0.0))])
def test_fewer_groups_than_splits_are_refused(groups, fractions):
    with pytest.raises(SplitError, match=f"{groups} groups cannot fill train"):
        by_hash(GROUPS[:groups] * 2, fractions, 1)


SIZES = [1] * 40 + [2] * 40 + [3] * 25 + [4] * 30 + [5, 7, 9, 10, 15, 20, 30, 37, 50, 100, 201] * 3


def of_classes(sizes):
    """Class of each group, by the number of groups of each class."""
    return {f"{its}-{number}": f"class {its}" for its, size in enumerate(sizes) for number in range(size)}


def counted(assigned, classes, sizes=None):
    """Records of each class by split."""
    counts = {its_class: Counter() for its_class in classes.values()}
    for group, its_class in classes.items():
        counts[its_class][assigned[group]] += 1 if sizes is None else sizes[group]
    return counts


@pytest.mark.parametrize("fractions", [*FRACTIONS, (0.42, 0.29, 0.29), (0.5, 0.0, 0.5)])
@pytest.mark.parametrize("seed", [1, 2])
def test_stratified_rounds_each_share_of_each_class_up_or_down(fractions, seed):
    classes = of_classes(SIZES)
    counts = counted(stratified(classes, fractions, seed), classes)
    for its_class, found in counts.items():
        size = found.total()
        assert found["train"] >= 1, its_class
        for split, fraction in zip(("train", "val", "test"), fractions, strict=True):
            share = size * Fraction(str(fraction))
            assert floor(share) <= found[split] <= ceil(share), (its_class, found)


@pytest.mark.parametrize("fractions", FRACTIONS)
@pytest.mark.parametrize("sizes", [SIZES, [4] * 200, [2] * 300, [3] * 100, [10] * 60, [1] * 50 + [4] * 200], ids=str)
def test_stratified_keeps_the_total_shares_however_tiny_the_classes(fractions, sizes):
    classes = of_classes(sizes)
    counts = Counter(stratified(classes, fractions, 1).values())
    for split, fraction in zip(("train", "val", "test"), fractions, strict=True):
        assert abs(counts[split] - fraction * len(classes)) <= 1.5, counts


def test_stratified_lets_no_class_make_good_for_more_than_one_record():
    """A thousand classes of one cannot give the 200 that 80/10/10 asks for, and 100 others are no quarry."""
    classes = of_classes([1] * 1000 + [15] * 10 + [20])
    counts = counted(stratified(classes, (0.8, 0.1, 0.1), 1), classes)
    assert all(counts[f"class {its}"]["train"] == 12 for its in range(1000, 1010))
    assert counts["class 1010"] == {"train": 16, "val": 2, "test": 2}


@pytest.mark.parametrize("size", [1, 2])
def test_stratified_takes_at_most_one_of_two_and_none_of_one(size):
    classes = of_classes([size] * 100 + [100])
    counts = counted(stratified(classes, (0.4, 0.3, 0.3), 1), classes)
    given = Counter(size - counts[f"class {its}"]["train"] for its in range(100))
    assert given == {size - 1: 100}  # two would give 1.2 away
    gave = [its for its in range(100) if counts[f"class {its}"]["test"]]
    assert (45 < len(gave) < 55) == (size == 2)


def test_stratified_takes_the_small_classes_first_so_that_large_ones_can_make_good(caplog):
    """Four classes of one leave 0.4 to give, with which a class of three gives one of its own without being forced."""
    for seed in range(10):
        assigned = stratified(of_classes([3, 1, 1, 1, 1]), (0.9, 0.1, 0.0), seed)
        assert sorted(assigned.values()) == [*["train"] * 6, "val"]
    assert not caplog.records


def test_stratified_does_not_take_val_and_test_from_the_same_tiny_classes():
    classes = of_classes([4] * 100)
    counts = counted(stratified(classes, (0.9, 0.05, 0.05), 1), classes).values()
    assert sum(its["val"] for its in counts) == sum(its["test"] for its in counts) == 20
    assert min(its["train"] for its in counts) == 3


@pytest.mark.parametrize(
    ("fractions", "expected"),
    [
        ((0.8, 0.1, 0.1), (80, 10, 10)),
        ((0.7, 0.15, 0.15), (70, 15, 15)),
        ((0.9, 0.05, 0.05), (90, 5, 5)),
        ((0.8, 0.2, 0.0), (80, 20, 0)),
    ],
)
@pytest.mark.parametrize("others", [[], [1] * 30, [3] * 17, [4] * 99])
def test_stratified_divides_a_hundred_as_it_says_whatever_else_there_is(fractions, expected, others):
    classes = of_classes([*others, 100])
    found = counted(stratified(classes, fractions, 1), classes)[f"class {len(others)}"]
    assert tuple(found[split] for split in ("train", "val", "test")) == expected


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.2, 0.4, 0.4), (0.1, 0.3, 0.6), (0.1, 0.6, 0.3)])
def test_stratified_trains_on_every_class_however_small(fractions):
    for size in range(1, 8):
        classes = of_classes([size] * 3)
        if size == 1:
            with pytest.raises(SplitError, match=r"stratified leaves val empty: no class has a group to spare.*hash"):
                stratified(classes, fractions, 1)
        else:
            assigned = stratified(classes, fractions, 1)
            assert all(its["train"] for its in counted(assigned, classes).values())
            assert set(assigned.values()) == {"train", "val", "test"}


def test_stratified_fills_an_empty_split_from_the_class_with_most(caplog):
    classes = of_classes([3, 4, 1])
    assigned = stratified(classes, (0.98, 0.01, 0.01), 1)
    assert sorted(assigned.values()) == ["test", *["train"] * 6, "val"]
    assert {its for its, split in assigned.items() if split != "train"} == {"0-0", "1-0"}
    assert [record.args[0] for record in caplog.records] == ["val", "test"]
    assert set(stratified(of_classes([1, 1]), (1.0, 0.0, 0.0), 1).values()) == {"train"}


def test_stratified_depends_on_the_seed_not_on_the_order():
    classes = {group: f"class {number % 7}" for number, group in enumerate(GROUPS[:700])}
    expected = stratified(classes, (0.8, 0.1, 0.1), 1)
    assert stratified(dict(reversed(classes.items())), (0.8, 0.1, 0.1), 1) == expected
    assert stratified(classes, (0.8, 0.1, 0.1), 2) != expected


@pytest.mark.parametrize("fractions", FRACTIONS)
def test_stratified_counts_records_where_groups_differ_in_size(fractions):
    rng = np.random.default_rng(3)
    classes = of_classes(rng.integers(1, 40, 80).tolist())
    sizes = {group: min(60, int(size)) for group, size in zip(classes, rng.pareto(1, len(classes)) + 1, strict=True)}
    found = counted(stratified(classes, fractions, 1, sizes), classes, sizes)
    total = sum(found.values(), Counter())
    records = sum(sizes.values())
    for split, fraction in zip(("train", "val", "test"), fractions, strict=True):
        assert total[split] / records == pytest.approx(fraction, abs=0.01), total
    for its_class, its in found.items():
        largest = max(sizes[group] for group in classes if classes[group] == its_class)
        assert its["train"] > 0
        assert its["val"] + its["test"] <= its.total() * (1 - fractions[0]) + 2 * largest


def test_stratified_fills_all_splits_where_classes_are_two_large_groups():
    classes = of_classes([2] * 100)
    counts = Counter(stratified(classes, (0.8, 0.1, 0.1), 1, dict.fromkeys(classes, 50)).values())
    assert counts == {"train": 160, "val": 20, "test": 20}


@pytest.fixture
def places():
    return np.random.default_rng(5).uniform(-100_000, 100_000, (1500, 2))


def test_blocks_give_whole_squares_to_one_split(places):
    splits = by_blocks(places, block_m=20_000, fractions=(0.6, 0.2, 0.2), seed=1)
    assert set(splits) == {"train", "val", "test"}
    held = {}
    for (x_m, y_m), split in zip(places, splits, strict=True):
        held.setdefault((x_m // 20_000, y_m // 20_000), set()).add(split)
    assert len(held) == 100  # the squares below zero too
    assert all(len(its) == 1 for its in held.values())


def test_squares_on_both_sides_of_zero_are_two():
    corner = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1], [150, 150], [250, 250]])
    splits = np.array([by_blocks(corner, block_m=100, fractions=(0.6, 0.2, 0.2), seed=seed) for seed in range(40)])
    for one, other in combinations(splits.T[:4], 2):
        assert (one != other).any()


def test_no_training_place_is_within_the_buffer_of_val_or_test(places):
    splits = np.array(by_blocks(places, block_m=20_000, fractions=(0.6, 0.2, 0.2), seed=1))
    near = within_buffer(places, splits.tolist(), 2_000)
    distance_m = np.linalg.norm(places[:, None] - places[None], axis=2)[:, splits != "train"].min(axis=1)
    np.testing.assert_array_equal(near, (splits == "train") & (distance_m < 2_000))
    assert near.any()
    assert (splits[~near] == "train").any()


def test_a_buffer_surrounds_val_and_test_not_the_unused():
    places = np.array([[0.0, 0], [100, 0], [5000, 0], [5100, 0]])
    assert within_buffer(places, ["train", "unused", "train", "val"], 1_000).tolist() == [False, False, True, False]
    assert not within_buffer(places, ["train", "unused", "train", "train"], 1_000).any()
    assert not within_buffer(places, ["test"] * 4, 1_000).any()
    assert not within_buffer(places, ["train", "val", "train", "val"], 0).any()


def test_a_column_brings_its_own_names():
    given = ["train", "Training", "val", "VALID", "validation", "test", None]
    assert from_column(given) == ["train", "train", "val", "val", "val", "test", "unused"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["train", "dev", "test"], "column split holds 'dev'; it may hold train, val and test"),
        (["train", ""], "column split holds ''"),
        ([None, None], "no record brings a split along; use hash"),
    ],
)
def test_a_column_of_other_words_is_refused(values, said):
    with pytest.raises(SplitError, match=said):
        from_column(values)
