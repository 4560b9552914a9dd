"""Street View quadruplets: a table of places, and for each a folder with four views."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from waymark.data.names import one_form
from waymark.data.records import records_table
from waymark.errors import SourceError
from waymark.images.decode import upright_dimensions
from waymark.options.kinds import PathText
from waymark.options.named import STRICT
from waymark.sources.adapter import Fetched, Found, SourceOptions
from waymark.sources.guessing import check_source
from waymark.sources.paths import NAME_BYTES, leads_out, real_roots
from waymark.sources.quad_folders import (
    HEADINGS,
    SPLIT_FOLDERS,
    TABLE,
    Part,
    Place,
    find_parts,
    find_places,
    find_views,
)
from waymark.sources.rows import check_columns, optional_degrees, optional_texts
from waymark.sources.tables import read_table, shown

logger = logging.getLogger(__name__)

NEEDED = ("uuid", "latitude", "longitude")
COLUMNS = {  # of a record, and the columns it is taken from: the first that is there
    "group": ("panorama_id", "panorama", "pano_id"),
    "split": ("split",),
    "captured_at": ("captured_at",),
    "author": ("author",),
    "licence": ("licence", "license"),
    "source_url": ("source_url",),
}
COUNTED = (
    "folders",
    "duplicates_by_uuid",
    "duplicates_by_panorama",
    "missing_views",
    "incomplete_places",
    "dropped_places",
    "folders_without_row",
)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Quads(SourceOptions):
    """Options of the source `quads`.

    Args:
        folders: names of the folders that hold a `data.csv` each, the first first where two know a place; null takes
            all, in the order of their names.
        missing_views: `keep` masks a view that is missing, `drop` drops its place.
    """

    name: ClassVar[str] = "quads"
    reads: ClassVar[str | None] = "the folder that holds data.csv and images/<uuid>/, or to a folder of such folders"

    folders: tuple[PathText, ...] | None = None
    missing_views: Literal["keep", "drop"] = "keep"

    @field_validator("folders")
    @classmethod
    def _some(cls, folders: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if folders is not None and len(set(folders)) != max(1, len(folders)):
            raise ValueError("must name each folder once, or be null for all")
        return folders

    def check(self, path: Path) -> None:
        """Refuse a folder without quadruplets, or whose pictures a table lists."""
        find_parts(path, self.folders)
        check_source(path, self.name)

    def build(self, path: Path, *, work: Path, mirrored: Path | None = None) -> "QuadsSource":
        """Build the source."""
        return QuadsSource(path, mirrored=mirrored, **self.given())


@dataclass(frozen=True, config=STRICT)
class QuadsSource(Quads):
    """Places with four views each, one record for each place.

    Args:
        path: a folder with `data.csv` and pictures, or a folder of such folders.
        mirrored: as of `SourceOptions.build`.
    """

    path: Path
    mirrored: Path | None = None

    def fetch(self, folder: Path) -> Fetched:
        """Copy the views into `folder` and list the places.

        Raises:
            SourceError: no `data.csv`, columns that are missing, uuids that are no name of a folder,
                or no place that has a view.
        """
        return self.find().copy_to(folder)

    def find(self) -> Found:
        """List the places where their views lie.

        Raises:
            SourceError: as for `fetch`.
        """
        rows: list[dict[str, Any]] = []
        pictures: dict[str, Path] = {}
        counts: Counter[str] = Counter()
        for row, views in tqdm(self._places(counts), unit="place", desc="read", disable=None):
            pictures.update(zip((view["path"] for view in row["views"]), views, strict=True))
            row["width"], row["height"] = upright_dimensions(views[0]) or (None, None)
            rows.append(row)
        logger.info("%d places, %d pictures; %s", len(rows), len(pictures), _listed(counts))
        if not rows:
            raise SourceError(
                f"no place of {self.path} has its views ({_listed(counts)}); they are looked for in"
                f" images/<uuid>/0.jpg, 90.jpg, 180.jpg, 270.jpg next to {TABLE}"
            )
        origin = {
            "name": "quads",
            "title": one_form(self.path.resolve().name),
            "description": f"{len(rows)} places of up to four views in {one_form(self.path.name or str(self.path))}",
            "licence": "as their owner says",
        }
        return Found(Fetched(records_table(rows), origin=origin, counts=dict(counts)), pictures)

    def _places(self, counts: Counter[str]) -> Iterator[tuple[dict[str, Any], list[Path]]]:
        """Return the rows that stay, with the files of their views; count the others."""
        counts.update(dict.fromkeys(COUNTED, 0))
        uuids: set[str] = set()
        panoramas: dict[str, tuple[Part, str | None]] = {}  # and where each was seen first
        roots = real_roots(self.path, self.mirrored)
        for part in find_parts(self.path, self.folders):
            counts["folders"] += 1
            places = find_places(part)
            if leads_out(part.table, roots):
                raise SourceError(f"{part.table} leads out of {self.path} by a link; copy the table into it")
            rows = _rows(part, places)
            for row in rows:
                uuid, panorama, here = row["record_id"], row["group"], (part, row["split"])
                if uuid in uuids:
                    counts["duplicates_by_uuid"] += 1
                elif panoramas.get(panorama, here) != here:
                    counts["duplicates_by_panorama"] += 1
                elif views := self._views(row, places.get(uuid), roots, counts):
                    uuids.add(uuid)
                    panoramas.update({} if panorama is None else {panorama: here})
                    yield row, views
            stray = places.keys() - {row["record_id"] for row in rows}
            counts["folders_without_row"] += sum(bool(find_views(places[uuid].folder, roots)) for uuid in stray)

    def _views(
        self, row: dict[str, Any], place: Place | None, roots: tuple[str, ...], counts: Counter[str]
    ) -> list[Path]:
        """List the views of a row and give their files; none where the row is dropped."""
        found = find_views(place.folder, roots) if place is not None else {}
        counts["missing_views"] += len(HEADINGS) - len(found)
        counts["incomplete_places"] += len(found) < len(HEADINGS)
        if not found or (self.missing_views == "drop" and len(found) < len(HEADINGS)):
            counts["dropped_places"] += 1
            return []
        row["views"] = [
            {"path": f"images/{row['record_id']}/{heading}{path.suffix.lower()}", "heading_deg": float(heading)}
            for heading, path in found.items()
        ]
        return list(found.values())


def _rows(part: Part, places: Mapping[str, Place]) -> list[dict[str, Any]]:
    """Read a table; the rows to test on come first, so that of two copies the one to train on yields."""
    table = read_table(part.table)
    check_columns(table, NEEDED, NEEDED, f"it needs {', '.join(NEEDED)}")
    taken: dict[str, str | None] = {
        field: next((name for name in names if name in table.frame), None) for field, names in COLUMNS.items()
    }
    unused = [name for name in map(str, table.frame.columns) if name not in (*NEEDED, *taken.values())]
    if unused:
        logger.info("%s: columns that a record has no field for: %s", part.table, ", ".join(unused))
    fields: dict[str, list[Any]] = {field: optional_texts(table, column) for field, column in taken.items()}
    fields |= {name: optional_degrees(table, name) for name in NEEDED[1:]}
    rows = []
    for place, (number, text) in enumerate(zip(table.frame.index, table.texts("uuid"), strict=True)):
        uuid = _folder_name(text, table.where(number, "uuid"))
        row = {field: values[place] for field, values in fields.items()}
        of_folder = places[uuid].split if uuid in places else None
        rows.append({**row, "record_id": uuid, "split": of_folder or row["split"]})
    return sorted(rows, key=_rank)


def _rank(row: dict[str, Any]) -> int:
    """Order the rows of a division as its folders are: the first of copies stays."""
    split = (row["split"] or "").lower()
    return SPLIT_FOLDERS.index(split) if split in SPLIT_FOLDERS else -1


def _folder_name(uuid: str | None, where: str) -> str:
    if uuid is None:
        raise SourceError(f"{where} is empty; it names the folder of the place's pictures")
    if uuid in (".", "..") or any(letter in uuid for letter in "/\\"):
        raise SourceError(f"{where} {shown(uuid)} leads out of the folder; it names one folder in images/")
    if len(os.fsencode(uuid)) > NAME_BYTES:
        raise SourceError(f"{where} {shown(uuid)} is too long; it names a folder, in at most {NAME_BYTES} bytes")
    return uuid


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counts.items())
