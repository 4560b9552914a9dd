# ruff: noqa: PTH110, PTH112, PTH113 (os.path answers no where Path raises: names too long, NULs, folders out of reach)
"""Paths that people bring: what they are, where they lead, and how to find a name that is written in another form."""

import os
from pathlib import Path

from waymark.data.names import one_form
from waymark.errors import SourceError

NAME_BYTES, PATH_BYTES = 255, 3500  # what file systems take of a name, and of a path with room for our own folders


def exists(path: Path) -> bool:
    """Check whether there is anything, behind links."""
    return os.path.exists(path)


def is_file(path: Path) -> bool:
    """Check whether there is a regular file, behind links."""
    return os.path.isfile(path)


def is_folder(path: Path) -> bool:
    """Check whether there is a folder, behind links."""
    return os.path.isdir(path)


def real_roots(folder: Path, mirrored: Path | None = None) -> tuple[str, ...]:
    """Return the folders, without links, to which links in a folder may lead.

    Args:
        folder: that people bring.
        mirrored: the folder whose files it links to, if it was made so.
    """
    return tuple(os.path.realpath(root) for root in (folder, mirrored) if root is not None)


def leads_out(path: Path, roots: tuple[str, ...]) -> bool:
    """Check whether links on the way to a file lead out of the folders that people mean to share."""
    real = os.path.realpath(path)
    return all(os.path.commonpath([real, root]) != root for root in roots)


class Finder:
    """Finds files by names that may be written in another Unicode form than on the disk.

    Args:
        root: folder in which names begin.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listed: dict[Path, dict[str, str]] = {}

    def find(self, relative: str) -> Path:
        """Return the path that opens; where there is none, the name as it is."""
        here = self.root
        for part in relative.split("/"):
            here = here / (part if part.isascii() or os.path.lexists(here / part) else self._named(here, part))
        return here

    def _named(self, folder: Path, name: str) -> str:
        if folder not in self._listed:
            listed = list_folder(folder) if is_folder(folder) else []
            self._listed[folder] = {one_form(path.name): path.name for path in reversed(listed)}
        return self._listed[folder].get(one_form(name), name)


def list_folder(folder: Path) -> list[Path]:
    """List a folder in the order of its names.

    Raises:
        SourceError: it may not be read.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        name = one_form(str(folder))
        raise SourceError(f"{name} cannot be read: {error.strerror}; give yourself the right, or move it") from error
