"""Where the tables and the pictures of quadruplets lie: the layouts that people have."""

import os
from pathlib import Path
from typing import NamedTuple

from waymark.errors import SourceError, nearest_name

TABLE = "data.csv"
HEADINGS = (0, 90, 180, 270)
VIEW_NAMES = frozenset(name for heading in HEADINGS for name in (f"{heading}", f"{heading:03d}"))  # of their files
SUFFIXES = (".jpg", ".jpeg", ".png")
# Names as in `waymark.splits.COLUMN_NAMES`. Of a place that stands in several, the copy to test on stays.
SPLIT_FOLDERS = ("test", "val", "valid", "validation", "train", "training")
PICTURE_FOLDERS = ("images", "data", "")


class Part(NamedTuple):
    """A table and the folder that its pictures lie in."""

    table: Path
    split: str | None  # of all its places

    @property
    def root(self) -> Path:
        """The folder of the table."""
        return self.table.parent


class Place(NamedTuple):
    """A folder of views, and the split whose folder it lies in."""

    folder: Path
    split: str | None


def find_parts(path: Path, folders: tuple[str, ...] | None = None) -> list[Part]:
    """Find the tables of a folder, or of the folders in it.

    Raises:
        SourceError: there is none.
    """
    if not path.is_dir():
        raise SourceError(f"{path} is no folder; set download.path to a folder that holds {TABLE} and images/<uuid>/")
    if folders is not None:
        return [part for name in folders for part in _named(path, name)]
    if parts := _parts(path):
        return parts
    inside = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    if parts := [part for folder in inside for part in _parts(folder)]:
        return parts
    held = ", ".join(folder.name for folder in inside[:5]) or "no folder"
    raise SourceError(
        f"{path} has no {TABLE}, nor has a folder in it (it holds {held}); set download.path to a folder with"
        f" {TABLE} (uuid, latitude, longitude) and images/<uuid>/"
    )


def _named(path: Path, name: str) -> list[Part]:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise SourceError(f"download.quads.folders: {name!r} leads out of {path}, which is all that DVC watches")
    if parts := _parts(path / name):
        return parts
    known = [folder.name for folder in path.iterdir() if folder.is_dir()]
    raise SourceError(f"download.quads.folders: {path / name} has no {TABLE}; {nearest_name(name, known)}")


def _parts(folder: Path) -> list[Part]:
    """Find the table of a folder, or those of its train, val and test; none where it has none."""
    if (folder / TABLE).is_file():
        return [Part(folder / TABLE, None)]
    divided = _split_folders(folder)
    if not any((inside / TABLE).is_file() for inside in divided):
        return []
    for inside in divided:
        if not (inside / TABLE).is_file():
            raise SourceError(f"{inside} has no {TABLE}, as the folders beside it have; add it, or move it away")
    return [Part(inside / TABLE, inside.name.lower()) for inside in divided]


def _split_folders(folder: Path) -> list[Path]:
    """Give the folders of train, val and test, in the order in which their places stay."""
    if not folder.is_dir():
        return []
    inside = [path for path in folder.iterdir() if path.name.lower() in SPLIT_FOLDERS and path.is_dir()]
    return sorted(inside, key=lambda path: (SPLIT_FOLDERS.index(path.name.lower()), path.name))


def find_places(part: Part) -> dict[str, Place]:
    """Find the folders of views of a table, by uuid."""
    bases: list[Place] = []
    for name in PICTURE_FOLDERS:
        for inside in _split_folders(part.root / name):
            split = part.split or inside.name.lower()
            bases += [Place(inside / inner, split) for inner in PICTURE_FOLDERS]
    bases += [Place(part.root / name, part.split) for name in PICTURE_FOLDERS]
    places: dict[str, Place] = {}
    for base in bases:
        for name in _folders_in(base.folder):
            if name.lower() not in (*PICTURE_FOLDERS, *SPLIT_FOLDERS):
                places.setdefault(name, Place(base.folder / name, base.split))
    return places


def _folders_in(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def find_views(folder: Path) -> dict[int, Path]:
    """Find the views of a place by heading, of several files for one heading the first suffix."""
    files = {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True) if path.is_file()}
    found: dict[int, Path] = {}
    for heading in HEADINGS:
        for name in (f"{heading}{suffix}" for suffix in SUFFIXES):
            if name in files:
                found.setdefault(heading, files[name])
    return found
