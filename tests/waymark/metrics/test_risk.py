import numpy as np
import pandas as pd
import pytest
from landmark_answers import landmark_predictions
from sklearn.metrics import auc

from waymark.metrics.figures import landmark_figures
from waymark.metrics.risk import answer_curve, radius_risk_coverage, risk_coverage


def errors(number=200, seed=1):
    rng = np.random.default_rng(seed)
    sure = rng.lognormal(0, 1, number)
    return sure * rng.lognormal(3, 0.5, number), sure


def by_hand(error_km, order):
    return [np.mean([error_km[row] for row in order[: count + 1]]) for count in range(len(order))]


def test_the_curve_is_the_mean_error_over_the_most_certain():
    error_km, unsure = errors()
    found = risk_coverage(error_km, unsure)
    assert found.curve["mean_km"].to_numpy() == pytest.approx(by_hand(error_km, np.argsort(unsure)))
    assert found.curve["oracle_km"].to_numpy() == pytest.approx(by_hand(error_km, np.argsort(error_km)))
    assert found.curve["share"].iloc[[0, 99, -1]].tolist() == pytest.approx([1 / 200, 0.5, 1.0])
    assert found.curve["mean_km"].iloc[-1] == pytest.approx(error_km.mean())


def test_the_area_is_that_under_the_curve():
    error_km, unsure = errors(4000)
    found = risk_coverage(error_km, unsure)
    assert found.aurc_km == pytest.approx(auc(found.curve["share"], found.curve["mean_km"]), rel=5e-3)
    assert found.oracle_km < found.aurc_km < found.random_km == pytest.approx(error_km.mean())


def test_an_order_by_chance_gains_nothing_and_the_error_itself_all():
    error_km, _ = errors(3000)
    shuffled = np.random.default_rng(3).random(3000)
    assert risk_coverage(error_km, shuffled).aurc_km == pytest.approx(error_km.mean(), rel=0.1)
    assert risk_coverage(error_km, error_km).aurc_km == pytest.approx(risk_coverage(error_km, shuffled).oracle_km)


def test_records_of_equal_uncertainty_count_as_if_by_chance():
    """The mean over all orders of the three that tie."""
    error_km, unsure = np.array([5.0, 1.0, 2.0, 9.0, 4.0]), np.array([1.0, 2.0, 2.0, 2.0, 3.0])
    orders = [[0, *middle, 4] for middle in ([1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1])]
    expected = np.mean([by_hand(error_km, order) for order in orders], axis=0)
    assert risk_coverage(error_km, unsure).curve["mean_km"].to_numpy() == pytest.approx(expected)
    turned = risk_coverage(error_km[::-1], unsure[::-1])
    assert turned.aurc_km == pytest.approx(expected.mean())


def test_rows_without_error_or_radius_are_left_out():
    frame = pd.DataFrame({"distance_km": [1.0, np.nan, 3.0, 4.0], "radius_90_km": [5.0, 1.0, np.nan, 2.0]})
    assert radius_risk_coverage(frame).curve["mean_km"].tolist() == [4.0, 2.5]
    assert radius_risk_coverage(frame.head(0)) is None


def curve_by_hand(frame, relevant):
    """Count what each threshold answers, in plain Python."""
    rows = frame.to_dict("records")
    queries = sum(len(row["landmarks"]) > 0 and (relevant == "all" or not pd.isna(row["rank"])) for row in rows)
    for threshold in sorted({row["score"] for row in rows if isinstance(row["best_landmark"], str)}, reverse=True):
        given = [row for row in rows if isinstance(row["best_landmark"], str) and row["score"] >= threshold]
        right = sum(row["best_landmark"] in list(row["landmarks"]) for row in given)
        yield threshold, len(given) / len(rows), right / len(given), right / queries


@pytest.mark.parametrize("relevant", ["all", "known"])
def test_the_answer_curve_is_counted_at_each_score(relevant):
    frame = landmark_predictions()
    frame.loc[::11, ["best_landmark", "predicted_landmark"]] = None
    found = answer_curve(frame, relevant)
    assert list(found) == ["threshold", "answered", "precision", "recall", "confidence"]
    assert found.pop("confidence").isna().all()
    known = answer_curve(frame.assign(confidence=1 / (1 + np.exp(-frame["score"]))), relevant)
    np.testing.assert_allclose(known["confidence"], 1 / (1 + np.exp(-known["threshold"])))
    expected = np.array(list(curve_by_hand(frame, relevant)))
    assert len(found) == len(expected) > 10
    assert found.to_numpy() == pytest.approx(expected)


def test_the_answer_curve_meets_the_figures_at_the_models_own_threshold():
    frame = landmark_predictions()
    figures = landmark_figures(frame)
    own = answer_curve(frame).set_index("threshold").loc[0.0]  # where the made-up model rejects
    assert own["answered"] == pytest.approx(figures["answered"])
    assert own["precision"] == pytest.approx(figures["precision"])


def test_a_long_answer_curve_is_thinned_to_some_of_its_rows():
    frame = landmark_predictions(2000)
    frame["score"] += np.random.default_rng(1).normal(0, 0.1, len(frame))
    whole, thin = (answer_curve(frame, rows=rows).drop(columns="confidence") for rows in (10_000, 200))
    assert (len(whole), len(thin)) == (2000, 200)
    assert thin["threshold"].is_monotonic_decreasing
    assert thin.iloc[[0, -1]].to_numpy().tolist() == whole.iloc[[0, -1]].to_numpy().tolist()
    assert thin["answered"].diff().max() < 12 / 2000
    assert len(thin.merge(whole)) == 200


def test_no_answers_or_no_queries_make_no_figure():
    frame = landmark_predictions()
    assert answer_curve(frame.assign(best_landmark=None)).empty
    assert answer_curve(frame.head(0)).empty
    nowhere = answer_curve(frame.assign(landmarks=[[]] * len(frame)))
    assert nowhere["recall"].isna().all()
    assert (nowhere["precision"] == 0).all()
