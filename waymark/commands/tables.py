"""Tables of predictions and truths from anybody: CSV or Parquet, joined by an id, with common column names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from waymark.data.names import one_form
from waymark.errors import CoordinateError, SourceError
from waymark.metrics.intervals import Interval
from waymark.sources.tables import LATITUDE, LONGITUDE, Table, read_table, shown

IDS = ("uuid", "record_id", "id", "path")
EMPTY = ("", "nan", "none", "null", "na", "<na>")

Floats = NDArray[np.float64]


class Rows(NamedTuple):
    """A table whose rows have ids."""

    table: Table
    ids: "pd.Index[Any]"

    @property
    def path(self) -> Path:
        """Path of the table."""
        return self.table.path

    def column(self, names: Sequence[str]) -> str | None:
        """Return the first column with one of the names; None if there is none or it is empty."""
        found = self.table.find(names)
        return None if found is None or is_empty(self.table.frame[found]).all() else found

    def cells(self, column: str) -> list[Any]:
        """Return the cells of a column as they are in the file."""
        return self.table.frame[column].tolist()

    def texts(self, column: str) -> "pd.Series[Any]":
        """Read a column of names by id, in NFC; None where a cell is empty or says so."""
        texts = pd.Series(self.table.texts(column), self.ids, dtype=object)
        return texts.where(~is_empty(texts), None)

    def numbers(self, column: str) -> "pd.Series[float]":
        """Read a column of numbers by id; NaN where a cell is empty."""
        return pd.Series(self.table.numbers(column), self.ids)

    def places(self, latitude: Sequence[str], longitude: Sequence[str]) -> pd.DataFrame:
        """Read latitude and longitude in degrees by id, from the first columns of those names.

        Raises:
            SourceError: there is no such column.
            CoordinateError: a place is not on Earth.
        """
        lat_lon = read_places(self.table, latitude, longitude)
        return pd.DataFrame(lat_lon, self.ids, columns=["latitude", "longitude"])


class Scored(NamedTuple):
    """Metrics of predictions."""

    figures: dict[str, Any]
    intervals: dict[str, Interval]
    ids: "pd.Index[Any]"  # of the truths that were scored


def read_rows(path: Path, split: str | None = None) -> Rows:
    """Read a table, or the rows of one split.

    Raises:
        SourceError: the file is missing or not a table, has no column `split`, or an id is duplicated.
    """
    table = read_table(path)
    if split is not None:
        if (column := table.find(["split"])) is None:
            raise SourceError(f"{path} has no column split; leave out --split")
        chosen = [name == one_form(split) for name in table.texts(column)]
        table = table._replace(frame=table.frame[chosen])
    if table.frame.columns.empty:
        raise SourceError(f"{path} has no columns; the first one must identify the rows")
    column = table.find(IDS) or str(table.frame.columns[0])
    first: dict[str, object] = {}
    for row, name in zip(table.frame.index, table.texts(column), strict=True):
        if (other := first.setdefault(name or "", row)) != row:
            raise SourceError(
                f"{table.where(row, column)}: duplicate {shown(name or '')}, as in row {other}; ids must be unique"
            )
    return Rows(table, pd.Index(list(first), name="id", dtype=object))


def read_places(table: Table, latitude: Sequence[str] = LATITUDE, longitude: Sequence[str] = LONGITUDE) -> Floats:
    """Read `(N, 2)` latitude, longitude in degrees, NaN where a row has none.

    Raises:
        SourceError: there is no such column, or a cell is not a number.
        CoordinateError: a place is not on Earth.
    """
    columns = [table.needed(*named) for named in ((latitude, "latitude"), (longitude, "longitude"))]
    lat_lon = np.stack([table.numbers(column) for column in columns], axis=1)
    outside = np.flatnonzero((np.abs(lat_lon[:, 0]) > 90) | (np.abs(lat_lon[:, 1]) > 360))
    if len(outside):
        north, east = lat_lon[outside[0]]
        swapped = "; latitude and longitude look swapped" if abs(east) <= 90 else ""
        raise CoordinateError(
            f"{table.path}, row {table.frame.index[outside[0]]}: latitude {north:g}, longitude {east:g} is not a"
            f" place on Earth{swapped}"
        )
    return lat_lon


def is_empty(values: "pd.Series[Any]") -> "pd.Series[bool]":
    """Mark cells that are empty, or contain a word for it."""
    return values.isna() | values.astype(str).str.strip().str.lower().isin(EMPTY)


def check_missing(predictions: Rows, truth: Rows, answered: "pd.Index[Any]", *, allow_missing: bool) -> None:
    """Refuse tables without a common id and, unless allowed, truths without a prediction.

    Raises:
        SourceError: the tables have no id in common, or a truth has no prediction.
    """
    if answered.empty:
        one, other = next(iter(truth.ids), "nothing"), next(iter(predictions.ids), "nothing")
        raise SourceError(
            f"{predictions.path} and {truth.path} have no id in common (such as {other!r} and {one!r});"
            " name the column that joins them uuid in both"
        )
    missing = truth.ids.difference(answered, sort=False)
    if len(missing) and not allow_missing:
        raise SourceError(
            f"{len(missing)} of {len(truth.ids)} truths have no prediction, such as {missing[0]!r}; metrics of the rest"
            " alone could be too good, --allow-missing computes them"
        )
