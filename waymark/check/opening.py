"""From a path to records: detect the source and list its records."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from waymark.data.records import read_records
from waymark.errors import SourceError, nearest_name
from waymark.sources import PhotosSource, QuadsSource, TableSource
from waymark.sources.guessing import RAW, guess_source

SOURCES = {source.name: source for source in (TableSource, PhotosSource, QuadsSource)}


@dataclass(frozen=True)
class Opened:
    """Records and the files of their pictures.

    Attributes:
        kind: name of the source.
        records: table of `waymark.data.records.RECORD_SCHEMA`.
        pictures: file of each path in the records; missing ones may be left out.
        names: readable names of landmarks.
        description: the source's description of itself.
        counts: the source's counts, by name.
    """

    kind: str
    records: pa.Table
    pictures: Mapping[str, Path]
    names: dict[str, str]
    description: str
    counts: dict[str, int]


def open_source(path: Path, source: str | None) -> Opened:
    """List the records and pictures of a source, without copying them.

    Args:
        path: folder or table of the user, or the folder that the stage download wrote.
        source: name of the source; None detects it.

    Raises:
        SourceError: there is nothing, the source is unknown, or it cannot read the files.
    """
    if not path.exists():
        raise SourceError(f"{path} does not exist; name a folder of pictures, a table, or data/raw")
    kind = source or guess_source(path)
    if kind == RAW:
        return _fetched(path)
    if kind not in SOURCES:
        raise SourceError(f"source {kind!r} is unknown: {nearest_name(kind, [*SOURCES, RAW])}")
    found = SOURCES[kind](path).find()
    fetched = found.fetched
    if not fetched.records.num_rows:
        raise SourceError(f"{path} has no picture that the source {kind} reads; name another source with --source")
    description = str(fetched.origin.get("description", ""))
    return Opened(
        kind, fetched.records, found.pictures, dict(fetched.landmark_names), description, dict(fetched.counts)
    )


def _fetched(folder: Path) -> Opened:
    if not (folder / "records.parquet").is_file():
        raise SourceError(f"{folder} has no records.parquet; run the stage download first")
    names = {}
    if (landmarks := folder / "landmarks.parquet").is_file():
        names = {row["landmark"]: row["name"] for row in pq.read_table(landmarks).to_pylist()}
    origin = json.loads((folder / "source.json").read_text()) if (folder / "source.json").is_file() else {}
    records = read_records(folder / "records.parquet")
    paths = [view["path"] for views in records["views"].to_pylist() for view in views]
    pictures = {path: folder / path for path in paths}
    return Opened(RAW, records, pictures, names, str(origin.get("description", "")), dict(origin.get("counts", {})))
