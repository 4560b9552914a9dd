"""From a path to records: which source lies there, and what it gives."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from waymark.errors import SourceError, nearest_name
from waymark.records import read_records
from waymark.sources import PhotosSource, QuadsSource, Source, TableSource
from waymark.sources.guessing import RAW, guess_source

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


def _fetched(folder: Path) -> Opened:
    if not (folder / "records.parquet").is_file():
        raise SourceError(f"{folder} has no records.parquet; run the stage download first")
    names = {}
    if (landmarks := folder / "landmarks.parquet").is_file():
        names = {row["landmark"]: row["name"] for row in pq.read_table(landmarks).to_pylist()}
    origin = json.loads((folder / "source.json").read_text()) if (folder / "source.json").is_file() else {}
    records = read_records(folder / "records.parquet")
    return Opened(RAW, records, folder, names, str(origin.get("description", "")), dict(origin.get("counts", {})))
