"""Attention maps of the pictures that a model answered for, as a table: attention.parquet."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.training.predictions import Answered
from tasks.training.tables import headings
from waymark.data.records import write_table
from waymark.images.shards import Shards
from waymark.images.views import Heading, place_views

STEPS = 255  # of a map from 0 to 1 as it is kept
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("record_id", "split")),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("view", "height", "width")),
        pa.field("attention", pa.list_(pa.uint8()), nullable=False),
    ]
)


def write_attention(answered: Answered, slots: tuple[Heading, ...], shards: Shards, path: Path) -> None:
    """Write the map of each picture in 255ths, row by row; none for a model without attention."""
    write_table(pa.Table.from_pylist(list(_rows(answered, slots, shards)), SCHEMA), path)


def _rows(answered: Answered, slots: tuple[Heading, ...], shards: Shards) -> Iterator[dict[str, Any]]:
    if answered.guesses.attention is None:
        return
    columns = (answered.records[name] for name in ("record_id", "split", "views"))
    for maps, record_id, split, views in zip(answered.guesses.attention, *columns, strict=True):
        for view, slot in enumerate(place_views(headings(views), slots)):
            if slot is not None and (record_id, view) in shards:
                height, width = maps[slot].shape
                values = (maps[slot] * STEPS).round().astype(np.uint8).ravel()
                yield {
                    **{"record_id": record_id, "split": split, "view": view},
                    **{"height": height, "width": width, "attention": values},
                }
