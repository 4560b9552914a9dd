"""What would stop the pipeline half-way, named before it begins: parameters, and what DVC cannot hash."""

import os
from collections.abc import Iterator
from pathlib import Path

from dvc.repo import Repo

from tasks.common.document import check_params
from tasks.common.params import load_params
from waymark.data.names import one_form
from waymark.errors import SourceError
from waymark.sources.paths import exists, is_file, is_folder


def check_inputs() -> None:
    """Refuse what a stage or DVC would stop at later, before anything runs.

    Raises:
        WaymarkError: a wrong parameter, weights that cannot be had, or a folder that DVC cannot hash.
    """
    check_params()
    check_input(Path(load_params()["download"]["path"]))


def check_input(root: Path) -> None:
    """Refuse a folder that DVC cannot hash: it opens every file in it, those that no source reads, too.

    Raises:
        SourceError: it holds a broken link, a pipe, a name that is no UTF-8, or a file that may not be read, and
            `.dvcignore` does not name it.
    """
    if (found := next(_not_ignored(root), None)) is None:
        return
    path, why = found
    inside = path.parent.resolve().is_relative_to(Path.cwd())
    also = ", or name it in .dvcignore (? stands for any one letter)" if inside else ""
    raise SourceError(f"{one_form(str(path))} {why}; DVC reads every file of download.path: remove it{also}")


def _not_ignored(root: Path) -> Iterator[tuple[Path, str]]:
    """Give what DVC cannot hash; DVC itself is asked only where there is something."""
    found = iter(_unhashable(root))
    if (first := next(found, None)) is None:
        return
    with Repo() as repo:
        ignored = repo.dvcignore
        for path, why in [first, *found]:
            folders = [str(folder) for folder in path.absolute().parents]
            asked = [ignored.is_ignored_file(str(path)), *map(ignored.is_ignored_dir, [str(path.absolute()), *folders])]
            if not any(asked):
                yield path, why


def _unhashable(root: Path) -> Iterator[tuple[Path, str]]:
    if exists(root) and not is_folder(root):
        yield from _fault(root)
        return
    for here, folders, files in os.walk(root, onerror=_refuse):
        for name in folders:
            if why := _name_fault(name):
                yield Path(here, name), why
        for name in files:
            yield from _fault(Path(here, name))


def _fault(path: Path) -> Iterator[tuple[Path, str]]:
    if why := _name_fault(path.name):
        yield path, why
    elif not is_file(path):
        yield path, "is a pipe, socket or device, which DVC would wait for" if exists(path) else "is a broken link"
    elif not os.access(path, os.R_OK):
        yield path, "may not be read"


def _name_fault(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "has a name that is no UTF-8, which DVC cannot write down"
    return ""


def _refuse(error: OSError) -> None:
    raise SourceError(f"{one_form(str(error.filename))} cannot be read: {error.strerror}; give yourself the right")
