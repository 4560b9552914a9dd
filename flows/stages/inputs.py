"""What would stop the pipeline half-way, named before it begins: parameters, and files that DVC cannot hash."""

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
    """Refuse a folder that DVC cannot hash: it opens every file in it, also those that no source reads.

    Raises:
        SourceError: it holds a broken link, a pipe, a name that is no UTF-8, or a file that may not be read, and
            `.dvcignore` does not name it.
    """
    for path, why in _not_ignored(list(_unhashable(root))):
        inside = path.parent.resolve().is_relative_to(Path.cwd())
        also = ", or name it in .dvcignore (? stands for any one letter)" if inside else ""
        raise SourceError(f"{one_form(str(path))} {why}; DVC reads every file of download.path: remove it{also}")


def _not_ignored(found: list[tuple[Path, str]]) -> Iterator[tuple[Path, str]]:
    """Leave out what `.dvcignore` names; DVC, which is slow to open, is asked only where something was found."""
    if not found:
        return
    with Repo() as repo:
        ignored = repo.dvcignore
        for path, why in found:
            folders = [str(path.absolute()), *map(str, path.absolute().parents)]
            if not (ignored.is_ignored_file(str(path)) or any(map(ignored.is_ignored_dir, folders))):
                yield path, why


def _unhashable(root: Path) -> Iterator[tuple[Path, str]]:
    if exists(root) and not is_folder(root):
        yield from [(root, why)] if (why := _fault(root)) else []
        return
    for here, folders, files in os.walk(root, onerror=_refuse):
        yield from ((Path(here, name), why) for name in folders if (why := _name_fault(name)))
        yield from ((path, why) for name in files if (why := _fault(path := Path(here, name))))


def _fault(path: Path) -> str:
    if why := _name_fault(path.name):
        return why
    if not is_file(path):
        return "is a pipe, socket or device, which DVC would wait for" if exists(path) else "is a broken link"
    return "" if os.access(path, os.R_OK) else "may not be read"


def _name_fault(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return "has a name that is no UTF-8, which DVC cannot write down"
    return ""


def _refuse(error: OSError) -> None:
    raise SourceError(f"{one_form(str(error.filename))} cannot be read: {error.strerror}; give yourself the right")
