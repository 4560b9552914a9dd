"""What figures come to: better than no model or not, by how much, and over enough records or not."""

import pytest

from waymark.report.verdict import verdicts


def places(ratio=(0.55, 0.68), records=300, val=312, unit="record", units=None):
    """Write what compare writes of a model for places."""
    figures = {"records": records, "mean_km": 60.0, "constant_mean_km": 100.0}
    drawn = {"unit": unit, "units": units or records}
    test = drawn if ratio is None else {**drawn, "times_constant": list(ratio)}
    return {
        "best_on_val": "cells",
        "best_landmark_on_val": None,
        "models": {"cells": {"val": {**figures, "records": val}, "test": figures}},
        "intervals": {"cells": {"val": {"unit": "record", "units": val}, "test": test}},
        "asked": {},
    }


def landmarks(top1=0.9, ends=(0.8, 0.97), chance=0.12, named=325, right=26, wrong=296, queries=29):
    """Write what compare writes of a model for landmarks."""
    figures = {"queries": queries, "gap": 0.8, "top1": top1}
    asked = {"records": 325, "without": 296, "named": named, "named_right": right, "named_without": wrong}
    test = {} if ends is None else {"top1": list(ends)}
    return {
        "best_on_val": None,
        "best_landmark_on_val": "towers",
        "models": {"towers": {"val": figures, "test": figures}},
        "intervals": {"towers": {"val": {}, "test": {**test, "landmark_unit": "record", "landmark_units": 325}}},
        "asked": {"towers": {"test": {**asked, "chance_top1": chance}}},
    }


@pytest.mark.parametrize(
    ("ratio", "outcome", "title"),
    [
        ((0.55, 0.68), "yes", "cells is better than always answering the same place"),
        ((0.9, 1.1), "unclear", "cells may be no better than always answering the same place"),
        ((1.01, 1.2), "no", "cells is worse than always answering the same place"),
        (None, "unclear", "cells may be no better than always answering the same place"),
    ],
)
def test_the_interval_says_whether_places_are_better_than_always_the_same(ratio, outcome, title):
    (found,) = verdicts(places(ratio))
    assert (found.kind, found.outcome, found.title) == ("places", outcome, title)


def test_by_how_much_is_said_with_units_and_the_interval():
    (found,) = verdicts(places())
    assert found.sentences[0] == (
        "Over 300 records of test its answers are 60.0 km off on average, and always the same place is 100 km off:"
        " 0.60 x constant (95 % interval 0.55 to 0.68)."
    )
    assert found.sentences[1] == "Val has 312 records, enough to believe the choice of the model."


@pytest.mark.parametrize(
    ("changes", "small"),
    [
        ({"val": 5}, "val has 5 records, and 50 are wanted"),
        ({"records": 10}, "test has 10 records, and 50 are wanted"),
        ({"unit": "group", "units": 3}, "test has 300 records in 3 groups, and 50 are wanted"),
        ({"val": 5, "records": 10}, "val has 5 records and test has 10 records, and 50 are wanted"),
    ],
)
def test_too_few_records_are_not_believed(changes, small):
    (found,) = verdicts(places(**changes))
    assert found.sentences[-1].startswith(f"That is too few to believe it: {small} of each; bring more pictures")


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, "yes"),
        ({"chance": 0.9}, "unclear"),
        ({"chance": 0.99}, "no"),
        ({"chance": None}, "unclear"),
        ({"top1": 1.0, "ends": None}, "yes"),  # of 29, which resampling gives no interval
        ({"top1": 1.0, "ends": None, "queries": 1, "chance": 0.5}, "unclear"),
        ({"top1": 0.0, "ends": None, "chance": 0.05}, "unclear"),
    ],
)
def test_landmarks_are_held_against_chance(changes, outcome):
    (found,) = verdicts(landmarks(**changes))
    assert (found.kind, found.outcome) == ("landmarks", outcome)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "it never refuses; 26 of the 325 names that it gives are right (8.0 %), 296 stand on pictures without a"
            " landmark.",
        ),
        (
            {"named": 28, "right": 26, "wrong": 0},
            "refuses 297 (91.4 %); 26 of the 28 names that it gives are right (92.9 %).",
        ),
        ({"named": 0, "right": 0, "wrong": 0}, "it refuses 325 (100.0 %) and names none."),
    ],
)
def test_of_landmarks_all_that_was_asked_is_counted(changes, said):
    (found,) = verdicts(landmarks(**changes))
    assert found.sentences[0] == (
        "Of the 29 test pictures that show a landmark, its first guess is right for 90.0 % (95 % interval 80.0 to"
        " 97.0 %). The chance level, of always naming the landmark with most training pictures, is 12.0 %."
    )
    assert found.sentences[1].startswith("Asked about all 325 test pictures, of which 296 show no landmark, it ")
    assert found.sentences[1].endswith(said)


def test_without_figures_on_test_val_is_looked_at():
    comparison = places()
    comparison["models"]["cells"]["test"] = {"records": 0, "mean_km": None}
    comparison["intervals"]["cells"] = {"val": {"times_constant": [1.1, 1.3]}, "test": {}}
    (found,) = verdicts(comparison)
    assert found.outcome == "no"
    assert "records of val" in found.sentences[0]
