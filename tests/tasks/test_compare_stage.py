"""What compare chooses and lines up, where models answer places, landmarks or both."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest

from tasks.compare import compared, table_rows
from tasks.reporting.models import threshold_of
from waymark.metrics.figures import best_on_val
from waymark.metrics.intervals import paired_gap
from waymark.report.content import Ensemble, Model
from waymark.report.tables import best_model

FIGURES = {
    "cells": {"val": {"mean_km": 9.0}, "test": {"mean_km": None}},
    "arcface": {"val": {"gap": 0.7, "top1": 0.8}, "test": {"gap": None, "top1": None}},
    "joint": {"val": {"mean_km": 8.0, "gap": 0.7}, "test": {"mean_km": 7.0, "gap": 0.6}},
    "diverged": {"val": {"mean_km": None, "gap": None}, "test": {}},
}


def answers(right, seed):
    rng = np.random.default_rng(seed)
    correct = rng.random(40) < right
    best = pd.Series(np.where(correct, "a", "b"), dtype=object)
    return pd.DataFrame(
        {
            "record_id": [f"r{row:02d}" for row in range(40)],
            "split": ["val", "test"] * 20,
            "landmarks": [["a"]] * 40,
            "best_landmark": best,
            "predicted_landmark": best,
            "score": rng.random(40) + correct,
            "rank": pd.array(np.where(correct, 1, 2), dtype="Int64"),
        }
    )


def test_the_best_are_chosen_among_those_that_have_the_figure():
    assert best_on_val(FIGURES, "mean_km") == "joint"
    assert best_on_val(FIGURES, "gap") == "arcface"  # the first of equals
    assert best_on_val({name: FIGURES[name] for name in ("arcface", "diverged")}, "mean_km") is None
    assert best_on_val({"cells": FIGURES["cells"]}, "gap") is None


@pytest.mark.parametrize("worthless", [math.nan, math.inf, None])
def test_a_figure_that_is_not_finite_chooses_no_model(worthless):
    figures = {"diverged": {"val": {"mean_km": worthless}}, "cells": {"val": {"mean_km": 9.0}}}
    assert best_on_val(figures, "mean_km") == "cells"
    assert best_model([Model(name, its, pd.DataFrame()) for name, its in figures.items()], "mean_km") == "cells"


def test_one_table_holds_models_and_ensembles_with_null_for_what_they_have_not():
    model = Model("joint", FIGURES["joint"], pd.DataFrame(), size={"parameters_millions": 1.5, "gmacs": 0.1})
    rows = [*table_rows(model), *table_rows(Ensemble("both", ["cells", "joint"], FIGURES["cells"]))]
    assert [(row["name"], row["kind"], row["split"]) for row in rows] == [
        ("joint", "model", "val"),
        ("joint", "model", "test"),
        ("both", "ensemble", "val"),
        ("both", "ensemble", "test"),
    ]
    assert all(set(row) == set(rows[0]) for row in rows)
    assert (rows[1]["gap"], rows[1]["mean_km"], rows[1]["parameters_millions"], rows[1]["top1"]) == (
        0.6,
        7.0,
        1.5,
        None,
    )
    assert (rows[3]["mean_km"], rows[3]["gmacs"]) == (None, None)


def test_landmarks_are_held_against_the_first_and_the_best_over_the_same_records():
    predictions = {"first": answers(0.4, 1), "best": answers(0.9, 2)}
    pairs = compared(predictions, "best", None, partial(paired_gap, relevant="all"))
    assert {(pair["model"], pair["against"]) for pair in pairs} == {("best", "first"), ("first", "best")}
    pair = next(its for its in pairs if its["against"] == "first" and its["split"] == "test")
    top1 = {name: (rows.query("split == 'test'")["rank"] == 1).mean() for name, rows in predictions.items()}
    assert pair["difference_top1"]["value"] == pytest.approx(top1["best"] - top1["first"])
    assert pair["difference_gap"]["low"] > 0
    assert (pair["records"], "unit" in pair) == (20, False)
    assert compared({}, None, None) == []


def test_the_threshold_is_read_from_the_answers_on_val():
    rows = answers(0.5, 3)
    assert threshold_of(rows) is None
    threshold = rows.loc[rows["split"] == "val", "score"].median()
    threshold = rows.loc[(rows["split"] == "val") & (rows["score"] >= threshold), "score"].min()
    rows["predicted_landmark"] = rows["best_landmark"].where(rows["score"] >= threshold)
    assert threshold_of(rows) == threshold
    assert threshold_of(rows.assign(best_landmark=None, predicted_landmark=None)) is None
