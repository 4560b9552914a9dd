import json

import numpy as np
import pandas as pd
import pytest
import torch
from landmark_answers import landmark_predictions

from waymark.metrics.figures import landmark_figures
from waymark.metrics.functional import global_average_precision
from waymark.metrics.intervals import RESAMPLES, landmark_intervals, paired_gap, weighted_gap

pytestmark = pytest.mark.slow

FIGURES = ["gap", "gap_unrejected", "top1", "top5", "precision", "answered"]


def repeated(frame, rows):
    """Draw rows as a table of its own; copies of a record follow each other in the order of ids."""
    drawn = frame.iloc[rows]
    copy = drawn.groupby("record_id").cumcount().astype(str).str.zfill(4)
    return drawn.assign(record_id=drawn["record_id"] + "-" + copy)


def by_hand(statistic, units, resamples=400):
    """Draw units with replacement in a plain loop, and take a statistic of their rows."""
    rng = np.random.default_rng(77)
    rows = [np.flatnonzero(units == unit) for unit in pd.unique(units)]
    drawn = (np.concatenate([rows[unit] for unit in rng.integers(0, len(rows), len(rows))]) for _ in range(resamples))
    return np.percentile([statistic(chosen) for chosen in drawn], [2.5, 97.5], axis=0)


def groups(frame):
    """Six records each, but for the last quarter, which stand alone."""
    number = frame["record_id"].str[1:].astype(int)
    names = np.where(number < 180, "g" + (number // 6).astype(str), None)
    return pd.Series(names, index=frame["record_id"], dtype=object)


def alike(frame):
    """All records of a group answered as its first one is, so that it matters what is drawn."""
    frame = frame.sort_values("record_id", ignore_index=True)
    leader = np.where(np.arange(len(frame)) < 180, np.arange(len(frame)) // 6 * 6 + 1, np.arange(len(frame)))
    names = ["landmarks", "predicted_landmark", "best_landmark", "score", "rank"]
    return frame.assign(**{name: frame[name].iloc[leader].array for name in names})


@pytest.mark.parametrize("seed", range(5))
def test_a_weighted_gap_is_that_of_the_repeated_answers(seed):
    rng = np.random.default_rng(seed)
    number = int(rng.integers(1, 400))
    weights = rng.integers(0, 5, (30, number)).astype(float)
    right = rng.random(number) < rng.random()
    relevant = (weights * right).sum(axis=1) + rng.integers(1, 9, 30)
    expected = []
    for row, queries in zip(weights.astype(int), relevant, strict=True):
        ranking = torch.tensor(np.repeat(right, row))
        expected.append(global_average_precision(torch.zeros(len(ranking)), ranking, int(queries)).item())
    assert weighted_gap(weights, right, relevant) == pytest.approx(expected, rel=1e-11, abs=1e-15)


def test_a_weighted_gap_of_many_answers_keeps_its_digits():
    rng = np.random.default_rng(1)
    weights, right = rng.poisson(1, (3, 120_000)).astype(float), rng.random(120_000) < 0.01
    ranking = [torch.tensor(np.repeat(right, row.astype(int))) for row in weights]
    expected = [global_average_precision(torch.zeros(len(row)), row, int(row.sum())).item() for row in ranking]
    assert weighted_gap(weights, right, (weights * right).sum(axis=1)) == pytest.approx(expected, rel=1e-9)
    assert np.isnan(weighted_gap(weights[:1], right, np.zeros(1))).all()


@pytest.mark.parametrize(("relevant", "grouped"), [("all", False), ("known", True)])
def test_intervals_are_those_of_resampling_by_hand(relevant, grouped):
    frame = alike(landmark_predictions())
    its = groups(frame)
    units = its.fillna(pd.Series(its.index, index=its.index)).to_numpy() if grouped else frame["record_id"].to_numpy()
    found = landmark_intervals(frame, its if grouped else None, relevant)
    assert (found.unit, found.units) == (("group", 90) if grouped else ("record", 240))
    assert list(found.figures) == FIGURES

    def statistic(rows):
        figures = landmark_figures(repeated(frame, rows), relevant)
        return [figures[name] for name in FIGURES]

    expected = by_hand(statistic, units)
    width = expected[1] - expected[0]
    ends = np.array([found.figures[name] for name in FIGURES]).T
    assert (np.abs(ends - expected) < 0.2 * width).all()


def test_groups_are_drawn_whole():
    frame = alike(landmark_predictions())
    sure, unsure = landmark_intervals(frame).figures, landmark_intervals(frame, groups(frame)).figures
    for name in FIGURES:
        assert unsure[name].high - unsure[name].low > 1.3 * (sure[name].high - sure[name].low)
    alone = pd.Series(None, index=frame["record_id"], dtype=object)
    assert landmark_intervals(frame, alone).figures == sure


def test_an_interval_holds_its_figure_and_repeats_in_any_order():
    frame = landmark_predictions()
    found = landmark_intervals(frame)
    figures = landmark_figures(frame)
    assert all(low < figures[name] < high for name, (low, high) in found.figures.items())
    assert landmark_intervals(frame.sample(frac=1, random_state=5)) == found
    document = json.loads(json.dumps(found.document()))
    assert document["unit"] == "record"
    assert document["gap"] == list(found.figures["gap"])


def test_the_number_of_queries_is_that_of_each_resample():
    """With all answers right and none to other records, GAP is 1 in every resample; a fixed number would move it."""
    frame = landmark_predictions()
    frame = frame[[len(truths) > 0 for truths in frame["landmarks"]]]
    truth = frame["landmarks"].map(lambda truths: next(iter(truths)))
    sure = frame.assign(predicted_landmark=truth, best_landmark=truth, rank=1)
    beside = landmark_predictions(600, 9).assign(predicted_landmark=None, best_landmark=None)
    beside = beside[[len(truths) == 0 for truths in beside["landmarks"]]].assign(
        record_id=lambda rows: "x" + rows["record_id"]
    )
    found = landmark_intervals(pd.concat([sure, beside]), resamples=200).figures
    assert list(found) == ["answered"]  # all others are 1 in each resample, which tells nothing


@pytest.mark.parametrize("rows", [0, 1])
def test_fewer_than_two_records_have_no_interval(rows):
    assert landmark_intervals(landmark_predictions().head(rows)).figures == {}
    assert paired_gap(*[landmark_predictions().head(rows)] * 2) is None


def test_what_some_resample_cannot_give_has_no_interval():
    frame = landmark_predictions()
    has = np.array([len(truths) > 0 for truths in frame["landmarks"]])
    one = pd.concat([frame[has].head(1), frame[~has]])
    found = landmark_intervals(one).figures
    assert "answered" in found
    assert not {"gap", "gap_unrejected", "top1", "top5"} & set(found)
    pair = paired_gap(one, one)
    assert pair["difference_gap"] == {"value": 0.0, "low": None, "high": None}
    assert paired_gap(frame[~has], frame[~has]) is None


def better(frame):
    """Every third wrong answer put right, and all scores a little otherwise."""
    frame = frame.sort_values("record_id", ignore_index=True)
    mended = np.array([len(truths) > 0 and "far" not in truths for truths in frame["landmarks"]])
    mended &= np.arange(len(frame)) % 3 == 1
    truth = frame["landmarks"].map(lambda truths: next(iter(truths), None))
    for name in ("predicted_landmark", "best_landmark"):
        frame[name] = frame[name].astype(object).where(~mended, truth)
    frame["rank"] = frame["rank"].where(~mended, 1)
    return frame.assign(score=frame["score"] + np.random.default_rng(2).normal(0, 0.05, len(frame)))


def test_a_pair_agrees_with_resampling_by_hand():
    first = alike(landmark_predictions())
    second = better(first).iloc[20:].sample(frac=1, random_state=1)
    its = groups(first)
    found = paired_gap(second, first, its, "all")
    common = first.iloc[20:].reset_index(drop=True)
    second = second.sort_values("record_id", ignore_index=True)
    assert list(found) == ["records", "unit", "difference_gap", "difference_top1"]
    assert (found["records"], found["unit"]) == (220, "group")

    def statistic(rows):
        mine, other = (landmark_figures(repeated(frame, rows)) for frame in (second, common))
        return [mine["gap"] - other["gap"], mine["top1"] - other["top1"]]

    units = its.fillna(pd.Series(its.index, index=its.index)).reindex(common["record_id"]).to_numpy()
    expected = by_hand(statistic, units, 300)
    for column, (name, value) in enumerate(
        zip(("difference_gap", "difference_top1"), statistic(range(220)), strict=True)
    ):
        assert found[name]["value"] == pytest.approx(value, rel=1e-9)
        ends = np.array([found[name]["low"], found[name]["high"]])
        assert (np.abs(ends - expected[:, column]) < 0.2 * np.ptp(expected[:, column])).all()
    turned = paired_gap(common, second, its, "all")["difference_gap"]
    assert turned["low"] == pytest.approx(-found["difference_gap"]["high"])


def test_a_pair_is_surer_than_its_two_intervals():
    first = landmark_predictions()
    second = first.assign(score=first["score"] + 1e-4 * np.arange(len(first)))
    found = paired_gap(second, first)["difference_gap"]
    alone = landmark_intervals(first).figures["gap"]
    assert 0 < found["high"] - found["low"] < 0.3 * (alone.high - alone.low)
    same = paired_gap(first, first)
    assert same["difference_gap"] == same["difference_top1"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_a_model_that_knows_fewer_landmarks_is_not_the_better_for_it():
    first = landmark_predictions()
    narrow = first.assign(rank=first["rank"].where(first["rank"] < 3))  # the others: answered wrong, and called unknown
    assert landmark_figures(narrow, "known")["top1"] > landmark_figures(first, "known")["top1"] + 0.1
    assert paired_gap(narrow, first, None, "known")["difference_top1"]["value"] == 0
    assert RESAMPLES == 2000
