"""Decode every picture of a source once, and keep its status, hashes and colours."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from waymark.data.duplicates import Looks, hash_numbers
from waymark.data.filters import coordinates, hash_share
from waymark.images.decode import MAX_PIXELS, Status
from waymark.images.looking import DESCRIBED, Look, Wanted, look
from waymark.images.resizing import crash, look_at
from waymark.system.workers import Lost

LOOKED_AT_PX = 64  # side of the squares that are compared
MOST_OF_A_CLASS = 1500  # pictures of a landmark that are compared with others, chosen by hash
MOST_COMPARED = 30_000


@dataclass(frozen=True)
class Views:
    """Every picture of every record, in the order of the records and of their views; V pictures.

    Attributes:
        record: `(V,)` row of the record.
        path: of each picture, relative to the folder.
        heading_deg: `(V,)`, NaN if unknown.
        status: whether it could be decoded.
        reason: why not.
        digest: hash of the file's content; empty if no other file has the same size, or there is no file.
        looks: of the V pictures, each as a record of one view.
        evenness: `(V,)` share of the pixels that have the most frequent colour.
        compared: `(C,)` pictures of landmarks whose colours and gradients were described.
        descriptor: `(C, 192)` of these.
    """

    record: NDArray[np.int64]
    path: Sequence[str]
    heading_deg: NDArray[np.float64]
    status: Sequence[Status]
    reason: Sequence[str]
    digest: Sequence[str]
    looks: Looks
    evenness: NDArray[np.float64]
    compared: NDArray[np.int64]
    descriptor: NDArray[np.float32]

    @property
    def decoded(self) -> NDArray[np.bool_]:
        """`(V,)` whether the picture was decoded."""
        return self.looks.pictured


@dataclass(frozen=True)
class Survey:
    """Records of a source with what was measured of their pictures; N records.

    Attributes:
        records: table of `waymark.data.records.RECORD_SCHEMA`.
        pictures: file of each path; missing ones may be left out.
        views: the pictures.
        ids: record ids.
        lat_lon: `(N, 2)` latitude, longitude in degrees, NaN where unknown.
        labels: first landmark of each record; None where it has none.
        groups: group of each record; its id if it has none.
    """

    records: pa.Table
    pictures: Mapping[str, Path]
    views: Views
    ids: Sequence[str]
    lat_lon: NDArray[np.float64]
    labels: Sequence[str | None]
    groups: Sequence[str]

    def paths_of(self, row: int) -> tuple[str, ...]:
        """Return the paths of the decodable pictures of a record."""
        first, last = np.searchsorted(self.views.record, [row, row + 1])
        return tuple(self.views.path[view] for view in range(first, last) if self.views.status[view] == "ok")

    def digests(self) -> dict[str, str]:
        """Return the content hash of each file that may have a copy, by path."""
        pairs = zip(self.views.path, self.views.digest, strict=True)
        return {path: digest for path, digest in pairs if digest}

    def statuses(self) -> Counter[str]:
        """Count pictures by status."""
        return Counter(self.views.status)


def survey(records: pa.Table, pictures: Mapping[str, Path], *, workers: int | None = None) -> Survey:
    """Decode every picture once, in processes that a hostile file may crash.

    Args:
        records: table of `waymark.data.records.RECORD_SCHEMA`.
        pictures: file of each path of their views; missing ones may be left out.
        workers: number of processes; by default one for each CPU, as far as the memory suffices.
    """
    ids = records["record_id"].to_pylist()
    labels = [landmarks[0] if landmarks else None for landmarks in records["landmarks"].to_pylist()]
    return Survey(
        records=records,
        pictures=pictures,
        views=_look(records["views"].to_pylist(), labels, pictures, workers),
        ids=ids,
        lat_lon=coordinates(records),
        labels=labels,
        groups=[group or f"record {own}" for group, own in zip(records["group"].to_pylist(), ids, strict=True)],
    )


def _look(
    views: list[list[dict[str, Any]]], labels: Sequence[str | None], pictures: Mapping[str, Path], workers: int | None
) -> Views:
    flat = [(row, view) for row, of_record in enumerate(views) for view in of_record]
    record, paths = np.array([row for row, _ in flat], dtype=np.int64), [str(view["path"]) for _, view in flat]
    compared = compared_views(paths, [labels[row] for row, _ in flat])
    described = np.full(len(flat), -1, np.int64)
    described[compared] = np.arange(len(compared))
    present = [number for number, path in enumerate(paths) if path in pictures]
    files = [pictures[paths[number]] for number in present]
    twice = _of_equal_size(files)
    wanted = [Wanted(*seen) for seen in zip(files, twice, (described[present] >= 0).tolist(), strict=True)]
    found = look_at(wanted, partial(look, size_px=LOOKED_AT_PX, max_pixels=MAX_PIXELS), max_pixels=MAX_PIXELS,
                    workers=workers)  # fmt: skip
    hashes, seen = np.zeros((len(flat), 1), np.uint64), np.zeros((len(flat), 1), bool)
    mean, std = np.zeros((2, len(flat), 1, 3))
    even, descriptor = np.zeros(len(flat)), np.zeros((len(compared), DESCRIBED), np.float32)
    status: list[Status] = ["missing"] * len(flat)
    reason, digest = ["no such file"] * len(flat), [""] * len(flat)
    progress = tqdm(found, total=len(present), unit="picture", desc="look", disable=None)
    for number, result in zip(present, progress, strict=True):
        seen_as = Look("crashed", crash(result)) if isinstance(result, Lost) else result
        status[number], reason[number], digest[number] = seen_as.status, seen_as.reason, seen_as.digest
        if seen_as.status == "ok":
            hashes[number], seen[number] = hash_numbers([seen_as.perceptual_hash]), True
            mean[number], std[number], even[number] = seen_as.mean, seen_as.std, seen_as.evenness
        if seen_as.descriptor is not None:
            descriptor[described[number]] = seen_as.descriptor
    return Views(
        record=record,
        path=paths,
        heading_deg=pd.to_numeric(pd.Series([view["heading_deg"] for _, view in flat], dtype=object)).to_numpy(float),
        status=status,
        reason=reason,
        digest=digest,
        looks=Looks(hashes, seen, mean, std),
        evenness=even,
        compared=compared[seen[compared, 0]],
        descriptor=descriptor[seen[compared, 0]],
    )


def compared_views(paths: Sequence[str], labels: Sequence[str | None]) -> NDArray[np.int64]:
    """Choose by hash the pictures of landmarks that are compared with those of others, at most 1,500 of each."""
    numbers = [number for number, label in enumerate(labels) if label is not None]
    if len({labels[number] for number in numbers}) < 2:
        return np.zeros(0, np.int64)
    numbers.sort(key=lambda number: hash_share(paths[number], 1))
    taken: Counter[str | None] = Counter()
    chosen: list[int] = []
    for number in numbers:
        taken[labels[number]] += 1
        if taken[labels[number]] <= MOST_OF_A_CLASS and len(chosen) < MOST_COMPARED:
            chosen.append(number)
    return np.array(chosen, dtype=np.int64)


def _of_equal_size(files: Sequence[Path]) -> list[bool]:
    """Find files that may be copies: those of equal size, and members of tars, whose size is not known."""
    sizes: list[int] = []
    for file in files:
        try:
            sizes.append(file.stat().st_size)
        except OSError:  # in a tar, or gone
            sizes.append(-1)
    counts = Counter(sizes)
    return [size < 0 or counts[size] > 1 for size in sizes]
