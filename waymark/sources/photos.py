"""A folder of photos that know where they were taken."""

import logging
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from tqdm import tqdm

from waymark.errors import SourceError
from waymark.images.exif import PhotoFacts, read_facts
from waymark.records import records_table
from waymark.sources.adapter import Fetched
from waymark.sources.rows import copy_picture

logger = logging.getLogger(__name__)

PHOTOS = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".heic", ".heif", ".hif", ".png", ".webp", ".tif", ".tiff")
RAW = "3fr arw cr2 cr3 crw dng erf iiq nef nrw orf pef raf raw rw2 rwl sr2 srw x3f"
VIDEOS = "3gp avi insv lrv m4v mkv mov mp4 mpg mts webm wmv"
SIDECARS = "aae dop gpx json pp3 thm xmp"
SKIPPED = {
    f".{suffix}": kind
    for kind, suffixes in (("raw", RAW), ("videos", VIDEOS), ("sidecars", SIDECARS))
    for suffix in suffixes.split()
}
NOT_THEIRS = ("@eadir", "__macosx", "$recycle.bin", "#recycle")  # folders that devices fill with copies


@dataclass(frozen=True)
class PhotosSource:
    """Photos in a folder and the folders in it, one record for each.

    Args:
        path: the folder.
        label: `folder` makes the name of a photo's folder its landmark.
        group: what is never split apart: the photos that one folder has of one day, those
            of one folder, or nothing.
        heading: whether the direction that a photo brings along becomes its view's heading.
            Off by default: a model takes few different headings for those of a rig.
    """

    path: Path
    label: Literal["none", "folder"] = "none"
    group: Literal["folder_day", "folder", "none"] = "folder_day"
    heading: bool = False

    def fetch(self, folder: Path) -> Fetched:
        """Copy the photos into `folder` and list them.

        Raises:
            SourceError: no folder, or no photo in it.
        """
        photos, counts = find_photos(self.path)
        rows = []
        for photo in tqdm(photos, unit="photo", desc="copy", disable=None):
            facts = read_facts(photo)
            row = self._row(photo, facts)
            copy_picture(photo, folder / row["views"][0]["path"])
            counts[_gps(facts)] += 1
            rows.append(row)
        logger.info(_told(len(rows), counts))
        origin = {
            "name": "photos",
            "description": f"{len(rows)} photos in {self.path.name or self.path}",
            "licence": "as their owner says",
        }
        return Fetched(records=records_table(rows), origin=origin, counts=dict(sorted(counts.items())))

    def _row(self, photo: Path, facts: PhotoFacts) -> dict[str, Any]:
        name = PurePosixPath(_readable(photo.relative_to(self.path)))
        its_folder = "" if name.parent == PurePosixPath() else str(name.parent)
        width, height = facts.dimensions or (None, None)
        return {
            "record_id": str(name),
            "views": [{"path": f"images/{name}", "heading_deg": facts.heading_deg if self.heading else None}],
            "landmarks": [name.parent.name] if self.label == "folder" and its_folder else [],
            "latitude": facts.latitude,
            "longitude": facts.longitude,
            "group": self._group(its_folder, facts.captured_at),
            "width": width,
            "height": height,
            "captured_at": facts.captured_at,
            "author": facts.author,
            "licence": facts.copyright,
        }

    def _group(self, its_folder: str, captured_at: str | None) -> str | None:
        if self.group == "none":
            return None
        day = captured_at[:10] if captured_at and self.group == "folder_day" else ""
        return f"{its_folder}/{day}"


def find_photos(root: Path) -> tuple[list[Path], Counter[str]]:
    """List the photos in a folder and in the folders in it, and count what is no photo.

    Links to photos are followed; links to folders are not, for DVC would not see what
    changes behind them.

    Raises:
        SourceError: no folder, no photo in it, or a folder that may not be read.
    """
    if not root.is_dir():
        raise SourceError(f"{root} is no folder; set download.path to the folder of your photos")
    photos: list[Path] = []
    counts: Counter[str] = Counter()
    for path in _walk(root):
        if (kind := _kind(path)) == "photo":
            photos.append(path)
        else:
            counts[f"skipped_{kind}"] += 1
    if counts["skipped_linked_folders"]:
        logger.warning("links to folders are not followed; set download.path to the folder itself")
    if not photos:
        held = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(counts.items())) or "nothing"
        raise SourceError(f"{root} holds no photo ({held}); put some in ({' '.join(PHOTOS)}) or set download.path")
    return sorted(photos), counts


def _walk(root: Path) -> Iterator[Path]:
    """Give all files, and the folders that are not entered: hidden ones and links."""

    def refuse(error: OSError) -> None:
        raise SourceError(f"{error.filename} cannot be read: {error.strerror}; give yourself the right to, or move it")

    for here, folders, files in os.walk(root, onerror=refuse):
        kinds = {name: _kind(Path(here, name)) for name in folders}
        folders[:] = [name for name in folders if kinds[name] == "folder"]
        yield from (Path(here, name) for name in kinds if kinds[name] != "folder")
        yield from (Path(here, name) for name in files)


def _kind(path: Path) -> str:
    """Say what a path is, without opening it."""
    if path.name.startswith(".") or path.name.lower() in NOT_THEIRS:
        return "hidden"
    if path.is_dir():
        return "linked_folders" if path.is_symlink() else "folder"
    if not path.is_file():
        return "broken_links" if path.is_symlink() else "others"
    suffix = path.suffix.lower()
    return "photo" if suffix in PHOTOS else SKIPPED.get(suffix, "others")


def _readable(relative: Path) -> str:
    r"""Write a name that is not UTF-8 with \x.. for the bytes that are none."""
    return os.fsencode(relative).decode("utf-8", "backslashreplace")


def _gps(facts: PhotoFacts) -> str:
    if facts.latitude is None and facts.longitude is None:
        return "without_gps"
    halves = (facts.latitude, facts.longitude)
    return "unreadable_gps" if any(half is None or math.isnan(half) for half in halves) else "with_gps"


def _told(photos: int, counts: Counter[str]) -> str:
    skipped = [
        f"{count} {kind.removeprefix('skipped_').replace('_', ' ')}"
        for kind, count in sorted(counts.items())
        if kind.startswith("skipped_")
    ]
    return (
        f"{photos} photos: {counts['with_gps']} with GPS, {counts['without_gps']} without,"
        f" {counts['unreadable_gps']} with GPS that is no place; skipped {', '.join(skipped) or 'nothing'}"
    )
