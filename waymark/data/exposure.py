"""What a model has seen: the records that it was trained and calibrated on, and how their pictures look."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

SEEN = ("train", "val")  # learnt from the first; the second chose the epoch and gave the calibration
LEVELS = pa.list_(pa.float64())
COLOURS = ("red", "green", "blue")

EXPOSURE_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("record_id", "split")),
        ("group", pa.string()),
        ("hashes", pa.list_(pa.string())),  # of each view, null for one without a picture
        ("means", LEVELS),  # of each view red, green, blue, in levels of 255; null likewise
        ("stds", LEVELS),
        *((name, pa.float64()) for name in ("latitude", "longitude")),
        ("landmark", pa.string()),  # the first of the record's, which is the one that is trained on
        *((name, pa.float64()) for name in COLOURS),  # means over its views
    ]
)


def exposure_table(records: pd.DataFrame, index: pa.Table) -> pa.Table:
    """List what a training with these records sees.

    Args:
        records: columns `record_id`, `split`, `group`, `views`, `landmarks`, `latitude`, `longitude`; those of test
            are left out.
        index: table of `waymark.images.shards.INDEX_SCHEMA` with its metadata.

    Returns:
        A table of `EXPOSURE_SCHEMA`, a row for each train and val record, in the order of their ids.
    """
    seen = records[records["split"].isin(SEEN)].sort_values("record_id", ignore_index=True)
    offsets = np.concatenate([[0], seen["views"].map(len).to_numpy(dtype=np.int64).cumsum()])
    place, rows = _places(seen["record_id"], offsets, index)
    hashes = np.full(offsets[-1], None, dtype=object)
    hashes[place] = rows["perceptual_hash"].to_pylist()
    means, stds = np.full((2, offsets[-1], 3), np.nan)
    means[place], stds[place] = _levels(rows)
    colours = _of_records(means, offsets)
    columns = {
        **{name: pa.array(seen[name], pa.string(), from_pandas=True) for name in ("record_id", "split", "group")},
        "hashes": _lists(hashes, offsets, pa.string()),
        "means": _lists(means.ravel(), 3 * offsets, pa.float64()),
        "stds": _lists(stds.ravel(), 3 * offsets, pa.float64()),
        **{name: pa.array(seen[name], pa.float64(), from_pandas=True) for name in ("latitude", "longitude")},
        "landmark": pa.array([next(iter(shown), None) for shown in seen["landmarks"]], pa.string()),
        **dict(zip(COLOURS, (pa.array(channel, from_pandas=True) for channel in colours.T), strict=True)),
    }
    return pa.table(columns, EXPOSURE_SCHEMA)


def _places(record_ids: "pd.Series[str]", offsets: NDArray[np.int64], index: pa.Table) -> tuple[Any, pa.Table]:
    """Find for each picture of these records its place among all their views, and its row of the index."""
    rows = index.filter(pc.equal(index["status"], "ok"))
    record = pd.Index(record_ids).get_indexer(pd.Index(rows["record_id"].to_pandas()))
    rows, record = rows.filter(pa.array(record >= 0)), record[record >= 0]
    return offsets[record] + rows["view"].to_numpy(), rows


def _levels(rows: pa.Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `(P, 3)` mean and standard deviation of each picture's channels, as `waymark.data.duplicates` has them."""
    pixels = int(rows.schema.metadata[b"size_px"]) ** 2
    mean, squares = (
        pc.list_flatten(rows[name]).to_numpy().reshape(-1, 3) / pixels
        for name in ("channel_sum", "channel_sum_squares")
    )
    return mean, np.sqrt(np.maximum(squares - mean * mean, 0))


def _of_records(means: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average `(P, 3)` levels over the pictures of each record; NaN for one without any."""
    seen = np.isfinite(means[:, 0])
    total = np.concatenate([np.zeros((1, 3)), np.where(seen[:, None], means, 0).cumsum(axis=0)])
    count = np.concatenate([[0], seen.cumsum()])
    pictures = (count[offsets[1:]] - count[offsets[:-1]])[:, None]
    sums = total[offsets[1:]] - total[offsets[:-1]]
    found: NDArray[np.float64] = np.divide(sums, pictures, out=np.full(sums.shape, np.nan), where=pictures > 0)
    return found


def _lists(values: NDArray[Any], offsets: NDArray[np.int64], kind: pa.DataType) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, kind, from_pandas=True))
