"""From pictures to answers: the one way for the registered model and the command line."""

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import geopandas
import numpy as np
import pandas as pd
import shapely
import torch
from numpy.typing import NDArray

from waymark.images.batches import Batch, stack
from waymark.images.decode import MAX_PIXELS, Picture, picture_of
from waymark.images.transforms import shrink
from waymark.images.views import Heading, place_views
from waymark.inference.predictor import Guesses, Predictor
from waymark.models.areas import SHARES, members
from waymark.models.config import ModelConfig
from waymark.models.heads import CellHead
from waymark.models.inference import run

BATCH_SIZE = 64
PLACE = ("latitude", "longitude", "radius_50_km", "radius_90_km", "cell", "probability")
LANDMARK = ("landmark", "landmark_name", "landmark_score", "landmark_confidence")
COLUMNS = (*PLACE, *LANDMARK)
BEST = "best_landmark"  # the candidate with that score, also where it is refused
TYPES = {"cell": np.int64, **dict.fromkeys(("landmark", "landmark_name", BEST), object)}  # all others float64
WGS84 = "EPSG:4326"

Pixels = NDArray[np.uint8]
Places = NDArray[np.float64]  # (..., K, 3) latitude, longitude in degrees, probability or NaN; the best first


class Query(NamedTuple):
    """A place or photo that is asked for."""

    name: str
    pictures: tuple[Path, ...]
    headings_deg: tuple[Heading, ...]  # one for each picture


class Undecodable(NamedTuple):
    """A picture that cannot be decoded; one that is no file has no path."""

    path: Path | None
    reason: str


class Answers(NamedTuple):
    """What came of queries: a row for each that has at least one picture, by the number of the query."""

    table: pd.DataFrame  # name, the COLUMNS, best_landmark, views: pictures that the network saw
    undecodable: list[Undecodable]
    places: Mapping[int, Places]  # by the number of the query, its best places, where they were asked for


def make_example(config: ModelConfig, pictures: Sequence[Pixels | None], headings_deg: Sequence[Heading]) -> Batch:
    """Put the pictures of one record into the slots of a model, without any truth.

    Args:
        config: of the model.
        pictures: `(shard_px, shard_px, 3)` RGB each, None for one that cannot be decoded.
        headings_deg: of each picture, None where unknown.

    Returns:
        One record, not yet a batch.
    """
    slots, size_px = config.slots, config.size_px
    pixels = np.zeros((len(slots), size_px, size_px, 3), dtype=np.uint8)
    present = np.zeros(len(slots), dtype=bool)
    for picture, slot in zip(pictures, place_views(headings_deg, slots), strict=True):
        if slot is not None and picture is not None:
            pixels[slot], present[slot] = shrink(picture, size_px, config.interpolation), True
    nowhere = torch.full((2,), torch.nan, dtype=torch.float64)
    unknown = torch.tensor(-1)
    return Batch(
        torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(present), nowhere, nowhere, unknown, unknown
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


def answer_files(
    predictor: Predictor, queries: Sequence[Query], pictures: Iterator[Picture], top_k: int = 0
) -> Answers:
    """Answer for files; a picture that cannot be decoded counts as a view that is not there.

    Args:
        predictor: the model.
        queries: places or photos.
        pictures: all pictures of the queries, in their order, decoded to `shard_px`.
        top_k: how many of the best places are listed for each.

    Returns:
        Rows in the order of the queries, without those that have no picture at all.
    """
    seen: list[tuple[int, str, int]] = []  # number of the query, its name, views
    undecodable: list[Undecodable] = []

    def examples() -> Iterator[Batch]:
        for number, query in enumerate(queries):
            found = list(islice(pictures, len(query.pictures)))
            for path, picture in zip(query.pictures, found, strict=True):
                if picture.pixels is None:
                    undecodable.append(Undecodable(path, picture.reason or picture.status))
            made = make_example(predictor.locator.config, [picture.pixels for picture in found], query.headings_deg)
            if made.present.any():
                seen.append((number, query.name, int(made.present.sum())))
                yield made

    table, places = _answer(predictor, examples(), len(queries), top_k)
    rows = pd.DataFrame(seen, columns=["number", "name", "views"])
    table.insert(0, "name", rows["name"].astype(str))
    table["views"] = rows["views"].astype(np.int64)
    numbers = rows["number"].astype(np.int64).to_numpy()
    listed = dict(zip(numbers.tolist(), places, strict=True)) if top_k else {}
    return Answers(table.set_axis(numbers), undecodable, listed)


def join_answers(place: Answers, landmark: Answers) -> Answers:
    """Put together what one model says of places with what another says of landmarks, about the same queries.

    A query has a row where one of the two saw a picture of it; `views` is what the model saw that saw more.
    """
    queries = place.table.index.union(landmark.table.index)
    places, landmarks = place.table.reindex(queries), landmark.table.reindex(queries)
    cell = places["cell"].fillna(-1).astype(np.int64)
    table = pd.concat([places[["name", *PLACE]].assign(cell=cell), landmarks[[*LANDMARK, BEST]]], axis=1)
    table["name"] = table["name"].fillna(landmarks["name"])
    table["views"] = np.fmax(places["views"], landmarks["views"]).astype(np.int64)
    return Answers(table, list(dict.fromkeys([*place.undecodable, *landmark.undecodable])), place.places)


def answer_bytes(predictor: Predictor, rows: pd.DataFrame) -> pd.DataFrame:
    """Answer for rows of `views`, the bytes of image files, and where known of `headings_deg`.

    Returns:
        `COLUMNS` and `error`, row by row. What is wrong with one row costs no other its answer: `error` says why there
        is none, or which view was left out of it, and is None where all is well.
    """
    answered: list[int] = []
    errors: list[str | None] = []

    def examples() -> Iterator[Batch]:
        for number, row in enumerate(rows.to_dict("records")):
            made, error = _from_bytes(predictor.locator.config, row)
            errors.append(error)
            if made is not None:
                answered.append(number)
                yield made

    table = _answer(predictor, examples(), len(rows))[0][list(COLUMNS)]
    table = table.set_axis(answered).reindex(range(len(rows)))
    names = [name for name in COLUMNS if TYPES.get(name) is object]
    table[names] = table[names].astype(object).where(table[names].notna(), None)
    return table.assign(cell=table["cell"].fillna(-1).astype(np.int64), error=pd.Series(errors, dtype=object))


def _from_bytes(config: ModelConfig, row: Mapping[Any, Any]) -> tuple[Batch | None, str | None]:
    """Decode the views of a row; gives None where no view is left, and what is wrong with it, if anything."""
    views = row["views"]
    if not isinstance(views, list | tuple | np.ndarray) or not len(views):
        return None, "there is no view; give the bytes of at least one picture"
    try:
        headings_deg = _headings(row.get("headings_deg"), len(views))
    except (TypeError, ValueError):
        return None, "headings_deg are not numbers; give degrees such as 0, 90, 180, 270, or null"
    slots = place_views(headings_deg, config.slots)
    read = [None if slot is None else _decode(data, config) for data, slot in zip(views, slots, strict=True)]
    broken = [
        f"view {view}: {picture.reason}"
        for view, picture in enumerate(read)
        if picture is not None and picture.pixels is None
    ]
    made = make_example(config, [None if picture is None else picture.pixels for picture in read], headings_deg)
    return (made if made.present.any() else None), "; ".join(broken) or None


def _headings(given: Any, views: int) -> list[Heading]:
    known: list[Heading] = (
        [] if given is None or np.isscalar(given) else [None if h is None or not np.isfinite(h) else h for h in given]
    )
    return [*known, *[None] * (views - len(known))][:views]


def _decode(data: Any, config: ModelConfig) -> Picture:
    if not isinstance(data, bytes):
        return Picture("unreadable", "no bytes", None)
    return picture_of(BytesIO(data), config.shard_px, max_pixels=MAX_PIXELS, fit=config.fit)


def _answer(predictor: Predictor, examples: Iterator[Batch], most: int, top_k: int = 0) -> tuple[pd.DataFrame, Places]:
    """Answer examples, as a table and as the best places of each."""
    first = next(examples, None)
    if first is None:
        nothing = {name: np.empty(0, TYPES.get(name, np.float64)) for name in (*COLUMNS, BEST)}
        return pd.DataFrame(nothing), np.empty((0, 0, 3))
    guesses = predictor.predict(_Batches(chain([first], examples), most), best_cells=top_k)
    return _as_table(guesses), best_places(guesses)


def best_places(guesses: Guesses) -> Places:
    """List the best cells of each record that were asked for; of a model without cells, its one place.

    Returns:
        `(N, K, 3)` latitude, longitude in degrees and probability; NaN for what the model does not answer.
    """
    if guesses.best_cells is not None:
        return guesses.best_cells
    return np.concatenate([guesses.lat_lon, guesses.probability[:, None]], axis=1)[:, None]


def _as_table(guesses: Guesses) -> pd.DataFrame:
    values = (
        guesses.lat_lon[:, 0],
        guesses.lat_lon[:, 1],
        guesses.radius_50_km,
        guesses.radius_90_km,
        guesses.cell,
        guesses.probability,
        guesses.landmark,
        guesses.landmark_name,
        guesses.landmark_score,
        guesses.landmark_confidence,
        guesses.best_landmark,
    )
    columns = dict(zip((*COLUMNS, BEST), values, strict=True))
    return pd.DataFrame({name: pd.Series(column, dtype=TYPES.get(name)) for name, column in columns.items()})


def attention_maps(
    predictor: Predictor, pictures: Sequence[Pixels], headings_deg: Sequence[Heading]
) -> list[NDArray[np.float32] | None]:
    """Compute where the model looks in each picture of one record.

    Args:
        predictor: the model.
        pictures: `(shard_px, shard_px, 3)` RGB each.
        headings_deg: of each picture, None where unknown.

    Returns:
        `(h, w)` from 0 to 1 over each picture; None for one without a slot, and throughout for models
        without such a map.
    """
    config = predictor.locator.config
    maps = predictor.attention(stack([make_example(config, pictures, headings_deg)]))
    if maps is None:
        return [None] * len(pictures)
    return [None if slot is None else maps[0, slot].numpy() for slot in place_views(headings_deg, config.slots)]


def cell_probabilities(
    predictor: Predictor, pictures: Sequence[Pixels], headings_deg: Sequence[Heading]
) -> geopandas.GeoDataFrame | None:
    """Compute how probable each cell is for one record.

    Args:
        predictor: the model.
        pictures: `(shard_px, shard_px, 3)` RGB each.
        headings_deg: of each picture, None where unknown.

    Returns:
        `cell`, `probability`, `latitude`, `longitude` of its position and `geometry` in EPSG:4326, and, where areas
        were calibrated, `in_area_50` and `in_area_90`, whether it is part of them; the most probable first:
        polygons, or points where the model does not know its cells' outlines. None for models without cells.
    """
    locator = predictor.locator
    if not isinstance(locator.place_head, CellHead):
        return None
    outputs = run(locator, [stack([make_example(locator.config, pictures, headings_deg)])])
    chances = locator.place_head.probabilities(outputs.place, predictor.calibration.temperature or 1.0)[0].numpy()
    cells = locator.place_head.cell_ids.numpy()[: len(chances)]  # of neighbours there are fewer, and none has a number
    lat_lon = locator.place_head.cells_deg(outputs.place).numpy()
    lat_lon = lat_lon[0] if lat_lon.ndim == 3 else lat_lon  # (K, 2): a hybrid head has positions of its own
    table = geopandas.GeoDataFrame(
        {"cell": cells, "probability": chances, "latitude": lat_lon[:, 0], "longitude": lat_lon[:, 1]},
        geometry=_outlines(predictor, cells, lat_lon),
        crs=WGS84,
    )
    if (known := predictor.calibration.areas) is not None:
        for share in SHARES:
            least = known.least(share)
            table[f"in_area_{share}"] = False if least is None else members(chances[None], least)[0]
    return table.sort_values("probability", ascending=False, kind="stable", ignore_index=True)


def _outlines(predictor: Predictor, cells: NDArray[np.int64], lat_lon: NDArray[np.float64]) -> Any:
    if predictor.cells is None:
        return shapely.points(lat_lon[:, ::-1])
    return predictor.cells.set_index("cell").geometry.to_crs(WGS84).loc[cells].to_numpy()
