import check_sources as made
import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from waymark.check.similarity import near_duplicates, stranger_than_others
from waymark.data.duplicates import MOST_BITS, Looks
from waymark.images.looking import colour_and_gradient, evenness


def pixels(picture):
    return np.asarray(picture.resize((96, 96)))


@pytest.fixture
def pictures():
    """60 pictures: 20 unlike each other, each with a copy of 0 to 7 bits flipped, and one with 0 to 3."""
    draws = np.random.default_rng(5)
    hashes = draws.integers(0, 2, (60, 64), dtype=np.uint8)
    for row in range(20, 60):
        hashes[row] = hashes[row % 20]
        hashes[row, draws.choice(64, draws.integers(0, 8 if row < 40 else 4), replace=False)] ^= 1
    numbers = np.packbits(hashes, axis=1).view(">u8").astype(np.uint64)
    return Looks(numbers, np.ones((60, 1), bool), np.full((60, 1, 3), 90.0), np.full((60, 1, 3), 40.0)), hashes


def test_near_duplicates_hang_together_as_all_pairs_by_brute_force_do(pictures):
    looks, hashes = pictures
    distance = (hashes[:, None] != hashes).sum(axis=2)
    expected = connected_components(distance <= MOST_BITS, directed=False)[1]
    found = near_duplicates(looks)
    clusters = found.clusters(60)
    assert 20 < len(set(expected)) < 40  # some copies are too far, others are near
    assert ((clusters[:, None] == clusters) == (expected[:, None] == expected)).all()
    left, right = found.pairs.T
    assert (left < right).all()
    assert (found.bits == distance[left, right]).all()
    assert found.bits.max() == MOST_BITS
    same = found.clusters(60, most_bits=0)
    assert ((same[:, None] == same) == (distance == 0)).all()
    different = (distance <= MOST_BITS) & (distance > 0) & np.triu(np.ones((60, 60), dtype=bool))
    firsts = np.unique(hashes, axis=0, return_index=True)[1]
    wanted = {(int(one), int(other)) for one, other in np.argwhere(different) if {one, other} <= set(firsts.tolist())}
    assert wanted <= set(map(tuple, found.pairs.tolist()))


def test_pictures_that_could_not_be_decoded_are_in_no_pair(pictures):
    looks, _ = pictures
    looks.seen[1::2] = False
    pairs = near_duplicates(looks).pairs
    assert len(pairs)
    assert (pairs % 2 == 0).all()
    looks.seen[:] = False
    assert near_duplicates(looks).pairs.shape == (0, 2)


def test_one_hash_with_other_colours_is_no_duplicate(pictures):
    looks, _ = pictures
    looks.hashes[:] = looks.hashes[0]
    looks.seen[3:] = False
    looks.mean[1] += 20
    assert near_duplicates(looks).pairs.tolist() == [[0, 2]]


def test_a_thousand_equal_pictures_are_joined_by_few_pairs(pictures):
    looks, _ = pictures
    many = Looks(*(np.repeat(part[:1], 1000, axis=0) for part in vars(looks).values()))
    found = near_duplicates(many)
    assert len(found.pairs) < 2000
    assert len(set(found.clusters(1000, most_bits=0))) == 1


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
