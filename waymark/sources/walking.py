"""One walk through the folders that people bring: the photos in them, and all else by the reason why it is left out."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from waymark.data.names import one_form
from waymark.errors import SourceError
from waymark.sources.paths import exists, is_file, is_folder, leads_out, real_roots

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
DEVICES = (  # what devices and systems fill with copies and notes of their own
    "@eadir", "__macosx", "$recycle.bin", "#recycle", "#snapshot", "lost+found", "system volume information",
    "thumbs.db", "ehthumbs.db", "desktop.ini",
)  # fmt: skip
LINKS = {
    "linked_folders": "links to folders are not followed; set download.path to the folder itself",
    "links_out": "links that lead out of the folder are not followed; copy the files into it",
}


class Photo(NamedTuple):
    """A photo in a folder.

    Attributes:
        path: of the file, in the bytes that open it.
        name: its path in the folder, in one form and with slashes.
    """

    path: Path
    name: str


class Walk(NamedTuple):
    """What lies in a folder and in the folders in it.

    Attributes:
        photos: in the order of their names, which differ.
        skipped: number of files, and of folders that are not entered, by the reason.
    """

    photos: list[Photo]
    skipped: Counter[str]

    def summary(self) -> str:
        """List what was skipped, such as `2 raw, 1 videos`."""
        return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(self.skipped.items()))


def walk_photos(root: Path, mirrored: Path | None = None) -> Walk:
    """List the photos in a folder and in the folders in it, and count what is none.

    Links to photos in the folder are followed; links to folders are not, for DVC would not see what changes behind
    them, nor are links that lead out of the folder.

    Args:
        root: the folder.
        mirrored: another folder to which links may lead, for it is what this one stands for.

    Raises:
        SourceError: a folder that may not be read, or two photos whose names differ in their Unicode form alone.
    """
    photos: dict[str, Photo] = {}
    skipped: Counter[str] = Counter()
    for path, kind in walk(root, real_roots(root, mirrored)):
        if kind != "photo":
            skipped[kind] += 1
            if kind in LINKS and skipped[kind] == 1:
                logger.warning("%s: %s", one_form(str(path)), LINKS[kind])
            continue
        photo = Photo(path, one_form(path.relative_to(root).as_posix()))
        if (other := photos.setdefault(photo.name, photo)) is not photo:
            one, two = (os.fsencode(each.path.relative_to(root)) for each in (other, photo))
            raise SourceError(
                f"{root} holds {photo.name!r} twice, in two Unicode forms: {one!r} and {two!r}; rename one"
            )
    return Walk([photos[name] for name in sorted(photos)], skipped)


def walk(root: Path, roots: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    """Return all files below a folder, and the folders that are not entered, each with its kind.

    Args:
        root: the folder.
        roots: of `waymark.sources.paths.real_roots`.

    Raises:
        SourceError: a folder may not be read.
    """

    def refuse(error: OSError) -> None:
        name = one_form(str(error.filename))
        raise SourceError(f"{name} cannot be read: {error.strerror}; give yourself the right, or move it") from error

    for here, folders, files in os.walk(root, onerror=refuse):
        kinds = {name: kind_of(Path(here, name), roots) for name in folders}
        folders[:] = [name for name in folders if kinds[name] == "folder"]
        yield from ((Path(here, name), kind) for name, kind in kinds.items() if kind != "folder")
        yield from ((Path(here, name), kind_of(Path(here, name), roots)) for name in files)


def kind_of(path: Path, roots: tuple[str, ...]) -> str:
    """Classify a path, without opening it: `photo`, `folder`, or the reason why it is neither.

    Args:
        path: in a folder.
        roots: of `waymark.sources.paths.real_roots`.
    """
    if is_hidden(path.name):
        return "hidden"
    if not is_file(path):
        if is_folder(path):
            return "linked_folders" if path.is_symlink() else "folder"
        return "special_files" if exists(path) else "broken_links"
    if path.is_symlink() and leads_out(path, roots):
        return "links_out"
    suffix = path.suffix.lower()
    return "photo" if suffix in PHOTOS else SKIPPED.get(suffix, "others")


def is_hidden(name: str) -> bool:
    """Recognise by its name what its owner does not see, or what a device made."""
    return name.startswith(".") or name.lower() in DEVICES
