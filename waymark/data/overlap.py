"""Which records of a test a model has seen before: the records themselves, their groups, or their pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from waymark.data.duplicates import Looks, copies_between, hash_numbers

RECORD, GROUP, PICTURE = "record", "group", "picture"
WAYS = (RECORD, GROUP, PICTURE)
COLUMNS = ("record_id", "way", "split", "seen_record_id")


def overlap(records: pd.DataFrame, exposure: pd.DataFrame, looks: Looks | None = None) -> pd.DataFrame:
    """Find the test records that a model has seen, each in the first of the three ways that fits.

    Args:
        records: `(N,)` with `record_id` and `group` (or null).
        exposure: what the model has seen, rows of `waymark.data.exposure.EXPOSURE_SCHEMA`.
        looks: of the records, in their order, from pictures of the size and fit that the model takes; None leaves
            out the pictures. Which pictures are the same, `waymark.data.duplicates` says.

    Returns:
        Columns `record_id`, `way` (record, group or picture), `split` (train or val, train where it is both) and
        `seen_record_id`; a row for each record that was seen, in their order.
    """
    seen = exposure.sort_values(["split", "record_id"], ignore_index=True)  # train before val
    found = pd.DataFrame(None, index=records["record_id"], columns=list(COLUMNS[1:]), dtype=object)
    matches = {RECORD: _by_key(records, seen, "record_id"), GROUP: _by_key(records, seen, "group")}
    if looks is not None:
        matches[PICTURE] = _by_picture(looks, seen)
    for way, row in matches.items():
        new = (row >= 0) & found["way"].isna().to_numpy()
        match = seen.iloc[row[new]]
        found.loc[new, "way"] = way
        found.loc[new, "split"], found.loc[new, "seen_record_id"] = match["split"].array, match["record_id"].array
    return found.dropna(subset=["way"]).reset_index()[list(COLUMNS)]


def _by_key(records: pd.DataFrame, seen: pd.DataFrame, key: str) -> NDArray[np.int64]:
    """Find for each record the first row of what was seen that has the same key, -1 where none has."""
    known = seen[key].dropna().drop_duplicates()
    place = pd.Index(known).get_indexer(pd.Index(records[key].astype(object)))
    rows: NDArray[np.int64] = np.append(known.index.to_numpy(dtype=np.int64), -1)[place]
    return rows


def _by_picture(looks: Looks, seen: pd.DataFrame) -> NDArray[np.int64]:
    """Find for each record the most similar row of what was seen, of train where there is one."""
    count, rows = len(looks), np.full(len(looks), -1, dtype=np.int64)
    together = _stacked(looks, exposed_looks(seen))
    for split in ("val", "train"):  # the last one wins
        others = count + np.flatnonzero(seen["split"].to_numpy() == split)
        nearest = copies_between(together, np.arange(count), others).nearest
        rows[nearest.left] = nearest.right - count
    return rows


def exposed_looks(exposure: pd.DataFrame) -> Looks:
    """Read how the records looked that a model has seen, rows of `waymark.data.exposure.EXPOSURE_SCHEMA`."""
    views = max(map(len, exposure["hashes"]), default=1)
    hashes = np.zeros((len(exposure), views), np.uint64)
    means, stds = (_levels(exposure[name], views) for name in ("means", "stds"))
    seen = np.isfinite(means[:, :, 0])
    hashes[seen] = hash_numbers([digits for views in exposure["hashes"] for digits in views if digits is not None])
    return Looks(hashes, seen, np.nan_to_num(means), np.nan_to_num(stds))


def _levels(column: "pd.Series[Any]", views: int) -> NDArray[np.float64]:
    levels = np.full((len(column), views, 3), np.nan)
    for row, digits in enumerate(column):
        levels[row, : len(digits) // 3] = np.asarray(digits, dtype=np.float64).reshape(-1, 3)
    return levels


def _stacked(*parts: Looks) -> Looks:
    views = max(part.hashes.shape[1] for part in parts)

    def stack(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        rest = [(0, 0)] * (arrays[0].ndim - 2)
        return np.concatenate([np.pad(array, [(0, 0), (0, views - array.shape[1]), *rest]) for array in arrays])

    return Looks(*(stack([getattr(part, name) for part in parts]) for name in ("hashes", "seen", "mean", "std")))
