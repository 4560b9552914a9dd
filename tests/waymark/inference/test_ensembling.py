"""Several models that answer together, against slow references of their own."""

import numpy as np
import pandas as pd
import pytest
from pyproj import Geod
from scipy.optimize import minimize

from waymark.inference.ensembling import combined_candidates, combined_places, combined_ranks

SPHERE = Geod(a=6371008.8, b=6371008.8)


def sum_km(place, answers, weights):
    places = [np.full(len(answers), its) for its in place]
    metres = SPHERE.inv(places[1], places[0], answers[:, 1], answers[:, 0])[2]
    return float(np.dot(weights, metres)) / 1000


def best_km(answers, weights):
    """Search for the least sum from each of the answers and from between them."""
    starts = [*answers, answers.mean(axis=0)]
    return min(
        minimize(sum_km, start, (answers, weights), "Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}).fun
        for start in starts
    )


@pytest.mark.parametrize("models", [2, 3, 4, 7])
@pytest.mark.parametrize("spread_deg", [0.01, 1.0, 30.0])
def test_the_median_has_the_least_sum_of_great_circle_distances(models, spread_deg):
    rng = np.random.default_rng(models)
    answers = np.array([45.0, 16.0]) + rng.normal(0, spread_deg, (models, 6, 2))
    answers[..., 0] = answers[..., 0].clip(-89, 89)
    weights = rng.uniform(0.5, 1.0, models)
    found = combined_places(answers, weights)
    for record in range(6):
        reached = sum_km(found[record], answers[:, record], weights)
        assert reached == pytest.approx(best_km(answers[:, record], weights), rel=1e-6, abs=1e-6)


def test_one_model_that_is_far_off_moves_the_median_little_and_the_mean_much():
    answers = np.array([[[45.0, 16.0]], [[45.1, 16.0]], [[45.0, 16.1]], [[10.0, 80.0]]])
    median, mean = (combined_places(answers, [1, 1, 1, 1], combine)[0] for combine in ("median", "mean"))
    assert sum_km(median, answers[0], [1]) < 15
    assert sum_km(mean, answers[0], [1]) > 1000


def test_two_equal_answers_meet_halfway_also_over_the_antimeridian_and_the_pole():
    answers = np.array([[[10.0, 179.0], [80.0, 0.0], [45.0, 16.0]], [[10.0, -179.0], [80.0, 180.0], [45.0, 16.0]]])
    for combine in ("median", "mean"):
        found = combined_places(answers, [2, 2], combine)
        assert abs(found[0, 1]) == pytest.approx(180)
        assert found[1, 0] == pytest.approx(90)
        assert found[2] == pytest.approx([45.0, 16.0])


def test_the_mean_is_the_direction_of_the_weighted_vectors():
    rng = np.random.default_rng(3)
    answers, weights = rng.uniform([-80, -180], [80, 180], (3, 20, 2)), np.array([1.0, 2.0, 5.0])
    latitude, longitude = np.radians(answers[..., 0]), np.radians(answers[..., 1])
    x, y, z = (
        (weights[:, None] * its).sum(axis=0)
        for its in (np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude))
    )
    found = combined_places(answers, weights, "mean")
    assert found[:, 0] == pytest.approx(np.degrees(np.arcsin(z / np.sqrt(x**2 + y**2 + z**2))))
    assert found[:, 1] == pytest.approx(np.degrees(np.arctan2(y, x)))


def test_the_median_leaves_an_answer_on_which_the_mean_falls():
    """Where a step starts from an answer, those of Weiszfeld alone would stay there."""
    west = np.degrees(np.arcsin(2 * np.cos(np.radians(5)) * np.sin(np.radians(10))))
    answers = np.array([[[0.0, 0.0]], [[5.0, 10.0]], [[-5.0, 10.0]], [[0.0, -west]]])
    weights = [0.01, 1.0, 1.0, 1.0]
    assert combined_places(answers, weights, "mean")[0] == pytest.approx([0.0, 0.0], abs=1e-12)
    found = combined_places(answers, weights)[0]
    assert sum_km(found, answers[:, 0], weights) == pytest.approx(best_km(answers[:, 0], weights), rel=1e-7)
    assert found[1] > 5


def test_opposite_answers_and_missing_ones():
    answers = np.array([[[0.0, 0.0], [np.nan, np.nan]], [[0.0, 180.0], [45.0, 16.0]]])
    for combine in ("median", "mean"):
        found = combined_places(answers, [1, 1.0], combine)
        assert np.isfinite(found[0]).all()
        assert np.isnan(found[1]).all()
    three = np.array([[[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 180.0]]])
    assert combined_places(three, [1, 1, 2], "mean")[0] == pytest.approx([0.0, 180.0])  # that of the greatest weight


def member(scores, val=(0.0, 2.0), truths=None, ranks=None):
    """Make a model's files: scores by record and landmark, and val scores that standardise them."""
    rows = [
        {"record_id": record, "landmark": landmark, "score": score}
        for record, its in scores.items()
        for landmark, score in its.items()
    ]
    predictions = pd.DataFrame(
        [
            *({"record_id": f"val{row}", "split": "val", "score": score} for row, score in enumerate(val)),
            *({"record_id": record, "split": "test", "score": max(its.values())} for record, its in scores.items()),
        ]
    )
    of_record = predictions["record_id"].map
    predictions["landmarks"] = [(truths or {}).get(record, []) for record in predictions["record_id"]]
    predictions["rank"] = of_record(ranks or {}).astype("Int64")
    return pd.DataFrame(rows), predictions


def test_candidates_add_up_standardised_by_val_and_the_absent_count_as_the_lowest():
    first = member({"r": {"a": 3.0, "b": 1.0}}, val=(0.0, 2.0))  # mean 1, deviation 1
    second = member({"r": {"b": 300.0, "c": 200.0}}, val=(50.0, 150.0))  # mean 100, deviation 50
    found = combined_candidates([first[0], second[0]], [first[1], second[1]], [1, 3])
    score = {"a": (2 + 3 * 2) / 4, "b": (0 + 3 * 4) / 4, "c": (0 + 3 * 2) / 4}
    assert dict(zip(found["landmark"], found["score"], strict=True)) == pytest.approx(score)
    assert found["landmark"].tolist() == ["b", "a", "c"]
    assert found["place"].tolist() == [1, 2, 3]


def test_scores_of_a_constant_model_and_equal_ones_keep_an_order():
    first, second = member({"r": {"b": 1.0, "a": 1.0}}, val=(1.0, 1.0)), member({"r": {"a": 5.0, "b": 5.0}}, val=())
    found = combined_candidates([first[0], second[0]], [first[1], second[1]], [1, 1])
    assert found["landmark"].tolist() == ["a", "b"]
    assert np.isfinite(found["score"]).all()


def test_agreement_outvotes_one_certain_model():
    votes = [{"r": {"a": 2.5, "b": 0.0}}, {"r": {"b": 2.0, "a": 0.0}}, {"r": {"b": 1.8, "a": 0.0}}]
    members = [member(its) for its in votes]
    candidates, predictions = ([its[part] for its in members] for part in (0, 1))
    assert combined_candidates(candidates, predictions, [1, 1, 1])["landmark"].iloc[0] == "b"
    assert combined_candidates(candidates, predictions, [5, 1, 1])["landmark"].iloc[0] == "a"


def test_the_rank_is_that_among_all_candidates_or_the_best_a_model_gave():
    truths = {"r": ["c", "b"], "s": ["z"], "t": ["unknown"], "u": []}
    scores = {record: {"a": 3.0, "b": 2.0, "c": 1.0} for record in truths}
    first = member(scores, truths=truths, ranks={"r": 2, "s": 9})
    second = member(scores, truths=truths, ranks={"r": 2, "s": 7})
    ranked = combined_candidates([first[0], second[0]], [first[1], second[1]], [1, 1])
    found = combined_ranks(ranked, [first[1], second[1]])
    of_record = dict(zip(first[1]["record_id"], found, strict=True))
    assert (of_record["r"], of_record["s"]) == (2, 7)
    assert of_record["t"] is pd.NA
    assert of_record["u"] is pd.NA
