"""From extracted pictures and what the tables say of them to records, column by column."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from waymark.data.records import RECORD_SCHEMA, VIEW
from waymark.images.tars import shard_name
from waymark.sources.gldv2.extracting import Extracted
from waymark.sources.gldv2.layout import Split

PUBLIC = "CC0 or public domain"  # of all images of index and test, which come without attribution
PICTURES = pa.schema(
    [("id", pa.string()), ("path", pa.string()), ("width", pa.int32()), ("height", pa.int32()), ("split", pa.string())]
)


def list_pictures(parts: list[tuple[Split, Extracted]]) -> pa.Table:
    """Number the tars of pictures one after the other, and say where each picture lies.

    Args:
        parts: what was extracted of each tar of the dataset, in their order.

    Returns:
        A table of `PICTURES` in the order of the ids; of duplicate ids the first.
    """
    tables, shards = [PICTURES.empty_table()], 0
    for split, part in parts:
        folders = pa.array([f"images/{shard_name(shards + piece)}/" for piece in range(len(part.pieces))], pa.string())
        names = pc.binary_join_element_wise(part.pictures["id"], ".jpg", "")
        paths = pc.binary_join_element_wise(folders.take(part.pictures["piece"].combine_chunks()), names, "")
        sizes = [part.pictures[name] for name in ("width", "height")]
        splits = pa.repeat(pa.scalar(split), part.pictures.num_rows)
        tables.append(pa.Table.from_arrays([part.pictures["id"], paths, *sizes, splits], schema=PICTURES))
        shards += len(part.pieces)
    table = pa.concat_tables(tables).combine_chunks().sort_by([("id", "ascending"), ("path", "ascending")])
    ids = table["id"].combine_chunks()
    again = pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    return table.filter(pa.array(np.r_[True, ~again.astype(bool)][: len(ids)]))


def list_records(pictures: pa.Table, labels: dict[Split, pa.Table], attributions: pa.Table) -> pa.Table:
    """Build the records of pictures.

    Args:
        pictures: a table of `PICTURES`.
        labels: tables of `metadata.LABELS` in which each picture of a split stands.
        attributions: a table of `metadata.ATTRIBUTIONS`.

    Returns:
        A table of `RECORD_SCHEMA`; the split is train or test, and null for the index.
    """
    number, ids = pictures.num_rows, pictures["id"]
    every = pa.concat_tables(labels.values())
    credits = attributions.take(pc.index_in(ids, value_set=attributions["id"].combine_chunks()))
    is_train = pc.equal(pictures["split"], "train")
    view = [pictures["path"].combine_chunks(), pa.nulls(number, pa.float64())]
    views = pa.StructArray.from_arrays(view, fields=list(VIEW))
    known = {
        "record_id": ids,
        "views": pa.ListArray.from_arrays(pa.array(np.arange(number + 1, dtype=np.int32)), views, pa.list_(VIEW)),
        "landmarks": every["landmarks"].take(pc.index_in(ids, value_set=every["id"].combine_chunks())),
        "split": pc.if_else(pc.equal(pictures["split"], "index"), pa.scalar(None, pa.string()), pictures["split"]),
        "width": pictures["width"],
        "height": pictures["height"],
        "author": credits["author"],
        "licence": pc.if_else(is_train, credits["licence"], PUBLIC),
        "source_url": credits["source_url"],
    }
    columns = [known.get(column.name, pa.nulls(number, column.type)) for column in RECORD_SCHEMA]
    return pa.Table.from_arrays(columns, schema=RECORD_SCHEMA)
