"""`waymark score`: the figures of anybody's predictions."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
import typer

from waymark.commands.terminal import say
from waymark.errors import CoordinateError, SourceError
from waymark.metrics.figures import place_figures
from waymark.metrics.functional import haversine_km
from waymark.metrics.intervals import Interval, place_intervals

IDS = ("uuid", "record_id", "id", "path")
LATITUDE = ("latitude", "lat")
LONGITUDE = ("longitude", "lon", "lng", "long")
RADII = ("radius_50_km", "radius_90_km")
OTHERS = ("cell", "predicted_cell", "constant_km", "oracle_km")  # of evaluate's table, which others' lack
SWAPPED_GAIN = 2.0  # predictions that are so much nearer when swapped, are swapped


class Places(NamedTuple):
    """Places by their id."""

    path: Path
    rows: pd.DataFrame  # by id: latitude, longitude, and the radii where there are any


def score_files(predictions: Path, truth: Path, split: str | None, *, allow_missing: bool, as_json: bool) -> None:
    """Print how far off predictions are.

    Raises:
        SourceError: a table without ids or places, an id that stands twice, or a truth without prediction.
        CoordinateError: places that are none.
    """
    true = _read(truth, predicted=False, split=split)
    predicted = _read(predictions, predicted=True, split=None)
    unknown = true.rows[["latitude", "longitude"]].isna().any(axis=1)
    true = true._replace(rows=true.rows[~unknown])
    if true.rows.empty:
        raise SourceError(f"{truth} has no row with a place; nothing can be scored")
    answered = predicted.rows.dropna(subset=["latitude", "longitude"])
    joined = true.rows[["latitude", "longitude"]].join(
        answered.rename(columns={"latitude": "predicted_latitude", "longitude": "predicted_longitude"}), how="inner"
    )
    missing = len(true.rows) - len(joined)
    _check_missing(missing, true, predicted, joined, allow_missing=allow_missing)
    rows = _rows(joined)
    summed = {"records": len(rows), "missing": missing, **place_figures(rows)}
    figures = {name: value for name, value in summed.items() if value is not None and math.isfinite(value)}
    intervals = place_intervals(rows).figures
    if as_json:
        content = {**figures, "intervals_95": {name: intervals[name] for name in figures if name in intervals}}
        typer.echo(json.dumps(content, indent=2, allow_nan=False))
    else:
        typer.echo("\n".join(_line(name, value, intervals.get(name)) for name, value in figures.items()))
    if unknown.any():
        say(f"{int(unknown.sum())} rows of {truth} have no place and do not count")
    if extra := len(set(predicted.rows.index) - set(true.rows.index)):
        say(f"{extra} predictions have no truth and do not count")
    _hint_swapped(joined)


def _check_missing(missing: int, true: Places, predicted: Places, joined: pd.DataFrame, *, allow_missing: bool) -> None:
    if joined.empty:
        one, other = true.rows.index[0], next(iter(predicted.rows.index), "nothing")
        raise SourceError(
            f"{predicted.path} and {true.path} have no id in common (such as {other!r} and {one!r});"
            " name the column that joins them uuid in both"
        )
    if missing and not allow_missing:
        first = next(name for name in true.rows.index if name not in joined.index)
        raise SourceError(
            f"{missing} of {len(true.rows)} truths have no prediction, such as {first!r}; figures over the rest would"
            " flatter, --allow-missing gives them all the same"
        )


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


def _line(name: str, value: float, interval: Interval | None) -> str:
    line = f"{name:<16} {_shown(name, value):>12}"
    return line if interval is None else f"{line}   ({_shown(name, interval.low)} to {_shown(name, interval.high)})"


def _shown(name: str, value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if name.startswith(("within_", "coverage_", "cell_")):
        return f"{100 * value:.1f} %"
    return f"{value:,.1f}" if name == "geoscore" else f"{value:,.2f} km"


def _read(path: Path, *, predicted: bool, split: str | None) -> Places:
    frame = _frame(path)
    frame.columns = frame.columns.map(lambda name: str(name).strip().lower())
    if split is not None:
        if "split" not in frame:
            raise SourceError(f"{path} has no column split; leave out --split")
        frame = frame[frame["split"] == split]
    ids = frame[next((name for name in IDS if name in frame), frame.columns[0])].astype(str).str.strip()
    twice = ids[ids.duplicated()]
    if len(twice):
        raise SourceError(f"{path}: {twice.iloc[0]!r} stands twice; ids must be unique")
    latitude, longitude = (_column(frame, names, path, predicted=predicted) for names in (LATITUDE, LONGITUDE))
    columns = {"latitude": _numbers(frame[latitude], ids, path), "longitude": _numbers(frame[longitude], ids, path)}
    columns |= {name: _numbers(frame[name], ids, path) for name in RADII if predicted and name in frame}
    rows = pd.DataFrame({name: values.to_numpy() for name, values in columns.items()}, index=pd.Index(ids, name="id"))
    _check_range(rows, path)
    return Places(path, rows)


def _frame(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise SourceError(f"{path} does not exist")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, pa.ArrowException) as error:
        raise SourceError(f"{path} cannot be read as a table: {error}") from error


def _column(frame: pd.DataFrame, names: Sequence[str], path: Path, *, predicted: bool) -> str:
    wanted = [*(f"predicted_{name}" for name in names), *names] if predicted else names
    found = next((name for name in wanted if name in frame), None)
    if found is None:
        raise SourceError(f"{path} has no column {names[0]}; it has {', '.join(map(str, frame.columns))}")
    return found


def _numbers(values: "pd.Series[Any]", ids: "pd.Series[str]", path: Path) -> "pd.Series[float]":
    """Read numbers; empty is NaN, anything else that is no number is an error."""
    text = values.astype(str).str.strip()
    empty = values.isna() | text.str.lower().isin(["", "nan", "none", "null", "na", "<na>"])
    numbers = pd.to_numeric(text.mask(empty), errors="coerce")
    wrong = numbers.isna() & ~empty
    if wrong.any():
        raise CoordinateError(f"{path}: {values.name} of {ids[wrong].iloc[0]!r} is {text[wrong].iloc[0]!r}, no number")
    return numbers.astype(np.float64)


def _check_range(rows: pd.DataFrame, path: Path) -> None:
    outside = rows[(rows["latitude"].abs() > 90) | (rows["longitude"].abs() > 360)]
    if outside.empty:
        return
    first = outside.iloc[0]
    where = f"{path}: {outside.index[0]!r} is at latitude {first['latitude']:g}, longitude {first['longitude']:g}"
    swapped = math.fabs(first["longitude"]) <= 90
    raise CoordinateError(f"{where}, which is no place" + ("; latitude and longitude look swapped" if swapped else ""))
