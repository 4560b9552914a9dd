"""Where the tables and the pictures of quadruplets lie: the layouts that people have."""

from pathlib import Path
from typing import NamedTuple

from waymark.data.names import one_form
from waymark.errors import SourceError, nearest_name
from waymark.sources.paths import Finder, is_file, is_folder, leads_out, list_folder
from waymark.sources.walking import is_hidden

TABLE = "data.csv"
HEADINGS = (0, 90, 180, 270)
VIEW_NAMES = frozenset(name for heading in HEADINGS for name in (f"{heading}", f"{heading:03d}"))  # of their files
SUFFIXES = (".jpg", ".jpeg", ".png")
# Names as in `waymark.data.splits.COLUMN_NAMES`. Of a place that stands in several, the copy to test on stays.
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
    inside = _folders_in(path)
    if parts := [part for folder in inside for part in _parts(folder)]:
        return parts
    held = ", ".join(one_form(folder.name) for folder in inside[:5]) or "no folder"
    raise SourceError(
        f"{path} has no {TABLE}, nor has a folder in it (it holds {held}); set download.path to a folder with"
        f" {TABLE} (uuid, latitude, longitude) and images/<uuid>/"
    )


def _named(path: Path, name: str) -> list[Part]:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise SourceError(f"download.quads.folders: {name!r} leads out of {path}, which is all that DVC watches")
    if parts := _parts(Finder(path).find(name)):
        return parts
    known = [one_form(folder.name) for folder in _folders_in(path)]
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
            raise SourceError(f"{inside} has no {TABLE}, as the folders next to it have; add it, or move it away")
    return [Part(inside / TABLE, inside.name.lower()) for inside in divided]


def _split_folders(folder: Path) -> list[Path]:
    """Return the folders of train, val and test, in the order in which their places stay."""
    inside = [path for path in _folders_in(folder) if path.name.lower() in SPLIT_FOLDERS]
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
        for folder in _folders_in(base.folder):
            if folder.name.lower() not in (*PICTURE_FOLDERS, *SPLIT_FOLDERS):
                name = one_form(folder.name)
                found = places.setdefault(name, Place(folder, base.split))
                if found.folder.parent == folder.parent and found.folder != folder:
                    raise SourceError(f"{base.folder} holds a folder {name!r} twice, in two Unicode forms; rename one")
    return places


def _folders_in(folder: Path) -> list[Path]:
    """List the folders in one, but for those that devices made."""
    inside = list_folder(folder) if folder.is_dir() else []
    return [path for path in inside if is_folder(path) and not is_hidden(path.name)]


def find_views(folder: Path, roots: tuple[str, ...]) -> dict[int, Path]:
    """Find the views of a place by heading, of several files for one heading the first suffix.

    Raises:
        SourceError: a link leads out of the folder that is read, of `waymark.sources.paths.real_roots`.
    """
    files = {path.name.lower(): path for path in reversed(list_folder(folder)) if is_file(path)}
    found: dict[int, Path] = {}
    for heading in HEADINGS:
        for name in (f"{heading}{suffix}" for suffix in SUFFIXES):
            if name in files:
                found.setdefault(heading, files[name])
    for path in found.values():
        if leads_out(path, roots):
            raise SourceError(f"{path} leads out of {roots[0]} by a link; copy the pictures into it")
    return found
