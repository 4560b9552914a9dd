import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from waymark.data.exposure import EXPOSURE_SCHEMA, exposure_table
from waymark.images.resizing import channel_figures, perceptual_hash
from waymark.images.shards import INDEX_SCHEMA

SIZE_PX = 12


def pictures(seed, views):
    return np.random.default_rng(seed).integers(0, 256, (views, SIZE_PX, SIZE_PX, 3), dtype=np.uint8)


def index_of(seen):
    """Write the index of `{record_id: pictures}`, of which those that are None could not be decoded."""
    rows = [
        {"record_id": record_id, "view": view, "status": "unreadable"}
        if pixels is None
        else {
            **{"record_id": record_id, "view": view, "status": "ok", "perceptual_hash": perceptual_hash(pixels)},
            **channel_figures(pixels),
        }
        for record_id, views in seen.items()
        for view, pixels in enumerate(views)
    ]
    return pa.Table.from_pylist(rows, INDEX_SCHEMA.with_metadata({"size_px": str(SIZE_PX)}))


@pytest.fixture
def records():
    return pd.DataFrame(
        {
            "record_id": ["c", "a", "b", "t"],
            "split": ["val", "train", "train", "test"],
            "group": [None, "street", None, "street"],
            "views": [[{}], [{}, {}], [{}], [{}]],
            "landmarks": [["L2", "L1"], [], [], ["L1"]],
            "latitude": [45.0, 44.5, None, 45.5],
            "longitude": [16.0, 15.5, None, 16.5],
        }
    )


def test_what_was_seen_is_listed_with_its_looks(records):
    seen = {"a": [*pictures(1, 2)], "b": [None], "c": [*pictures(2, 1)], "t": [*pictures(3, 1)]}
    table = exposure_table(records, index_of(seen))
    assert table.schema == EXPOSURE_SCHEMA
    a, b, c = table.to_pylist()
    assert [(its["record_id"], its["split"], its["group"], its["landmark"]) for its in (a, b, c)] == [
        ("a", "train", "street", None),
        ("b", "train", None, None),
        ("c", "val", None, "L2"),
    ]
    assert a["hashes"] == [perceptual_hash(its) for its in seen["a"]]
    assert np.allclose(a["means"], np.ravel([its.reshape(-1, 3).mean(axis=0) for its in seen["a"]]))
    assert np.allclose(a["stds"], np.ravel([its.reshape(-1, 3).std(axis=0) for its in seen["a"]]))
    assert np.allclose([a["red"], a["green"], a["blue"]], np.stack(seen["a"]).reshape(-1, 3).mean(axis=0))
    assert (b["hashes"], b["means"], b["red"], b["latitude"]) == ([None], [None] * 3, None, None)
    assert (c["latitude"], c["longitude"]) == (45.0, 16.0)


def test_the_same_records_in_another_order_give_the_same_table(records):
    seen = {name: [*pictures(seed, 1)] for seed, name in enumerate("abct")}
    turned = dict(reversed(seen.items()))
    assert exposure_table(records, index_of(seen)).equals(exposure_table(records[::-1], index_of(turned)))
