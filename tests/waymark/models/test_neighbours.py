"""Whitening, neighbours and prototypes against their definitions."""

import numpy as np
import pytest

from waymark.models.neighbours import (
    Spread,
    class_prototypes,
    fit_whitening,
    median_place,
    mixed,
    neighbour_spread,
)


def unit(features):
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def features():
    rng = np.random.default_rng(3)
    return (rng.normal(size=(400, 5)) * [9, 3, 1, 0.3, 0.1] @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + 7).astype(
        np.float32
    )


def test_whitened_features_vary_alike_in_all_directions(features):
    whitening = fit_whitening(features)
    turned = (features - whitening.mean) @ whitening.components.T / np.sqrt(whitening.variance)
    np.testing.assert_allclose(np.cov(turned.T), np.eye(5), atol=1e-3)
    np.testing.assert_allclose(whitening.apply(features, 0.0), unit(turned), atol=1e-5)


def test_much_shrinkage_leaves_the_angles_of_the_centred_features(features):
    white = fit_whitening(features).apply(features, 1e9)
    centred = unit(features - features.mean(axis=0))
    np.testing.assert_allclose(white @ white.T, centred @ centred.T, atol=1e-3)


def test_whitening_knows_the_training_records_alone(features):
    whitening = fit_whitening(features[:300])
    np.testing.assert_array_equal(whitening.mean, fit_whitening(features[:300]).mean)
    np.testing.assert_allclose(whitening.mean, features[:300].mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize(("dimensions", "kept"), [(None, 5), (2, 2), (50, 5)])
def test_as_many_dimensions_as_wanted_are_kept(features, dimensions, kept):
    assert fit_whitening(features, dimensions).apply(features, 0.1).shape == (400, kept)


def test_fewer_records_than_features_have_one_direction_less_than_records(features):
    assert fit_whitening(features[:4]).apply(features, 0.1).shape == (400, 3)


def test_a_prototype_is_the_mean_of_a_class(features):
    looks, label = unit(features), np.arange(400) % 3
    found = class_prototypes(looks, label, 4)
    for number in range(3):
        mean = looks[label == number].mean(axis=0)
        np.testing.assert_allclose(found[number], mean / np.linalg.norm(mean), atol=1e-5)
    assert not found[3].any()


def test_neighbours_are_weighed_by_the_softmax_of_their_cosines(features):
    looks, xy_m = unit(features - 7), np.random.default_rng(1).uniform(0, 1e4, (400, 2))
    spread = neighbour_spread(looks[:5], looks[5:], xy_m[5:], neighbours=7, temperature=0.1)
    cosine = looks[:5] @ looks[5:].T
    for row in range(5):
        nearest = np.argsort(-cosine[row], kind="stable")[:7]
        weights = np.exp(cosine[row, nearest] / 0.1)
        np.testing.assert_allclose(spread.weights[row], weights / weights.sum(), rtol=1e-3)
        np.testing.assert_array_equal(spread.positions_m[row], xy_m[5:][nearest])


def test_the_temperature_evens_the_weights(features):
    looks, xy_m = unit(features - 7), np.zeros((400, 2))
    cold, warm = (
        neighbour_spread(looks[:5], looks[5:], xy_m[5:], neighbours=7, temperature=temperature).weights
        for temperature in (0.001, 100.0)
    )
    assert (cold[:, 0] > warm[:, 0]).all()
    np.testing.assert_allclose(warm, 1 / 7, rtol=0.01)


def test_all_are_asked_where_there_are_fewer_neighbours_than_wanted(features):
    looks = unit(features)
    assert (
        neighbour_spread(looks[:2], looks[2:5], np.zeros((3, 2)), neighbours=9, temperature=1.0).weights.shape[1] == 3
    )


def test_the_median_of_a_majority_is_its_place():
    spread = Spread(np.array([[0.6, 0.2, 0.2]]), np.array([[[5.0, 7.0], [0.0, 0.0], [9.0, 0.0]]]))
    np.testing.assert_allclose(median_place(spread), [[5.0, 7.0]], atol=0.01)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, [0.0, 0.0]), (1.0, [8.0, 8.0]), (0.4, [0.0, 0.0]), (0.6, [8.0, 8.0])]
)
def test_a_mix_answers_as_the_larger_share(share, expected):
    one = Spread(np.ones((1, 1)), np.array([[[0.0, 0.0]]]))
    other = Spread(np.ones((1, 1)), np.array([[[8.0, 8.0]]]))
    found = mixed(one, other, share)
    assert found.weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(median_place(found), [expected], atol=0.01)
