"""Which source lies in a folder: one rule, for those who check a folder and for those who train on it."""

from pathlib import Path

from waymark.errors import SourceError
from waymark.sources.paths import is_file, list_folder
from waymark.sources.quad_folders import TABLE, find_parts
from waymark.sources.table import is_table
from waymark.sources.tables import column_names

RAW = "raw"


def guess_source(path: Path) -> str:
    """Guess the source by what lies there.

    `records.parquet` is what the stage download wrote; a table with a column `path` lists pictures; `data.csv`, here
    or in the folders within, lists quadruplets; all else is a tree of photos.

    Raises:
        SourceError: the folder may not be read.
    """
    if is_file(path):
        return "table"
    if (path / "records.parquet").is_file():
        return RAW
    if find_listing(path) is not None:
        return "table"
    return "quads" if _holds_quads(path) else "photos"


def find_listing(folder: Path) -> Path | None:
    """Find the table in a folder that lists pictures, the first of several."""
    tables = (path for path in list_folder(folder) if is_table(path) and is_file(path))
    return next((path for path in tables if _lists_pictures(path)), None)


def check_source(path: Path, source: str) -> None:
    """Refuse to read a folder in one way where whoever looks at it is told of another.

    Args:
        path: folder of the user.
        source: how it is to be read: `photos` or `quads`.

    Raises:
        SourceError: a table lists the pictures, or they are quadruplets.
    """
    found = guess_source(path)
    if source == "photos" and found == "quads":
        raise SourceError(
            f"{path} holds {TABLE} of quadruplets, which the source photos would not read; set download.source to"
            " quads, or take the tables out of the folder"
        )
    if found == "table" and (listing := find_listing(path)) is not None:
        raise SourceError(
            f"{listing} lists pictures, which the source {source} would not read; set download.source to table, or"
            " take the table out of the folder"
        )


def _holds_quads(folder: Path) -> bool:
    try:
        return bool(find_parts(folder))
    except SourceError:  # no data.csv, here or within
        return False


def _lists_pictures(table: Path) -> bool:
    names = column_names(table)
    return "path" in names and not (table.name == TABLE and "uuid" in names)
