"""How far off anybody's predicted places are."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from waymark.commands.tables import Scored, Table, check_missing, is_empty
from waymark.commands.terminal import say
from waymark.errors import CoordinateError, SourceError
from waymark.metrics.figures import place_figures
from waymark.metrics.functional import haversine_km
from waymark.metrics.intervals import place_intervals

LATITUDE = ("latitude", "lat")
LONGITUDE = ("longitude", "lon", "lng", "long")
RADII = ("radius_50_km", "radius_90_km")
OTHERS = ("cell", "predicted_cell", "constant_km", "oracle_km")  # of evaluate's table, which others' lack
SWAPPED_GAIN = 2.0  # predictions that are so much nearer when swapped, are swapped


def asks_places(truth: Table) -> bool:
    """Tell whether any row of the truth has a place."""
    return truth.column(LATITUDE) is not None


def gives_places(predictions: Table) -> bool:
    """Tell whether any prediction is a place."""
    return predictions.column(_predicted(LATITUDE)) is not None


def score_places(predictions: Table, truth: Table, *, allow_missing: bool) -> Scored:
    """Sum up how far off predictions are, with intervals.

    Raises:
        SourceError: tables without places, without a common id, or a truth without prediction.
        CoordinateError: places that are none.
    """
    true, predicted = _places(truth, predicted=False), _places(predictions, predicted=True)
    unknown = true.isna().any(axis=1)
    known = Table(truth.path, true[~unknown])
    if known.rows.empty:
        raise SourceError(f"{truth.path} has no row with a place; nothing can be scored")
    answered = predicted.dropna(subset=["latitude", "longitude"])
    joined = known.rows.join(answered.rename(columns={name: f"predicted_{name}" for name in true}), how="inner")
    check_missing(predictions, known, joined.index, allow_missing=allow_missing)
    rows = _rows(joined)
    if unknown.any():
        say(f"{int(unknown.sum())} rows of {truth.path} have no place and do not count")
    _hint_swapped(joined)
    figures = {"records": len(rows), "missing": len(known.rows) - len(joined), **place_figures(rows)}
    return Scored(figures, place_intervals(rows).figures, known.rows.index)


def _predicted(names: Sequence[str]) -> list[str]:
    return [*(f"predicted_{name}" for name in names), *names]


def _places(table: Table, *, predicted: bool) -> pd.DataFrame:
    """Read latitude and longitude in degrees, and of predictions the radii where there are any."""
    columns = {
        names[0]: _numbers(table.needed(_predicted(names) if predicted else names, names[0]), table)
        for names in (LATITUDE, LONGITUDE)
    }
    columns |= {name: _numbers(table.rows[name], table) for name in RADII if predicted and name in table.rows}
    rows = pd.DataFrame(columns)
    _check_range(rows, table)
    return rows


def _rows(joined: pd.DataFrame) -> pd.DataFrame:
    """Give rows such as those of predictions.parquet, of which everything but the distance may be unknown."""
    rows = joined.assign(distance_km=_distance_km(joined, ["predicted_latitude", "predicted_longitude"]))
    rows = rows.assign(**{name: np.nan for name in (*RADII, *OTHERS) if name not in rows})
    return rows.rename_axis("record_id").reset_index()


def _distance_km(joined: pd.DataFrame, predicted: Sequence[str]) -> np.ndarray:
    true = torch.tensor(joined[["latitude", "longitude"]].to_numpy(dtype=np.float64))
    distance_km: np.ndarray = haversine_km(torch.tensor(np.array(joined[predicted], dtype=np.float64)), true).numpy()
    return distance_km


def _hint_swapped(joined: pd.DataFrame) -> None:
    swapped = ["predicted_longitude", "predicted_latitude"]
    if (joined["predicted_longitude"].abs() > 90).any():
        return
    as_given = _distance_km(joined, swapped[::-1]).mean()
    if as_given > SWAPPED_GAIN * _distance_km(joined, swapped).mean():
        say("latitude and longitude look swapped: with the two columns changed over, the predictions are far nearer")


def _numbers(values: "pd.Series[Any]", table: Table) -> "pd.Series[float]":
    """Read numbers; empty is NaN, anything else that is no number is an error."""
    text, empty = values.astype(str).str.strip(), is_empty(values)
    numbers = pd.to_numeric(text.mask(empty), errors="coerce")
    wrong = numbers.isna() & ~empty
    if wrong.any():
        raise CoordinateError(
            f"{table.path}: {values.name} of {values.index[wrong][0]!r} is {text[wrong].iloc[0]!r}, no number"
        )
    return numbers.astype(np.float64)


def _check_range(rows: pd.DataFrame, table: Table) -> None:
    outside = rows[(rows["latitude"].abs() > 90) | (rows["longitude"].abs() > 360)]
    if outside.empty:
        return
    first = outside.iloc[0]
    where = f"{table.path}: {outside.index[0]!r} is at latitude {first['latitude']:g}, longitude {first['longitude']:g}"
    swapped = math.fabs(first["longitude"]) <= 90
    raise CoordinateError(f"{where}, which is no place" + ("; latitude and longitude look swapped" if swapped else ""))
