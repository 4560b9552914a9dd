"""Whose pictures a model learnt from: what licences such as CC BY ask to be passed on."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from waymark.data.records import RECORD_SCHEMA
from waymark.errors import SourceError

COLUMNS = ("record_id", "author", "licence", "source_url")


def attribution_table(records: pa.Table, record_ids: Sequence[str]) -> pa.Table:
    """List author, licence and origin of some records.

    Args:
        records: a table of `waymark.data.records.RECORD_SCHEMA`.
        record_ids: of the records that are listed.

    Returns:
        record_id, author, licence, source_url, in the order of `record_id`; null where nobody says. Records of
        which nothing of that is known, such as made-up or one's own ones, are left out.

    Raises:
        SourceError: a record is not in the table.
    """
    wanted = pa.array(sorted(set(record_ids)), pa.string())
    rows = pc.index_in(wanted, value_set=records["record_id"].combine_chunks())
    if rows.null_count:
        unknown = wanted.filter(pc.is_null(rows))[0]
        raise SourceError(f"record {unknown} is not in the table of records; give the one that was trained on")
    listed = records.select(list(COLUMNS)).take(rows)
    known = pc.or_(
        pc.or_(pc.is_valid(listed["author"]), pc.is_valid(listed["licence"])), pc.is_valid(listed["source_url"])
    )
    schema = pa.schema([RECORD_SCHEMA.field(name) for name in COLUMNS])
    return listed.filter(known).cast(schema).combine_chunks()


def write_attribution(table: pa.Table, path: Path) -> None:
    """Write an attribution table as CSV (UTF-8); an empty cell is what nobody says."""
    csv.write_csv(table, path, csv.WriteOptions(quoting_style="needed"))
