"""One Arrow schema for every source: a record is one place or one photo."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from waymark.data.names import one_form
from waymark.errors import SourceError

VIEW = pa.struct([pa.field("path", pa.string(), nullable=False), ("heading_deg", pa.float64())])

RECORD_SCHEMA = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("views", pa.list_(VIEW), nullable=False),
        pa.field("landmarks", pa.list_(pa.string()), nullable=False),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("captured_at", pa.string()),
        ("author", pa.string()),
        ("licence", pa.string()),
        ("source_url", pa.string()),
    ]
)

LANDMARK_SCHEMA = pa.schema([("landmark", pa.string()), ("name", pa.string()), ("images", pa.int64())])


def records_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Build the table of records from rows; fields that a row leaves out are null.

    Args:
        rows: one mapping for each record with the fields of `RECORD_SCHEMA`.

    Returns:
        A table of `RECORD_SCHEMA`, in the order of `record_id`.

    Raises:
        SourceError: two rows share a `record_id`, or a record has no view.
    """
    rows = [_in_one_form(row) for row in rows]
    rows.sort(key=lambda row: row["record_id"])
    for before, after in pairwise(rows):
        if before["record_id"] == after["record_id"]:
            raise SourceError(f"duplicate record_id {after['record_id']!r}; ids must be unique")
    for row in rows:
        if not row["views"]:
            raise SourceError(f"record {row['record_id']!r} has no view; give it a picture or leave it out")
    return pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)


def _in_one_form(row: Mapping[str, Any]) -> dict[str, Any]:
    """Write names in one form; paths stay, for they open files."""
    texts = {name: one_form(value) for name, value in row.items() if isinstance(value, str)}
    return {**row, **texts, "landmarks": [one_form(landmark) for landmark in row.get("landmarks", ())]}


def landmarks_table(records: pa.Table, names: Mapping[str, str] | None = None) -> pa.Table:
    """Count the records of each landmark.

    Args:
        records: a table of `RECORD_SCHEMA`.
        names: readable name of a landmark; the landmark itself where it has none.

    Returns:
        A table of `LANDMARK_SCHEMA`, in the order of `landmark`.
    """
    counts: dict[str, int] = {}
    for landmarks in records["landmarks"].to_pylist():
        for landmark in landmarks:
            counts[landmark] = counts.get(landmark, 0) + 1
    rows = [
        {"landmark": landmark, "name": one_form((names or {}).get(landmark, landmark)), "images": counts[landmark]}
        for landmark in sorted(counts)
    ]
    return pa.Table.from_pylist(rows, schema=LANDMARK_SCHEMA)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as Parquet, the same bytes for the same table."""
    pq.write_table(table, path, compression="zstd", store_schema=True)


def read_records(path: Path) -> pa.Table:
    """Read a table of records.

    Raises:
        SourceError: the file does not follow `RECORD_SCHEMA`.
    """
    table = pq.read_table(path)
    missing = [name for name in RECORD_SCHEMA.names if name not in table.column_names]
    if missing:
        raise SourceError(f"{path} has no column {', '.join(missing)}; run the stage that writes it again")
    return table.select(RECORD_SCHEMA.names)
