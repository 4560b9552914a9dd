"""The generalization gap: the same model, tested on a random split and on a block split."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from waymark.geo.crs import project
from waymark.metrics.figures import place_figures
from waymark.metrics.intervals import place_intervals, ratio_of_means
from waymark.metrics.nearness import nearness_quantiles

FEW_SQUARES = 10
KEPT = ("records", "mean_km", "median_km", "constant_mean_km")


def squares_of(predictions: pd.DataFrame, block_m: float, crs: str) -> "pd.Series[str]":
    """Name the square of a block split that each record lies in.

    Args:
        predictions: rows of predictions.parquet.
        block_m: side of the squares in metres.
        crs: in which the squares lie.

    Returns:
        Column and row of the square by record_id; records without a place are left out.
    """
    known = predictions.dropna(subset=["latitude", "longitude"])
    xy_m = project(known[["latitude", "longitude"]].to_numpy(dtype=np.float64), crs, anywhere=True)
    names = [f"{column},{row}" for column, row in np.floor(xy_m / block_m).astype(int).tolist()]
    return pd.Series(names, index=known["record_id"], dtype=object)


def generalization_gap(
    random: pd.DataFrame,
    blocks: pd.DataFrame,
    groups: "pd.Series[Any] | None" = None,
    squares: "pd.Series[Any] | None" = None,
) -> dict[str, Any]:
    """Compare the test figures of a random split with those of a block split.

    The two tests hold different records, so that their means are compared as means of independent
    samples. On the block split whole squares are drawn: its records come in few of them and err alike inside.

    Args:
        random: rows of predictions.parquet of the model itself.
        blocks: those of the model that was trained again on a block split.
        groups: group by record_id on the random split, null for a record on its own.
        squares: square by record_id on the block split, see `squares_of`.

    Returns:
        `random` and `blocks`, each with `records`, `mean_km`, `median_km`, `constant_mean_km`, `times_constant`,
        `unit` and `units` that were drawn, `intervals` of the figures and `nearest_train_km` (quantiles); `ratio` of
        the mean errors, blocks divided by random, with `low` and `high`; and `meaning` in a sentence or two.
    """
    tests = {name: rows[rows["split"] == "test"] for name, rows in (("random", random), ("blocks", blocks))}
    sides = {"random": _side(tests["random"], groups), "blocks": _side(tests["blocks"], squares)}
    ratio = ratio_of_means(tests["blocks"], tests["random"], squares, groups)
    if ratio is None:
        return {**sides, "ratio": None, "meaning": "One of the two tests holds no record with a place."}
    return {**sides, "ratio": ratio, "meaning": _meaning(sides, ratio)}


def _side(rows: pd.DataFrame, groups: "pd.Series[Any] | None") -> dict[str, Any]:
    figures = place_figures(rows)
    mean, constant = figures["mean_km"], figures["constant_mean_km"]
    intervals = place_intervals(rows, groups)
    names = (*KEPT, "times_constant")
    return {
        **{name: figures[name] for name in KEPT},
        "times_constant": mean / constant if mean is not None and constant else None,
        "unit": intervals.unit,
        "units": intervals.units,
        "intervals": {name: list(intervals.figures[name]) for name in names if name in intervals.figures},
        "nearest_train_km": nearness_quantiles(rows["nearest_train_km"]),
    }


def _meaning(sides: Mapping[str, Mapping[str, Any]], ratio: Mapping[str, float | None]) -> str:
    """Word the generalization gap, and whether the model beats the constant baseline far from its training places."""
    low, high = ratio["low"], ratio["high"]
    if low is None or high is None:
        size = "There are too few records, or too few squares, to say whether the two differ."
    elif low > 1:
        size = (
            "Away from its training places the model has larger errors: that much of the random split's figure is owed"
            " to training records nearby, and new districts will look like the block split."
        )
    elif high < 1:
        size = (
            "The block split's test happens to be easier: its squares are other places, so hold each against its own"
            " constant baseline."
        )
    else:
        size = "The two do not differ clearly: nothing says that the random split flatters this model."
    return " ".join(filter(None, (size, _beside_constant(sides["blocks"]), _of_few_squares(sides["blocks"]))))


def _of_few_squares(blocks: Mapping[str, Any]) -> str:
    if blocks["unit"] != "group" or blocks["units"] >= FEW_SQUARES:
        return ""
    return f"Its test lies in only {blocks['units']} squares, which make no interval sure: take smaller ones."


def _beside_constant(blocks: Mapping[str, Any]) -> str:
    if "times_constant" not in blocks["intervals"]:
        return ""
    _, high = blocks["intervals"]["times_constant"]
    if high < 1:
        return f"It still beats its constant baseline there ({blocks['times_constant']:.2f} times its error)."
    return "There it is not clearly better than always answering the same place."
