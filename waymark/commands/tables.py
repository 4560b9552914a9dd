"""Anybody's tables of answers and of truths: CSV or Parquet, by an id, under the names that people use."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from waymark.errors import SourceError
from waymark.metrics.intervals import Interval

IDS = ("uuid", "record_id", "id", "path")
EMPTY = ("", "nan", "none", "null", "na", "<na>")


class Table(NamedTuple):
    """Rows by their id, with the names of columns in lower case."""

    path: Path
    rows: pd.DataFrame

    def column(self, names: Sequence[str]) -> "pd.Series[Any] | None":
        """Give the first column of those names, None where there is none or nothing in it."""
        found = next((name for name in names if name in self.rows), None)
        return None if found is None or is_empty(self.rows[found]).all() else self.rows[found]

    def needed(self, names: Sequence[str], called: str) -> "pd.Series[Any]":
        """Give the first column of those names, of which people know one.

        Raises:
            SourceError: there is none.
        """
        found = next((name for name in names if name in self.rows), None)
        if found is None:
            raise SourceError(f"{self.path} has no column {called}; it has {', '.join(map(str, self.rows.columns))}")
        return self.rows[found]


class Scored(NamedTuple):
    """What came of predictions."""

    figures: dict[str, Any]
    intervals: dict[str, Interval]
    ids: "pd.Index[Any]"  # of the truths that count


def read_rows(path: Path, split: str | None = None) -> Table:
    """Read a table, or the rows of one split.

    Raises:
        SourceError: the file is missing, no table, without a column `split`, or an id stands twice.
    """
    frame = _frame(path)
    frame.columns = frame.columns.map(lambda name: str(name).strip().lower())
    if split is not None:
        if "split" not in frame:
            raise SourceError(f"{path} has no column split; leave out --split")
        frame = frame[frame["split"] == split]
    ids = frame[next((name for name in IDS if name in frame), frame.columns[0])].astype(str).str.strip()
    if len(twice := ids[ids.duplicated()]):
        raise SourceError(f"{path}: {twice.iloc[0]!r} stands twice; ids must be unique")
    return Table(path, frame.set_axis(pd.Index(ids, name="id")))


def _frame(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise SourceError(f"{path} does not exist")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            frame: pd.DataFrame = pq.read_table(path).to_pandas(integer_object_nulls=True)  # else 3 is 3.0 beside a gap
            return frame
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, pa.ArrowException) as error:
        raise SourceError(f"{path} cannot be read as a table: {error}") from error


def is_empty(values: "pd.Series[Any]") -> "pd.Series[bool]":
    """Mark cells that hold nothing, or a word for it."""
    return values.isna() | values.astype(str).str.strip().str.lower().isin(EMPTY)


def check_missing(predictions: Table, truth: Table, answered: "pd.Index[Any]", *, allow_missing: bool) -> None:
    """Refuse tables without a common id, and unless they are allowed, truths without an answer.

    Raises:
        SourceError: it is so.
    """
    if answered.empty:
        one, other = next(iter(truth.rows.index), "nothing"), next(iter(predictions.rows.index), "nothing")
        raise SourceError(
            f"{predictions.path} and {truth.path} have no id in common (such as {other!r} and {one!r});"
            " name the column that joins them uuid in both"
        )
    missing = truth.rows.index.difference(answered, sort=False)
    if len(missing) and not allow_missing:
        raise SourceError(
            f"{len(missing)} of {len(truth.rows)} truths have no prediction, such as {missing[0]!r}; figures over the"
            " rest would flatter, --allow-missing gives them all the same"
        )
