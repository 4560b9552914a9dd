"""The figures of a model, from its predictions alone."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize

from waymark.metrics.functional import geoscore, global_average_precision, haversine_km, within_km
from waymark.metrics.queries import Relevant, queries_of

WITHIN_KM = (1, 5, 10, 25, 50, 100, 200, 750, 2500)

Figures = dict[str, float | int | None]


def place_figures(predictions: pd.DataFrame) -> Figures:
    """Sum up the predictions of one split for people; every figure is over all records that have the truth.

    Args:
        predictions: rows of predictions.parquet.

    Returns:
        The figures that DVC shows as metrics; None where no record has the truth they need.
    """
    known = predictions[predictions["distance_km"].notna()]
    distance_km = torch.tensor(known["distance_km"].to_numpy(dtype=np.float64))
    if not len(known):
        names = ("mean_km", "median_km", "p90_km", *map(within_name, WITHIN_KM), "geoscore")
        return {"records": 0, **dict.fromkeys(names), **_by_column(known)}
    return {
        "records": len(known),
        "mean_km": float(distance_km.mean()),
        "median_km": float(distance_km.quantile(0.5)),
        "p90_km": float(distance_km.quantile(0.9)),
        **{within_name(km): float(within_km(distance_km, km)) for km in WITHIN_KM},
        "geoscore": float(geoscore(distance_km).mean()),
        **_by_column(known),
    }


def best_on_val(figures: Mapping[str, Mapping[str, Mapping[str, float | int | None]]], key: str) -> str | None:
    """Name the model that is best on val: the one rule by which models are chosen, marked and registered.

    Args:
        figures: `metrics.json` by model.
        key: `mean_km`, of which the least is best, or `gap`, of which the highest is.

    Returns:
        Its name, the first of equals; None where no model has a finite figure.

    >>> best_on_val({"cells": {"val": {"mean_km": 9.5}}, "joint": {"val": {"mean_km": 9.0, "gap": 0.5}}}, "mean_km")
    'joint'
    """
    values = {name: splits.get("val", {}).get(key) for name, splits in figures.items()}
    known = {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
    choose = max if key == "gap" else min
    return choose(known, key=lambda name: known[name]) if known else None


def within_name(km: int) -> str:
    """Name the share of records placed within a distance.

    >>> within_name(25)
    'within_25km'
    """
    return f"within_{km}km"


def _by_column(known: pd.DataFrame) -> Figures:
    in_class = known[known["cell"].notna()]
    covered = {share: known[known[f"radius_{share}_km"].notna()] for share in (50, 90)}
    return {
        "cell_accuracy": _mean(in_class["cell"] == in_class["predicted_cell"]),
        "constant_mean_km": _mean(known["constant_km"]),
        "oracle_mean_km": _mean(known["oracle_km"].dropna()),
        **{
            f"coverage_{share}": _mean(rows["distance_km"] <= rows[f"radius_{share}_km"])
            for share, rows in covered.items()
        },
        **_of_areas(known),
    }


def _of_areas(known: pd.DataFrame) -> Figures:
    """Sum up the answers as areas: the median area, and how many of the records with a cell lie in theirs."""
    figures: Figures = {}
    for share in (50, 90):
        areas = known.reindex(columns=[f"area_{share}_km2", f"in_area_{share}"]).dropna()
        figures[f"area_{share}_km2"] = float(areas[f"area_{share}_km2"].median()) if len(areas) else None
        figures[f"set_coverage_{share}"] = _mean(areas[f"in_area_{share}"])
    return figures


def _mean(values: "pd.Series[float] | pd.Series[bool]") -> float | None:
    return float(values.astype(float).mean()) if len(values) else None


def landmark_figures(predictions: pd.DataFrame, relevant: Relevant = "all") -> Figures:
    """Sum up how the landmarks of one split were recognised.

    Args:
        predictions: rows of predictions.parquet.
        relevant: which records count as queries, see `waymark.metrics.queries.queries_of`.

    Returns:
        `queries`; `gap` of the answers that were given, `gap_unrejected` of those before rejection; `top1` and `top5`,
        shares of the queries with a true landmark among the best candidates, rejected or not; `answered`, the share of
        all records that got an answer; `precision`, the share of these answers that are right. None where there is
        nothing to measure.

    Raises:
        ParameterError: relevant is neither `all` nor `known`, or an answer has no score.
    """
    return query_figures(queries_of(predictions, relevant))


def query_figures(queries: pd.DataFrame) -> Figures:
    """Sum up rows of `waymark.metrics.queries.queries_of`, or some of them as if they were all."""
    counted = queries[queries["counts"]]
    return {
        "queries": len(counted),
        "gap": _gap(queries, "answered") if len(counted) else None,
        "gap_unrejected": _gap(queries, "guessed") if len(counted) else None,
        "top1": _mean(counted["top1"]),
        "top5": _mean(counted["top5"]),
        "answered": _mean(queries["answered"]),
        "precision": _mean(queries.loc[queries["answered"], "answered_right"]),
    }


def _gap(queries: pd.DataFrame, answered: str) -> float:
    rows = queries[queries[answered]]
    scores = torch.tensor(rows["score"].to_numpy(dtype=np.float64))
    correct = torch.tensor(rows[f"{answered}_right"].to_numpy(dtype=bool))
    return float(global_average_precision(scores, correct, int(queries["counts"].sum())))


def geometric_median(lat_lon: np.ndarray) -> np.ndarray:
    """Find the place with the smallest mean great-circle distance to all places.

    Args:
        lat_lon: `(N, 2)` latitude, longitude in degrees, at least one.

    Returns:
        `(2,)` latitude, longitude in degrees, the longitude from -180 to 180. The search starts from
        the best of the places themselves, so that around the antimeridian it never starts on the far
        side of the Earth.
    """
    points = torch.from_numpy(np.asarray(lat_lon, dtype=np.float64))

    def mean_km(place: np.ndarray) -> float:
        return float(haversine_km(torch.from_numpy(place), points).mean())

    sample = points[:: math.ceil(len(points) / 200)].numpy()
    start = min(sample, key=mean_km)
    found: np.ndarray = minimize(mean_km, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-6}).x
    found[1] = (found[1] + 180) % 360 - 180  # the search may have crossed the antimeridian
    return found
