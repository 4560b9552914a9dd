"""Rows of tables that people bring: read as text, and taken as numbers with care."""

import math
import shutil
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from waymark.errors import SourceError

NO_NUMBER = ("na", "n/a", "nan", "null", "none")
MEANT = {"lat": "latitude", "lon": "longitude", "lng": "longitude", "long": "longitude"}


def read_frame(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file; the cells of a CSV stay text.

    Raises:
        SourceError: the file is no such table.
    """
    try:
        return _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    except pd.errors.ParserWarning as error:
        raise SourceError(
            f"{path} has rows with more cells than its header; quote a cell that holds a comma, and write decimals"
            " with a point"
        ) from error
    except (ValueError, OSError) as error:  # what pandas and pyarrow raise on a file that is no table
        reason = " ".join(str(error).split())
        raise SourceError(f"{path} cannot be read as a table: {reason}") from error


def _parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path, dtype_backend="numpy_nullable")  # else 3 becomes 3.0 beside an empty cell


def _csv(path: Path) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # else longer rows lose their last cells
        return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)  # NA is a name, not nothing


def cell_text(value: Any) -> str | None:
    """Give what stands in a cell, None where nothing does."""
    if value is None or pd.isna(value) or str(value).strip() == "":
        return None
    return str(value).strip()


def cell_number(text: str | None, name: str, table: Path, row: int) -> float | None:
    """Read a number; what is no number stays NaN, which `filter` drops with its reason.

    Raises:
        SourceError: the number has a decimal comma.
    """
    if text is None or text.lower() in NO_NUMBER:
        return None
    try:
        return float(text)
    except ValueError:
        if "," in text and text.count(",") == 1:
            raise SourceError(f"{table}, row {row}: {name} {text!r} has a comma; write decimals with a point") from None
        return math.nan


def copy_picture(source: Path, destination: Path) -> None:
    """Copy a picture, which stays as it is; the folders on the way are made.

    Raises:
        SourceError: this user may not read it.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, destination)
    except PermissionError as error:
        raise SourceError(f"{error.filename}: permission denied; give yourself the right, or move it away") from None
