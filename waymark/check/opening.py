"""From a path to records: which source lies there, and what it gives."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from waymark.errors import SourceError, nearest_name
from waymark.records import read_records
from waymark.sources import PhotosSource, QuadsSource, Source, TableSource
from waymark.sources.quad_folders import find_parts

RAW = "raw"
SOURCES: dict[str, Callable[[Path], Source]] = {"table": TableSource, "photos": PhotosSource, "quads": QuadsSource}


@dataclass(frozen=True)
class Opened:
    """Records and where their pictures lie.

    Attributes:
        kind: name of the source.
        records: table of `waymark.records.RECORD_SCHEMA`.
        folder: where the paths of the views begin.
        names: readable name of a landmark that has one.
        description: what the source says of itself.
        counts: what it counted while it read, by name.
    """

    kind: str
    records: pa.Table
    folder: Path
    names: dict[str, str]
    description: str
    counts: dict[str, int]


@contextmanager
def open_source(path: Path, source: str | None, *, beside: Path) -> Iterator[Opened]:
    """Fetch the records of a source into a folder that is removed afterwards; a fetched one is read where it lies.

    Args:
        path: folder or table of the user, or the folder that the stage download wrote.
        source: name of the source; None guesses it by what lies there.
        beside: folder in which the temporary one is made.

    Raises:
        SourceError: there is nothing, the source is unknown, or it cannot read what lies there.
    """
    if not path.exists():
        raise SourceError(f"{path} does not exist; give a folder of pictures, a table, or data/raw")
    kind = source or guess_source(path)
    if kind == RAW:
        yield _fetched(path)
        return
    if kind not in SOURCES:
        raise SourceError(f"source {kind!r} is unknown: {nearest_name(kind, [*SOURCES, RAW])}")
    with TemporaryDirectory(dir=beside, prefix=".check-") as folder:
        fetched = SOURCES[kind](path).fetch(Path(folder))
        if not fetched.records.num_rows:
            raise SourceError(f"{path} holds no picture that the source {kind} reads; name another one with --source")
        description = str(fetched.origin.get("description", ""))
        yield Opened(
            kind, fetched.records, Path(folder), dict(fetched.landmark_names), description, dict(fetched.counts)
        )


def guess_source(path: Path) -> str:
    """Tell by what lies there which source it is.

    `records.parquet` is what the stage download wrote; a table with a column `path` lists pictures; `data.csv`, here
    or in the folders within, lists quadruplets; all else is a tree of photos.
    """
    if path.is_file():
        return "table"
    if (path / "records.parquet").is_file():
        return RAW
    tables = [file for file in sorted(path.iterdir()) if file.suffix.lower() in (".csv", ".parquet")]
    if any(_lists_pictures(table) for table in tables):
        return "table"
    return "quads" if _holds_quads(path) else "photos"


def _holds_quads(folder: Path) -> bool:
    try:
        return bool(find_parts(folder))
    except SourceError:  # no data.csv, here or within
        return False


def _lists_pictures(table: Path) -> bool:
    try:
        if table.suffix.lower() == ".parquet":
            return "path" in pq.read_schema(table).names
        return "path" in pd.read_csv(table, nrows=0).columns
    except (ValueError, OSError):  # no table after all
        return False


def _fetched(folder: Path) -> Opened:
    if not (folder / "records.parquet").is_file():
        raise SourceError(f"{folder} has no records.parquet; run the stage download first")
    names = {}
    if (landmarks := folder / "landmarks.parquet").is_file():
        names = {row["landmark"]: row["name"] for row in pq.read_table(landmarks).to_pylist()}
    origin = json.loads((folder / "source.json").read_text()) if (folder / "source.json").is_file() else {}
    records = read_records(folder / "records.parquet")
    return Opened(RAW, records, folder, names, str(origin.get("description", "")), dict(origin.get("counts", {})))
