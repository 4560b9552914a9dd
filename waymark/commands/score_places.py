"""Metrics of anybody's predicted places."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from waymark.commands.tables import Rows, Scored, check_missing
from waymark.commands.terminal import say
from waymark.errors import SourceError
from waymark.geo.sphere import great_circle_km
from waymark.metrics.figures import place_figures
from waymark.metrics.intervals import place_intervals
from waymark.sources.tables import LATITUDE, LONGITUDE

RADII = ("radius_50_km", "radius_90_km")
OTHERS = ("cell", "predicted_cell", "constant_km", "oracle_km")  # columns that only the table of evaluate has
SWAPPED_GAIN = 2.0  # ratio of errors from which predictions count as swapped


def asks_places(truth: Rows) -> bool:
    """Check whether any row of the truth has a place."""
    return truth.column(LATITUDE) is not None


def gives_places(predictions: Rows) -> bool:
    """Check whether any prediction is a place."""
    return predictions.column(_predicted(LATITUDE)) is not None


def score_places(predictions: Rows, truth: Rows, *, allow_missing: bool) -> Scored:
    """Compute the metrics of predicted places, with intervals.

    Raises:
        SourceError: the tables have no places or no common id, or a truth has no prediction.
        CoordinateError: a place is not on Earth.
    """
    true, predicted = _places(truth, predicted=False), _places(predictions, predicted=True)
    unknown = true.isna().any(axis=1)
    known = truth._replace(ids=true.index[~unknown])
    if known.ids.empty:
        raise SourceError(f"{truth.path} has no row with a place; there is nothing to score")
    answered = predicted.dropna(subset=["latitude", "longitude"])
    joined = true[~unknown].join(answered.rename(columns={name: f"predicted_{name}" for name in true}), how="inner")
    check_missing(predictions, known, joined.index, allow_missing=allow_missing)
    rows = _rows(joined)
    if unknown.any():
        say(f"{int(unknown.sum())} rows of {truth.path} have no place and are ignored")
    _hint_swapped(joined)
    figures = {"records": len(rows), "missing": len(known.ids) - len(joined), **place_figures(rows)}
    return Scored(figures, place_intervals(rows).figures, known.ids)


def _predicted(names: Sequence[str]) -> list[str]:
    return [*(f"predicted_{name}" for name in names), *names]


def _places(rows: Rows, *, predicted: bool) -> pd.DataFrame:
    """Read latitude and longitude in degrees, and the radii of predictions if there are any."""
    named = [_predicted(names) if predicted else names for names in (LATITUDE, LONGITUDE)]
    places = rows.places(*named)
    radii = [(name, rows.table.find([name])) for name in RADII if predicted]
    return places.assign(**{name: rows.numbers(column) for name, column in radii if column is not None})


def _rows(joined: pd.DataFrame) -> pd.DataFrame:
    """Make rows like those of predictions.parquet, in which everything but the distance may be unknown."""
    rows = joined.assign(distance_km=_distance_km(joined, ["predicted_latitude", "predicted_longitude"]))
    rows = rows.assign(**{name: np.nan for name in (*RADII, *OTHERS) if name not in rows})
    return rows.rename_axis("record_id").reset_index()


def _distance_km(joined: pd.DataFrame, predicted: Sequence[str]) -> np.ndarray:
    columns = (joined[names].to_numpy(dtype=np.float64) for names in (predicted, ["latitude", "longitude"]))
    return great_circle_km(*columns)


def _hint_swapped(joined: pd.DataFrame) -> None:
    swapped = ["predicted_longitude", "predicted_latitude"]
    if (joined["predicted_longitude"].abs() > 90).any():
        return
    as_given = _distance_km(joined, swapped[::-1]).mean()
    if as_given > SWAPPED_GAIN * _distance_km(joined, swapped).mean():
        say("latitude and longitude look swapped: with the two columns exchanged, the errors are far smaller")
