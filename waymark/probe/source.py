"""The records that a probe learns from: of a source, or of the stages of a checkout."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from waymark.check.opening import Opened, open_source
from waymark.data.filters import coordinates
from waymark.data.records import read_records
from waymark.errors import SourceError
from waymark.geo.crs import project, resolve_crs
from waymark.images.decode import Fit
from waymark.images.shards import Shards
from waymark.metrics.intervals.resampling import SEED
from waymark.probe.pictures import Pictures, View
from waymark.probe.trial import Fold, Task, divide
from waymark.sources import PhotosSource

RECORDS, SHARDS, SPLIT = Path("data/filtered/records.parquet"), Path("data/shards"), Path("data/split/records.parquet")
FIT: Fit = "stretch"
FEWEST = 4  # records that a probe needs


@dataclass(frozen=True)
class Probed:
    """N records with what is known of them.

    Attributes:
        title: where they come from.
        pictures: of the records.
        groups: `(N,)` numbers of groups; a record without one is its own.
        split: `(N,)` train, val or test; None where the source has none.
        lat_lon: `(N, 2)` degrees, NaN where unknown.
        labels: `(N,)` first landmark of each, None where it shows none.
        shards: whether the pictures come from the stages of this checkout.
    """

    title: str
    pictures: Pictures
    groups: NDArray[np.int64]
    split: list[str | None]
    lat_lon: NDArray[np.float64]
    labels: list[str | None]
    shards: bool

    def tasks(self, pictured: NDArray[np.bool_], seed: int = SEED) -> list[tuple[Task, NDArray[np.int64]]]:
        """Find out what can be asked of the pictured records.

        Args:
            pictured: `(N,)` records with a readable picture.
            seed: of the folds.

        Returns:
            Tasks, each with the `(n,)` rows of its records.
        """
        found = []
        placed = np.flatnonzero(pictured & ~np.isnan(self.lat_lon).any(axis=1))
        if len(placed) >= FEWEST and len(np.unique(self.lat_lon[placed], axis=0)) > 1:
            lat_lon = self.lat_lon[placed]
            crs = resolve_crs("auto", lat_lon)
            xy_m = np.asarray(project(lat_lon, crs, anywhere=True))
            groups, folds, by_record = self._divide(placed, seed)
            found.append((Task("places", xy_m, groups, folds, by_record, crs, lat_lon, seed), placed))
        named = np.flatnonzero(pictured & np.array([label is not None for label in self.labels], dtype=bool))
        names = np.array([str(self.labels[row]) for row in named])
        if len(named) >= FEWEST and len(set(names)) > 1:
            label = np.unique(names, return_inverse=True)[1].astype(np.int64)
            groups, folds, by_record = self._divide(named, seed, names)
            found.append((Task("landmarks", label, groups, folds, by_record, seed=seed), named))
        return [(task, rows) for task, rows in found if task.folds]

    def _divide(
        self, rows: NDArray[np.int64], seed: int, names: "NDArray[np.str_] | None" = None
    ) -> tuple[NDArray[np.int64], list[Fold], bool]:
        groups = np.unique(self.groups[rows], return_inverse=True)[1].astype(np.int64)
        if names is not None and _mostly_alone(names, groups):
            groups = np.arange(len(rows))
        folds, by_record = divide(groups, [self.split[row] for row in rows], seed)
        return groups, folds, by_record


def _mostly_alone(names: "NDArray[np.str_]", groups: NDArray[np.int64]) -> bool:
    """Find whether most records show a landmark that is in no other group, so that nothing could be learnt of it."""
    pairs = pd.DataFrame({"name": names, "group": groups})
    return bool((pairs.groupby("name")["group"].transform("nunique") == 1).mean() > 0.5)


def find_records(path: Path | None, source: str | None, label: str | None, fit: Fit | None) -> Probed:
    """List the records of a source, or of the stages.

    Args:
        path: folder or table, as `waymark check` takes it; None for the data of the stages in the present folder.
        source: kind of the source; None detects it.
        label: `folder` makes the name of a photo's folder its landmark; None does so if no photo has coordinates.
        fit: how pictures become square; None for that of the shards, or `stretch`.

    Raises:
        SourceError: there are no records.
    """
    if path is None:
        return _of_stages()
    opened = open_source(path, source)
    if opened.kind == "photos":
        placed = ~np.isnan(coordinates(opened.records)).any(axis=1)
        if label == "folder" or (label is None and not placed.any()):
            opened = _labelled_by_folder(path, opened)
    records = opened.records
    files = {name: Path(file) for name, file in opened.pictures.items()}
    views = [
        View(row, files.get(view["path"], path / view["path"]))
        for row, of_record in enumerate(records["views"].to_pylist())
        for view in of_record
    ]
    return _probed(
        str(path), records, Pictures(views, records.num_rows, None, fit or FIT), records["split"].to_pylist()
    )


def _labelled_by_folder(path: Path, opened: Opened) -> Opened:
    fetched = PhotosSource(path, label="folder").find().fetched
    return Opened(opened.kind, fetched.records, opened.pictures, {}, opened.description, opened.counts)


def _of_stages() -> Probed:
    for needed in (RECORDS, SHARDS / "index.parquet", SPLIT):
        if not needed.is_file():
            raise SourceError(f"{needed} does not exist; name a folder or a table of pictures, or run dvc repro split")
    division = dict(zip(*(pq.read_table(SPLIT)[name].to_pylist() for name in ("record_id", "split")), strict=True))
    records = read_records(RECORDS)
    used = [division.get(record) in ("train", "val") for record in records["record_id"].to_pylist()]
    records = records.filter(pa.array(used))
    shards = Shards(SHARDS)
    views = [
        View(row, (record, place))
        for row, (record, of_record) in enumerate(
            zip(records["record_id"].to_pylist(), records["views"].to_pylist(), strict=True)
        )
        for place in range(len(of_record))
    ]
    pictures = Pictures(views, records.num_rows, shards, shards.fit)
    return _probed("train and val of data/split", records, pictures, [None] * records.num_rows)


def _probed(title: str, records: pa.Table, pictures: Pictures, split: list[str | None]) -> Probed:
    ids, groups = records["record_id"].to_pylist(), records["group"].to_pylist()
    own = [f"group {group}" if group else f"record {record}" for record, group in zip(ids, groups, strict=True)]
    labels = [landmarks[0] if landmarks else None for landmarks in records["landmarks"].to_pylist()]
    numbers = np.unique(own, return_inverse=True)[1].astype(np.int64)
    shards = pictures.shards is not None
    return Probed(title, pictures, numbers, split, coordinates(records), labels, shards)


def unreadable(statuses: Counter[str]) -> str:
    """Describe the pictures that could not be read; empty if all could.

    >>> unreadable(Counter(ok=3, truncated=1))
    '1 of 4 pictures cannot be read (1 truncated)'
    """
    broken = {status: count for status, count in sorted(statuses.items()) if status != "ok"}
    if not broken:
        return ""
    listed = ", ".join(f"{count} {status}" for status, count in broken.items())
    return f"{sum(broken.values())} of {statuses.total()} pictures cannot be read ({listed})"
