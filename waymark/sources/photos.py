"""A folder of photos that know where they were taken."""

import logging
import math
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from pydantic.dataclasses import dataclass
from tqdm import tqdm

from waymark.data.names import one_form
from waymark.data.records import records_table
from waymark.errors import SourceError
from waymark.images.exif import PhotoFacts, read_facts
from waymark.options.named import STRICT
from waymark.sources.adapter import Fetched, Found, SourceOptions
from waymark.sources.guessing import check_source
from waymark.sources.walking import PHOTOS, Photo, Walk, walk_photos

logger = logging.getLogger(__name__)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Photos(SourceOptions):
    """Options of the source `photos`.

    Args:
        label: `folder` makes the name of a photo's folder its landmark.
        group: what is never split apart: the photos that one folder has of one day, those
            of one folder, or nothing.
        heading: whether the direction that a photo brings along becomes its view's heading.
            Off by default: a model takes few different headings for those of a rig.
    """

    name: ClassVar[str] = "photos"
    reads: ClassVar[str | None] = "the folder of your photos"

    label: Literal["none", "folder"] = "none"
    group: Literal["folder_day", "folder", "none"] = "folder_day"
    heading: bool = False

    def check(self, path: Path) -> None:
        """Refuse a folder whose pictures a table lists, or that holds quadruplets."""
        check_source(path, self.name)

    def build(self, path: Path, *, work: Path, mirrored: Path | None = None) -> "PhotosSource":
        """Build the source."""
        return PhotosSource(path, mirrored=mirrored, **self.given())


@dataclass(frozen=True, config=STRICT)
class PhotosSource(Photos):
    """Photos in a folder and the folders in it, one record for each.

    Args:
        path: the folder.
        mirrored: as of `SourceOptions.build`.
    """

    path: Path
    mirrored: Path | None = None

    def fetch(self, folder: Path) -> Fetched:
        """Copy the photos into `folder` and list them.

        Raises:
            SourceError: no folder, no photo in it, or one that may not be read.
        """
        return self.find().copy_to(folder)

    def find(self) -> Found:
        """List the photos where they lie.

        Raises:
            SourceError: no folder, no photo in it, or two of one name.
        """
        if not self.path.is_dir():
            raise SourceError(f"{self.path} is no folder; set download.path to the folder of your photos")
        walk = walk_photos(self.path, self.mirrored)
        if not walk.photos:
            held = f"skipped: {walk.summary()}" if walk.skipped else "nothing"
            raise SourceError(
                f"{self.path} holds no photo ({held}); put some in ({' '.join(PHOTOS)}) or set download.path"
            )
        counts = Counter({f"skipped_{kind}": count for kind, count in walk.skipped.items()})
        rows, pictures = [], {}
        for photo in tqdm(walk.photos, unit="photo", desc="read", disable=None):
            facts = read_facts(photo.path)
            row = self._row(photo, facts)
            pictures[row["views"][0]["path"]] = photo.path
            counts[_gps(facts)] += 1
            rows.append(row)
        logger.info(_summary(counts, walk, len(rows)))
        origin = {
            "name": "photos",
            "title": one_form(self.path.resolve().name),
            "description": f"{len(rows)} photos in {one_form(self.path.name or str(self.path))}",
            "licence": "as their owner says",
        }
        return Found(Fetched(records_table(rows), origin=origin, counts=dict(sorted(counts.items()))), pictures)

    def _row(self, photo: Photo, facts: PhotoFacts) -> dict[str, Any]:
        name = PurePosixPath(photo.name)
        parent = "" if name.parent == PurePosixPath() else str(name.parent)
        width, height = facts.dimensions or (None, None)
        return {
            "record_id": str(name),
            "views": [{"path": f"images/{name}", "heading_deg": facts.heading_deg if self.heading else None}],
            "landmarks": [name.parent.name] if self.label == "folder" and parent else [],
            "latitude": facts.latitude,
            "longitude": facts.longitude,
            "group": self._group(parent, facts.captured_at),
            "width": width,
            "height": height,
            "captured_at": facts.captured_at,
            "author": facts.author,
            "licence": facts.copyright,
        }

    def _group(self, parent: str, captured_at: str | None) -> str | None:
        if self.group == "none":
            return None
        day = captured_at[:10] if captured_at and self.group == "folder_day" else ""
        return f"{parent}/{day}"


def _gps(facts: PhotoFacts) -> str:
    if facts.latitude is None and facts.longitude is None:
        return "without_gps"
    halves = (facts.latitude, facts.longitude)
    return "unreadable_gps" if any(half is None or math.isnan(half) for half in halves) else "with_gps"


def _summary(counts: Counter[str], walk: Walk, photos: int) -> str:
    return (
        f"{photos} photos: {counts['with_gps']} with GPS, {counts['without_gps']} without,"
        f" {counts['unreadable_gps']} with GPS that is no place; skipped {walk.summary() or 'nothing'}"
    )
