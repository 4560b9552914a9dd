"""Contact sheets: sample pictures of each landmark and of each cell of a coarse grid."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from tqdm import tqdm

from waymark.check.coordinates import Places
from waymark.check.findings import counted
from waymark.check.survey import Survey
from waymark.data.filters import hash_share
from waymark.errors import CoordinateError, GridError
from waymark.geo.cells import assign_cells
from waymark.geo.crs import resolve_crs
from waymark.geo.grid import build_grid
from waymark.geo.regions import extent_region, region_lat_lon
from waymark.images.decode import MAX_PIXELS, jpeg_bytes
from waymark.images.resizing import read_pictures

CELLS = 60  # approximate number over the region, or over the extent of the data
MOST_SHEETS = 40  # of each kind, the largest first
ON_A_SHEET = 12
GENERIC_ON_A_SHEET = 4
SHOWN_PX = 96  # side of a picture on the page


@dataclass(frozen=True)
class Sheet:
    """Sample pictures under one title.

    Attributes:
        title: landmark, or the centre of the cell.
        note: number of pictures or records.
        paths: pictures to show.
        record_ids: their records.
        framed: those of the paths that stand out.
    """

    title: str
    note: str
    paths: Sequence[str]
    record_ids: Sequence[str]
    framed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Cells:
    """Contact sheets of the cells, and the number of records in each; `reason` says why there are none."""

    sheets: Sequence[Sheet] = ()
    counts: Sequence[int] = ()
    reason: str = ""


def class_sheets(survey: Survey, ratio: NDArray[np.float64], names: Mapping[str, str]) -> list[Sheet]:
    """Make a sheet for each of the largest landmarks, with its most generic pictures framed.

    Args:
        survey: the records.
        ratio: `(V,)` of `waymark.check.classes.generic_views`.
        names: readable names of landmarks.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for number in np.flatnonzero(survey.views.decoded).tolist():
        if (label := survey.labels[survey.views.record[number]]) is not None:
            members[label].append(number)
    sheets = []
    for label in sorted(members, key=lambda label: (-len(members[label]), label))[:MOST_SHEETS]:
        flagged = sorted((number for number in members[label] if ratio[number]),
                         key=lambda number: -ratio[number])  # fmt: skip
        shown = flagged[:GENERIC_ON_A_SHEET]
        shown += _some(survey, set(members[label]) - set(flagged), ON_A_SHEET - len(shown))
        note = counted(len(members[label]), "picture")
        if flagged:
            note += f", {len(flagged):,} are more similar to other landmarks"
        framed = frozenset(survey.views.path[number] for number in flagged)
        sheets.append(_sheet(survey, names.get(label, label), note, shown, framed))
    return sheets


def cell_sheets(survey: Survey, places: Places, region: GeoDataFrame | None) -> Cells:
    """Make a sheet for each of the fullest cells of a coarse grid over the region, or over the extent of the data."""
    rows = places.rows("in place")
    if not len(rows):
        return Cells(reason="No record has usable coordinates.")
    lat_lon = survey.lat_lon[rows]
    try:
        land = extent_region(lat_lon) if region is None else region
        grid = build_grid(land, cells=CELLS, crs=resolve_crs("auto", region_lat_lon(land)))
        cells = assign_cells(grid, lat_lon)
    except (GridError, CoordinateError) as error:  # data across the seam of a world map has no such grid
        return Cells(reason=f"The records cannot be divided into cells: {error}.")
    filled, sizes = np.unique(cells, return_counts=True)
    sheets: list[Sheet] = []
    for cell, size in sorted(zip(filled.tolist(), sizes.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0])):
        if len(sheets) == MOST_SHEETS:
            break
        middle = lat_lon[cells == cell].mean(axis=0)
        title = f"around {middle[0]:.2f}, {middle[1]:.2f}"
        members = _decoded_views(survey, rows[cells == cell])
        shown = _some(survey, members, ON_A_SHEET)
        sheets.append(_sheet(survey, title, counted(size, "record"), shown, frozenset()))
    return Cells(sheets, np.sort(sizes)[::-1].tolist() + [0] * (len(grid) - len(filled)))


def _decoded_views(survey: Survey, rows: NDArray[np.int64]) -> list[int]:
    """Choose one picture of each record, with varying headings, so that a sheet shows all directions."""
    views = survey.views
    shown = []
    for row in rows.tolist():
        begin, end = np.searchsorted(views.record, [row, row + 1])
        decoded = [number for number in range(begin, end) if views.status[number] == "ok"]
        if decoded:
            shown.append(decoded[int(hash_share(survey.ids[row], 2) * len(decoded))])
    return shown


def _some(survey: Survey, numbers: Iterable[int], most: int) -> list[int]:
    """Choose pictures by a hash of their path: the same ones each time, in a random order."""
    return sorted(numbers, key=lambda number: hash_share(survey.views.path[number], 3))[: max(most, 0)]


def _sheet(survey: Survey, title: str, note: str, shown: Sequence[int], framed: frozenset[str]) -> Sheet:
    ids = [survey.ids[survey.views.record[number]] for number in shown]
    return Sheet(title, note, [survey.views.path[number] for number in shown], ids, framed)


def thumbnails(survey: Survey, paths: Iterable[str], *, workers: int | None = None) -> dict[str, bytes]:
    """Return thumbnails as JPEGs by path; pictures that cannot be decoded are absent."""
    wanted = sorted({path for path in paths if path in survey.pictures})
    pictures = read_pictures(
        [survey.pictures[path] for path in wanted], SHOWN_PX, max_pixels=MAX_PIXELS, workers=workers
    )
    shown = tqdm(zip(wanted, pictures, strict=True), total=len(wanted), unit="picture", desc="show", disable=None)
    return {path: jpeg_bytes(picture.pixels) for path, picture in shown if picture.pixels is not None}
