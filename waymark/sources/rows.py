"""What the tables of sources have in common: their columns, and the files that their rows name."""

import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from waymark.data.names import one_form
from waymark.errors import SourceError, nearest_name
from waymark.sources.paths import NAME_BYTES, PATH_BYTES, Finder, exists, is_file, is_folder, leads_out
from waymark.sources.tables import MEANT, Table, shown
from waymark.sources.walking import SKIPPED

DRIVE = re.compile(r"[A-Za-z]:/")


def check_columns(table: Table, known: Sequence[str], needed: Iterable[str], why: str) -> None:
    """Refuse columns that look like one that is read, and tables that lack one.

    Args:
        table: of a user.
        known: names of columns that are read.
        needed: those that must be there.
        why: what the needed ones are for.

    Raises:
        SourceError: it is so.
    """
    names = list(map(str, table.frame.columns))
    for name in names:
        meant = MEANT.get(name.casefold(), name.casefold())
        if meant in known and meant not in names:
            raise SourceError(f"{table.path} has a column {name!r}, which is not read; call it {meant}")
    for name in needed:
        if name not in names:
            raise SourceError(
                f"{table.path} has no column {name} ({shown(nearest_name(name, names), quoted=False)}); {why}"
            )


def optional_texts(table: Table, column: str | None) -> list[str | None]:
    """Read a column of names; None in every row where there is no such column."""
    return [None] * len(table.frame) if column is None or column not in table.frame else table.texts(column)


def optional_degrees(table: Table, column: str) -> list[float | None]:
    """Read a column of degrees; None where nothing stands, or where there is no such column."""
    if column not in table.frame:
        return [None] * len(table.frame)
    return [None if math.isnan(number) else number for number in table.numbers(column).tolist()]


def relative_path(text: str, where: str) -> str:
    """Make a path of what stands in a cell, with slashes and without detours.

    Raises:
        SourceError: it leads out of the folder, is too long, or names no picture.
    """
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or DRIVE.match(str(path)):
        raise SourceError(f"{where} {shown(text)} leads out of the folder; paths are relative to the table")
    if not path.parts:
        raise SourceError(f"{where} {shown(text)} is a folder; name one picture in it")
    longest = max(len(os.fsencode(part)) for part in path.parts)
    if longest > NAME_BYTES or len(os.fsencode(path)) > PATH_BYTES:
        raise SourceError(
            f"{where} {shown(text)} is too long; a name has at most {NAME_BYTES} bytes, a path {PATH_BYTES}"
        )
    if (kind := SKIPPED.get(path.suffix.lower())) is not None:
        raise SourceError(f"{where} {shown(text)} is one of the {kind} files, which are not decoded; name a JPEG of it")
    return str(path)


def find_picture(finder: Finder, relative: str, roots: tuple[str, ...], where: str) -> Path | None:
    """Find the picture that a row names; None where it is missing.

    Raises:
        SourceError: it is a folder, no file, behind a file, or a link leads out of the folder to it.
    """
    path = finder.find(relative)
    what = f"{where} {shown(relative)}"
    if not os.path.lexists(path):
        for parent in path.parents:
            if parent == finder.root or is_folder(parent):
                return None
            if os.path.lexists(parent):
                passed = one_form(parent.relative_to(finder.root).as_posix())
                raise SourceError(f"{what} goes through {shown(passed)}, which is no folder; correct the path")
        return None
    if leads_out(path, roots):
        raise SourceError(f"{what} leads out of the folder by a link; copy the picture into it")
    if is_folder(path):
        raise SourceError(f"{what} is a folder; name one picture in it")
    if not is_file(path):
        if exists(path):
            raise SourceError(f"{what} is a pipe, socket or device, no picture; take the row out")
        return None  # a broken link
    return path
