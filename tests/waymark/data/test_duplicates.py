"""The rule of near-duplicates against a pair-by-pair reading of its words."""

import time

import imagehash
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from waymark.data.duplicates import Looks, copies_between, looks_of, near_pairs
from waymark.images.resizing import channel_figures, perceptual_hash
from waymark.images.shards import INDEX_SCHEMA

SIZE_PX = 32


def random_looks(count, views=1, seed=1):
    """Records of which none look alike."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, (count, views), dtype=np.uint64)
    shape = (count, views, 3)
    return Looks(hashes, np.ones((count, views), bool), rng.uniform(0, 255, shape), rng.uniform(20, 60, shape))


def copy_view(looks, source, target, view, bits=0, brighter=0.0):
    """Let a record's view look like another's, but for some bits and levels."""
    flipped = int(looks.hashes[source, view])
    for bit in range(bits):
        flipped ^= 1 << (7 * bit % 64)
    looks.hashes[target, view] = flipped
    looks.mean[target, view] = looks.mean[source, view] + brighter
    looks.std[target, view] = looks.std[source, view]


def by_hand(looks, one, other):
    """The bits in which two records that are near-duplicates differ at most, None where they are none."""
    most = None
    for view in range(looks.hashes.shape[1]):
        digits = [format(int(looks.hashes[row, view]), "064b") for row in (one, other)]
        if not all(looks.seen[row, view] for row in (one, other)):
            continue
        if any(its.count("1") <= 4 or its.count("0") <= 4 for its in digits):
            continue
        bits = sum(left != right for left, right in zip(*digits, strict=True))
        contrast = min(max(looks.std[row, view]) for row in (one, other))
        allowed = min(max(contrast / 4, 3), 14)
        for figures in (looks.mean, looks.std):
            if any(abs(left - right) > allowed for left, right in zip(*figures[[one, other], view], strict=True)):
                return None
        if bits > 4:
            return None
        most = max(bits, most or 0)
    return most


def found_pairs(looks, left, right):
    return {
        (int(one), int(other)): int(bits)
        for pairs in near_pairs(looks, np.asarray(left), np.asarray(right))
        for one, other, bits in zip(*pairs, strict=True)
    }


@pytest.mark.parametrize("views", [1, 2, 4])
def test_pairs_are_those_of_the_rule_read_word_by_word(views):
    rng = np.random.default_rng(views)
    looks = random_looks(160, views)
    for target in range(80, 160):
        for view in range(views):
            copy_view(looks, target - 80 - target % 3, target, view, rng.integers(0, 6), rng.choice([0, 4, 13, 30]) / 4)
    looks.hashes[rng.integers(0, 160, 12), rng.integers(0, views, 12)] &= np.uint64(0b1111)  # without structure
    looks.seen[rng.integers(0, 160, 25), rng.integers(0, views, 25)] = False
    left, right = np.arange(0, 120), np.arange(60, 160)
    expected = {
        (one, other): bits
        for one in left.tolist()
        for other in right.tolist()
        if one != other and (bits := by_hand(looks, one, other)) is not None
    }
    assert found_pairs(looks, left, right) == expected
    assert 10 < len(expected) < 200
    assert set(expected.values()) == {0, 1, 2, 3, 4}


def test_up_to_four_bits_and_a_quarter_of_the_contrast_may_differ():
    looks = random_looks(8)
    looks.mean[0], looks.std[0] = 100, 40
    for target, bits, brighter in [(1, 4, 0), (2, 5, 0), (3, 0, 10), (4, 0, 10.1), (5, 4, -10)]:
        copy_view(looks, 0, target, 0, bits, brighter)
    assert found_pairs(looks, [0], range(1, 8)) == {(0, 1): 4, (0, 3): 0, (0, 5): 4}


def test_bare_walls_must_be_nearer_than_rich_pictures():
    looks = random_looks(4)
    looks.mean[[0, 2]], looks.std[0], looks.std[2] = 100, 60, 8
    for source in (0, 2):
        copy_view(looks, source, source + 1, 0, brighter=5)
    assert found_pairs(looks, [0, 2], [1, 3]) == {(0, 1): 0}
    looks.std[3] = 12  # another contrast
    looks.mean[3] = looks.mean[2]
    assert (2, 3) not in found_pairs(looks, [2], [3])
    looks.std[2], looks.std[3] = 20, 25  # the fainter one allows 5 levels
    assert (2, 3) in found_pairs(looks, [2], [3])
    looks.mean[3] += 6
    assert (2, 3) not in found_pairs(looks, [2], [3])


def test_every_view_that_both_have_must_be_alike():
    looks = random_looks(6, views=4)
    for view in range(4):
        copy_view(looks, 0, 1, view, bits=view)
        copy_view(looks, 0, 3, view)
    copy_view(looks, 0, 2, 1)  # a notice in the place of one view
    looks.seen[3, [0, 2, 3]] = False
    assert found_pairs(looks, [0], range(1, 6)) == {(0, 1): 3, (0, 3): 0}
    looks.seen[3] = [True, False, False, False]
    looks.seen[0, 0] = False
    assert found_pairs(looks, [0], [3]) == {}  # no view that both have


def test_views_without_structure_say_nothing_for_or_against():
    looks = random_looks(4, views=2)
    copy_view(looks, 0, 1, 0)
    looks.hashes[[0, 1], 1] = 0, 2**64 - 1
    assert found_pairs(looks, [0], [1]) == {(0, 1): 0}
    looks.hashes[[0, 1], 0] = 15
    assert found_pairs(looks, [0], [1]) == {}
    assert looks.telling[0].tolist() == [False, False]


def test_copies_name_the_nearest_and_everyone_who_is_copied():
    looks = random_looks(10)
    for target, bits in ((5, 3), (6, 1), (7, 1)):
        copy_view(looks, 2, target, 0, bits)
    copies = copies_between(looks, np.array([2, 3]), np.array([4, 7, 6, 5]))
    assert [part.tolist() for part in copies.nearest] == [[2], [6], [1]]
    assert copies.copied.tolist() == [False, True, True, True]


@pytest.mark.parametrize(("rows", "others"), [([], [1, 2]), ([1, 2], []), ([], [])])
def test_nothing_has_no_copies(rows, others):
    rows, others = (np.array(its, dtype=np.int64) for its in (rows, others))
    copies = copies_between(random_looks(3), rows, others)
    assert [len(part) for part in copies.nearest] == [0, 0, 0]
    assert copies.copied.tolist() == [False] * len(others)


def picture(seed):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return np.asarray(small.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC))


def index_of(rows):
    """An index of shards; rows are (record_id, view, pixels or None)."""
    table = [
        {"record_id": record_id, "view": view, "status": "missing"}
        if pixels is None
        else {
            "record_id": record_id, "view": view, "status": "ok", "shard": 0, "row": 0,
            "perceptual_hash": perceptual_hash(pixels), **channel_figures(pixels),
        }
        for record_id, view, pixels in rows
    ]  # fmt: skip
    return pa.Table.from_pylist(table, INDEX_SCHEMA).replace_schema_metadata({"size_px": str(SIZE_PX)})


def test_looks_are_read_from_the_index_whatever_its_order():
    shown = {("b", 0): picture(1), ("b", 2): picture(2), ("a", 0): picture(3), ("other", 0): picture(4)}
    rows = [(*key, pixels) for key, pixels in shown.items()] + [("c", 0, None), ("b", 1, None)]
    index = pa.concat_tables([index_of(rows[:2]), index_of(rows[2:])])
    looks = looks_of(index, ["a", "b", "c", "unknown"])
    assert looks.seen.tolist() == [[True, False, False], [True, False, True], [False] * 3, [False] * 3]
    assert looks.pictured.tolist() == [True, True, False, False]
    for row, view, key in ((0, 0, ("a", 0)), (1, 0, ("b", 0)), (1, 2, ("b", 2))):
        pixels = shown[key].astype(float)
        np.testing.assert_allclose(looks.mean[row, view], pixels.mean(axis=(0, 1)), rtol=1e-12)
        np.testing.assert_allclose(looks.std[row, view], pixels.std(axis=(0, 1)), rtol=1e-9)
        expected = imagehash.dhash(Image.fromarray(shown[key])).hash.ravel()
        assert format(int(looks.hashes[row, view]), "064b") == "".join(str(int(bit)) for bit in expected)
    assert len(looks_of(index, [])) == 0
    assert not looks_of(index_of([]), ["a"]).pictured.any()


def test_a_picture_saved_again_is_a_copy_and_another_is_not(tmp_path):
    pictures = [picture(seed) for seed in range(30)]
    again = []
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg", quality=75)
        with Image.open(tmp_path / f"{number}.jpg") as jpeg:
            again.append(np.asarray(jpeg.convert("RGB")))
    rows = [(f"r{number:02}", 0, pixels) for number, pixels in enumerate([*pictures, *again])]
    looks = looks_of(index_of(rows), [f"r{number:02}" for number in range(60)])
    assert set(found_pairs(looks, range(30), range(30, 60))) == {(number, number + 30) for number in range(30)}


def test_ten_thousand_against_forty_thousand_take_seconds():
    looks = random_looks(50_000)
    start = time.process_time()
    copies_between(looks, np.arange(10_000), np.arange(10_000, 50_000))
    assert time.process_time() - start < 10


def test_many_that_all_look_alike_are_searched_in_parts(monkeypatch):
    monkeypatch.setattr("waymark.data.duplicates._PAIRS_AT_ONCE", 1000)
    looks = random_looks(300)
    for target in range(1, 300):
        copy_view(looks, 0, target, 0)
    copies = copies_between(looks, np.arange(100), np.arange(100, 300))
    assert copies.nearest.left.tolist() == list(range(100))
    assert set(copies.nearest.right.tolist()) == {100}
    assert copies.copied.all()
