import check_sources as made
import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from waymark.check.likeness import (
    HASH_RADIUS,
    colour_and_gradient,
    evenness,
    near_duplicates,
    small_copy,
    stranger_than_others,
)


def pixels(picture):
    return np.asarray(picture.resize((96, 96)))


@pytest.fixture
def hashes():
    """60 hashes: 20 at random, each with a copy of 0 to 7 bits flipped, and one with 0 to 3."""
    draws = np.random.default_rng(5)
    first = draws.integers(0, 2, (20, 64), dtype=np.uint8)
    flipped = [first]
    for most in (8, 4):
        copy = first.copy()
        for row, bits in enumerate(draws.integers(0, most, 20)):
            copy[row, draws.choice(64, bits, replace=False)] ^= 1
        flipped.append(copy)
    return np.concatenate(flipped)


def same_small(count):
    return np.broadcast_to(np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8), (count, 8, 8, 3))


def test_near_duplicates_hang_together_as_all_pairs_by_brute_force_do(hashes):
    distance = (hashes[:, None] != hashes).sum(axis=2)
    expected = connected_components(distance <= HASH_RADIUS, directed=False)[1]
    found = near_duplicates(hashes, same_small(60), np.ones(60, dtype=bool))
    clusters = found.clusters(60)
    assert 20 < len(set(expected)) < 40  # some copies are too far, others are near
    assert ((clusters[:, None] == clusters) == (expected[:, None] == expected)).all()
    left, right = found.pairs.T
    assert (left < right).all()
    assert (found.bits == distance[left, right]).all()
    assert found.bits.max() == HASH_RADIUS
    different = (distance <= HASH_RADIUS) & (distance > 0) & np.triu(np.ones((60, 60), dtype=bool))
    firsts = np.unique(hashes, axis=0, return_index=True)[1]
    wanted = {(int(one), int(other)) for one, other in np.argwhere(different) if {one, other} <= set(firsts.tolist())}
    assert wanted <= set(map(tuple, found.pairs.tolist()))


def test_pictures_that_nobody_asks_for_are_in_no_pair(hashes):
    wanted = np.arange(60) % 2 == 0
    pairs = near_duplicates(hashes, same_small(60), wanted).pairs
    assert len(pairs)
    assert wanted[pairs].all()
    assert len(near_duplicates(hashes, same_small(60), np.zeros(60, dtype=bool)).pairs) == 0


def test_one_hash_with_other_colours_is_no_duplicate():
    hashes = np.zeros((3, 64), np.uint8)
    small = np.stack([small_copy(pixels(made.scene(1)))] * 3)
    small[1] = 255 - small[1]
    assert near_duplicates(hashes, small, np.ones(3, dtype=bool)).pairs.tolist() == [[0, 2]]


def test_bare_walls_must_be_nearer_than_rich_pictures():
    """Ten levels of difference: nothing in a market place, another wall where all is grey."""
    hashes = np.zeros((2, 64), np.uint8)
    rich = np.random.default_rng(2).integers(10, 240, (8, 8, 3), dtype=np.uint8)
    wall = (120 + np.random.default_rng(3).integers(0, 20, (8, 8, 3))).astype(np.uint8)
    for small, count in ((rich, 1), (wall, 0)):
        assert len(near_duplicates(hashes, np.stack([small, small + 10]), np.ones(2, dtype=bool)).pairs) == count


def test_evenness_is_the_share_of_the_commonest_colour():
    picture = np.full((10, 10, 3), 100, np.uint8)
    picture[:, :2] = 200
    assert evenness(picture) == pytest.approx(0.8)
    assert evenness(pixels(made.scene(1))) < 0.3


def test_descriptors_follow_colours_and_edges():
    blue, other_blue, red = (
        colour_and_gradient(pixels(made.scene(seed, colours)))
        for seed, colours in (
            (1, ((20, 60, 120), (90, 180, 230))),
            (2, ((20, 60, 120), (90, 180, 230))),
            (1, ((120, 30, 10), (250, 170, 120))),
        )
    )
    assert np.linalg.norm(blue) == pytest.approx(2**0.5, rel=1e-5)
    assert np.linalg.norm(blue - other_blue) < np.linalg.norm(blue - red)
    bars = np.zeros((96, 96, 3), np.uint8)
    bars[:, ::8] = 255
    edges = colour_and_gradient(bars)[64:].reshape(16, 8)
    assert (edges[:, 0] > 0.9 * np.linalg.norm(edges, axis=1)).all()  # upright bars: across only, in every field
    turned = colour_and_gradient(bars.transpose(1, 0, 2))[64:].reshape(16, 8)
    assert (turned[:, 4] > 0.9 * np.linalg.norm(turned, axis=1)).all()


def test_a_picture_of_another_class_stands_out():
    draws = np.random.default_rng(4)
    descriptor = np.concatenate([draws.normal(0, 1, (30, 8)), draws.normal(6, 1, (30, 8))]).astype(np.float32)
    classes = np.repeat([0, 1], 30)
    classes[3] = 1  # lies among the others
    ratio = stranger_than_others(descriptor, classes, np.arange(60))
    assert ratio.argmax() == 3
    assert ratio[3] > 2
    assert (np.delete(ratio, 3) < 1).all()


def test_frames_of_a_clip_are_no_witnesses_for_each_other():
    """Class 0 is one clip among the pictures of class 1, and few others far away."""
    draws = np.random.default_rng(4)
    clip, others = draws.normal(0, 0.01, (10, 4)), draws.normal(0, 1, (30, 4))
    descriptor = np.concatenate([clip, draws.normal(9, 1, (5, 4)), others]).astype(np.float32)
    classes = np.repeat([0, 1], [15, 30])
    apart = np.arange(45)
    together = np.concatenate([np.zeros(10, dtype=int), np.arange(1, 36)])
    assert (stranger_than_others(descriptor, classes, apart)[:10] < 1).all()
    assert (stranger_than_others(descriptor, classes, together)[:10] > 1).all()
    one_group = np.concatenate([np.zeros(15, dtype=int), np.arange(1, 31)])  # no other witness: they count after all
    assert (stranger_than_others(descriptor, classes, one_group)[:10] < 1).all()


def test_one_class_or_one_picture_has_nothing_to_stand_out_from():
    descriptor = np.random.default_rng(1).random((4, 8)).astype(np.float32)
    assert stranger_than_others(descriptor, np.zeros(4, dtype=int), np.arange(4)).tolist() == [0] * 4
    assert stranger_than_others(descriptor, np.array([0, 1, 1, 1]), np.arange(4))[0] == 0
