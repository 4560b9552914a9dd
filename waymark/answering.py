"""From pictures to answers: the one way for the registered model, the command line and the web page."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import geopandas
import numpy as np
import pandas as pd
import shapely
import torch
from numpy.typing import NDArray

from waymark.errors import ImageError
from waymark.images.datamodule import Batch, stack
from waymark.images.decode import MAX_PIXELS, Picture, square_pixels
from waymark.images.transforms import shrink
from waymark.images.views import Heading, place_views
from waymark.models.guesser import Guesser, Guesses
from waymark.models.heads import CellHead
from waymark.models.inference import run
from waymark.models.locator import Blueprint

BATCH_SIZE = 64
COLUMNS = ("latitude", "longitude", "radius_50_km", "radius_90_km", "cell", "probability")
WGS84 = "EPSG:4326"

Pixels = NDArray[np.uint8]


class Query(NamedTuple):
    """A place or photo that is asked for."""

    name: str
    pictures: tuple[Path, ...]
    headings_deg: tuple[Heading, ...]  # one for each picture


class Undecodable(NamedTuple):
    """A picture that cannot be decoded."""

    path: Path
    reason: str


class Answers(NamedTuple):
    """What came of queries: a row for each that has at least one picture."""

    table: pd.DataFrame  # name, the COLUMNS, views: pictures that the network saw
    undecodable: list[Undecodable]


def make_example(blueprint: Blueprint, pictures: Sequence[Pixels | None], headings_deg: Sequence[Heading]) -> Batch:
    """Put the pictures of one record into the slots of a model, without any truth.

    Args:
        blueprint: of the model.
        pictures: `(shard_px, shard_px, 3)` RGB each, None for one that cannot be decoded.
        headings_deg: of each picture, None where unknown.

    Returns:
        One record, not yet a batch.
    """
    slots, size_px = blueprint.slots, blueprint.size_px
    pixels = np.zeros((len(slots), size_px, size_px, 3), dtype=np.uint8)
    present = np.zeros(len(slots), dtype=bool)
    for picture, slot in zip(pictures, place_views(headings_deg, slots), strict=True):
        if slot is not None and picture is not None:
            pixels[slot], present[slot] = shrink(picture, size_px), True
    nowhere = torch.full((2,), torch.nan, dtype=torch.float64)
    return Batch(
        torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(present), nowhere, nowhere, torch.tensor(-1)
    )


class _Batches:
    """Examples in batches, made while they are asked for; the length is for the progress bar."""

    def __init__(self, examples: Iterator[Batch], most: int) -> None:
        self.examples, self.most = examples, most

    def __len__(self) -> int:
        return -(-self.most // BATCH_SIZE)

    def __iter__(self) -> Iterator[Batch]:
        while chunk := list(islice(self.examples, BATCH_SIZE)):
            yield stack(chunk)


def answer_files(guesser: Guesser, queries: Sequence[Query], pictures: Iterator[Picture]) -> Answers:
    """Answer for files; a picture that cannot be decoded counts as a view that is not there.

    Args:
        guesser: the model.
        queries: places or photos.
        pictures: all pictures of the queries, in their order, decoded to `shard_px`.

    Returns:
        Rows in the order of the queries, without those that have no picture at all.
    """
    names: list[str] = []
    views: list[int] = []
    undecodable: list[Undecodable] = []

    def examples() -> Iterator[Batch]:
        for query in queries:
            found = list(islice(pictures, len(query.pictures)))
            for path, picture in zip(query.pictures, found, strict=True):
                if picture.pixels is None:
                    undecodable.append(Undecodable(path, picture.reason or picture.status))
            made = make_example(guesser.locator.blueprint, [picture.pixels for picture in found], query.headings_deg)
            if made.present.any():
                names.append(query.name)
                views.append(int(made.present.sum()))
                yield made

    table = _answer(guesser, examples(), len(queries))
    table.insert(0, "name", pd.Series(names, dtype=str))
    table["views"] = pd.Series(views, dtype=np.int64)
    return Answers(table, undecodable)


def answer_bytes(guesser: Guesser, rows: pd.DataFrame) -> pd.DataFrame:
    """Answer for rows of `views`, the bytes of image files, and where known of `headings_deg`.

    Returns:
        `COLUMNS`, row by row.

    Raises:
        ImageError: a row has no view, or a view cannot be decoded.
    """
    examples = (
        _from_bytes(guesser.locator.blueprint, number, row) for number, row in enumerate(rows.to_dict("records"))
    )
    return _answer(guesser, examples, len(rows))


def _from_bytes(blueprint: Blueprint, number: int, row: Mapping[Any, Any]) -> Batch:
    views: Sequence[bytes] = row["views"]
    if not len(views):
        raise ImageError(f"row {number} has no view; give it the bytes of at least one picture")
    headings_deg = _headings(row.get("headings_deg"), len(views))
    slots = place_views(headings_deg, blueprint.slots)
    pictures = [
        None if slot is None else _decode(data, number, view, blueprint.shard_px)
        for view, (data, slot) in enumerate(zip(views, slots, strict=True))
    ]
    return make_example(blueprint, pictures, headings_deg)


def _headings(given: Any, views: int) -> list[Heading]:
    known: list[Heading] = (
        [] if given is None or np.isscalar(given) else [None if h is None or np.isnan(h) else h for h in given]
    )
    return [*known, *[None] * (views - len(known))][:views]


def _decode(data: bytes, row: int, view: int, size_px: int) -> Pixels:
    try:
        return square_pixels(data, size_px, max_pixels=MAX_PIXELS)
    except Exception as error:  # decoders raise anything on hostile bytes
        raise ImageError(f"view {view} of row {row} cannot be decoded: {error}") from error


def _answer(guesser: Guesser, examples: Iterator[Batch], most: int) -> pd.DataFrame:
    first = next(examples, None)
    if first is None:
        return pd.DataFrame({name: np.empty(0, np.int64 if name == "cell" else np.float64) for name in COLUMNS})
    return _as_table(guesser.guess(_Batches(chain([first], examples), most)))


def _as_table(guesses: Guesses) -> pd.DataFrame:
    values = (
        guesses.lat_lon[:, 0],
        guesses.lat_lon[:, 1],
        guesses.radius_50_km,
        guesses.radius_90_km,
        guesses.cell,
        guesses.probability,
    )
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))


def cell_probabilities(
    guesser: Guesser, pictures: Sequence[Pixels], headings_deg: Sequence[Heading]
) -> geopandas.GeoDataFrame | None:
    """Say how probable each cell is for one record.

    Args:
        guesser: the model.
        pictures: `(shard_px, shard_px, 3)` RGB each.
        headings_deg: of each picture, None where unknown.

    Returns:
        `cell`, `probability`, `latitude`, `longitude` of its position and `geometry` in EPSG:4326, the
        most probable first: polygons, or points where the model does not know its cells' outlines.
        None for models without cells.
    """
    locator = guesser.locator
    if not isinstance(locator.head, CellHead):
        return None
    outputs = run(locator, [stack([make_example(locator.blueprint, pictures, headings_deg)])])
    chances = locator.head.probabilities(outputs.output, guesser.calibration.temperature)[0].numpy()
    cells = locator.head.cell_ids.numpy()
    lat_lon = locator.head.cells_deg(outputs.output).numpy()
    lat_lon = lat_lon[0] if lat_lon.ndim == 3 else lat_lon  # (K, 2): a hybrid head has positions of its own
    table = geopandas.GeoDataFrame(
        {"cell": cells, "probability": chances, "latitude": lat_lon[:, 0], "longitude": lat_lon[:, 1]},
        geometry=_outlines(guesser, cells, lat_lon),
        crs=WGS84,
    )
    return table.sort_values("probability", ascending=False, kind="stable", ignore_index=True)


def _outlines(guesser: Guesser, cells: NDArray[np.int64], lat_lon: NDArray[np.float64]) -> Any:
    if guesser.cells is None:
        return shapely.points(lat_lon[:, ::-1])
    return guesser.cells.set_index("cell").geometry.to_crs(WGS84).loc[cells].to_numpy()
