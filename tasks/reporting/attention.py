"""Where a model looks: its attention maps, and pictures under them."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from tasks.training.predictions import Answered
from tasks.training.tables import headings
from waymark.data.records import write_table
from waymark.images.decode import jpeg_bytes
from waymark.images.shards import Shards
from waymark.images.views import Heading, place_views
from waymark.report.heat import draw_attention

TILE_PX = 192  # least side of a picture under its map
STEPS = 255  # of a map as it is kept
SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("record_id", "split")),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("view", "height", "width")),
        pa.field("attention", pa.list_(pa.uint8()), nullable=False),
    ]
)


class ViewMap(NamedTuple):
    """The map of one picture."""

    record_id: str
    split: str
    view: int
    attention: NDArray[np.float32]  # (h, w) from 0 to 1


def view_maps(answered: Answered, slots: tuple[Heading, ...], shards: Shards) -> Iterator[ViewMap]:
    """Give the map of each picture that a model saw, in the order of the records; none without attention."""
    maps, records = answered.guesses.attention, answered.records
    if maps is None:
        return
    columns = (records[name] for name in ("record_id", "split", "views"))
    for its_maps, record_id, split, views in zip(maps, *columns, strict=True):
        for view, slot in enumerate(place_views(headings(views), slots)):
            if slot is not None and (record_id, view) in shards:
                yield ViewMap(record_id, split, view, its_maps[slot])


def write_attention(maps: Iterator[ViewMap], path: Path) -> None:
    """Write maps in 255ths, row by row."""
    rows = [
        {
            **{"record_id": its.record_id, "split": its.split, "view": its.view},
            **dict(zip(("height", "width"), its.attention.shape, strict=True)),
            "attention": (its.attention * STEPS).round().astype(np.uint8).ravel(),
        }
        for its in maps
    ]
    write_table(pa.Table.from_pylist(rows, SCHEMA), path)


def drawn_attention(maps: Iterator[ViewMap], record_ids: list[str], shards: Shards) -> list[dict[str, Any]]:
    """Lay the maps of some records over their pictures; gives `label` and `jpeg` in base64."""
    wanted = {record_id: [] for record_id in record_ids}
    for its in maps:
        if its.record_id in wanted:
            wanted[its.record_id].append(its)
    return [_drawn(its, shards) for found in wanted.values() for its in found]


def _drawn(its: ViewMap, shards: Shards) -> dict[str, Any]:
    picture = Image.fromarray(shards[its.record_id, its.view])
    side_px = max(TILE_PX, picture.width)
    pixels = np.asarray(picture.resize((side_px, side_px), Image.Resampling.BICUBIC))
    drawn = jpeg_bytes(draw_attention(pixels, its.attention))
    return {"label": f"{its.record_id}, view {its.view + 1}", "jpeg": base64.b64encode(drawn).decode()}
