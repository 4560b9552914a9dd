"""Every picture of a source looked at once: whether it can be decoded, and what it looks like."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from waymark.check.likeness import colour_and_gradient, evenness
from waymark.images.decode import MAX_PIXELS, Status, jpeg_bytes
from waymark.images.resizing import perceptual_hash, read_pictures
from waymark.images.tars import read_bytes
from waymark.likeness import Looks, hash_numbers
from waymark.selection import coordinates

LOOKED_AT_PX = 96  # side of the squares that are compared and shown


@dataclass(frozen=True)
class Views:
    """Every picture of every record, in the order of the records and of their views; V pictures.

    Attributes:
        record: `(V,)` row of the record.
        path: of each picture, relative to the folder.
        heading_deg: `(V,)`, NaN where nobody says.
        status: whether it could be decoded.
        reason: why not.
        digest: hash of the file's content; empty where there is no file.
        looks: of the V pictures, each as a record of one view.
        evenness: `(V,)` share of the pixels that have the picture's commonest colour.
        descriptor: `(V, 192)` colours and gradients.
        jpeg: the picture in small, about 3 kB; empty where there are no pixels.
    """

    record: NDArray[np.int64]
    path: Sequence[str]
    heading_deg: NDArray[np.float64]
    status: Sequence[Status]
    reason: Sequence[str]
    digest: Sequence[str]
    looks: Looks
    evenness: NDArray[np.float64]
    descriptor: NDArray[np.float32]
    jpeg: Sequence[bytes]

    @property
    def decoded(self) -> NDArray[np.bool_]:
        """`(V,)` whether there are pixels."""
        return self.looks.pictured


@dataclass(frozen=True)
class Survey:
    """A source's records with all that was seen of their pictures; N records.

    Attributes:
        records: table of `waymark.records.RECORD_SCHEMA`.
        folder: where the paths begin.
        views: the pictures.
        ids: record ids.
        lat_lon: `(N, 2)` latitude, longitude in degrees, NaN where unknown.
        labels: first landmark of each record; None where it has none.
        groups: group of each record; its own id where it has none.
    """

    records: pa.Table
    folder: Path
    views: Views
    ids: Sequence[str]
    lat_lon: NDArray[np.float64]
    labels: Sequence[str | None]
    groups: Sequence[str]

    def paths_of(self, row: int) -> tuple[str, ...]:
        """Paths of the pictures of a record that can be decoded."""
        first, last = np.searchsorted(self.views.record, [row, row + 1])
        return tuple(self.views.path[view] for view in range(first, last) if self.views.status[view] == "ok")

    def digests(self) -> dict[str, str]:
        """Hash of the content of each file that is there, by its path."""
        pairs = zip(self.views.path, self.views.digest, strict=True)
        return {path: digest for path, digest in pairs if digest}

    def statuses(self) -> Counter[str]:
        """Number of pictures by status."""
        return Counter(self.views.status)


def survey(records: pa.Table, folder: Path, *, workers: int | None = None) -> Survey:
    """Decode every picture once, in processes that a hostile one may crash.

    Args:
        records: table of `waymark.records.RECORD_SCHEMA`.
        folder: where the paths of their views begin.
        workers: number of processes; as many as there are CPUs by default.
    """
    views = records["views"].to_pylist()
    ids = records["record_id"].to_pylist()
    return Survey(
        records=records,
        folder=folder,
        views=_look(views, folder, workers),
        ids=ids,
        lat_lon=coordinates(records),
        labels=[landmarks[0] if landmarks else None for landmarks in records["landmarks"].to_pylist()],
        groups=[group or f"record {its}" for group, its in zip(records["group"].to_pylist(), ids, strict=True)],
    )


def _look(views: list[list[dict[str, object]]], folder: Path, workers: int | None) -> Views:
    flat = [(row, view) for row, its in enumerate(views) for view in its]
    paths = [str(view["path"]) for _, view in flat]
    pictures = read_pictures([folder / path for path in paths], LOOKED_AT_PX, max_pixels=MAX_PIXELS, workers=workers)
    hashes, seen = np.zeros((len(flat), 1), np.uint64), np.zeros((len(flat), 1), bool)
    mean, std = np.zeros((2, len(flat), 1, 3))
    even = np.zeros(len(flat))
    descriptor = np.zeros((len(flat), 192), np.float32)
    status: list[Status] = []
    reason: list[str] = []
    digest: list[str] = []
    jpeg: list[bytes] = []
    progress = tqdm(pictures, total=len(flat), unit="picture", desc="look", disable=None)
    for number, picture in enumerate(progress):
        status.append(picture.status)
        reason.append(picture.reason)
        digest.append(_digest(folder / paths[number]))
        if (pixels := picture.pixels) is not None:
            hashes[number], seen[number] = hash_numbers([perceptual_hash(pixels)]), True
            mean[number], std[number] = pixels.mean(axis=(0, 1)), pixels.std(axis=(0, 1))
            even[number], descriptor[number] = evenness(pixels), colour_and_gradient(pixels)
        jpeg.append(b"" if pixels is None else jpeg_bytes(pixels))
    return Views(
        record=np.array([row for row, _ in flat], dtype=np.int64),
        path=paths,
        heading_deg=pd.to_numeric(pd.Series([view["heading_deg"] for _, view in flat], dtype=object)).to_numpy(float),
        status=status,
        reason=reason,
        digest=digest,
        looks=Looks(hashes, seen, mean, std),
        evenness=even,
        descriptor=descriptor,
        jpeg=jpeg,
    )


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(read_bytes(path.parent, path.name)).hexdigest()
    except OSError:  # its status says why
        return ""
