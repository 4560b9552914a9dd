"""The user's own pictures in another checkout: links to each file of a folder that git does not keep."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from flows.nights.repository import git
from tasks.common.stage import PARAMS_FILE, load_params
from tasks.download import MIRROR
from waymark.errors import ParameterError

logger = logging.getLogger(__name__)

OUTPUTS = ("data", "trained", "reports")  # of DVC


def mirror_input(root: Path, folder: Path) -> None:
    """Let `download.path` of a checkout lead to the same files as that of the operator's.

    DVC follows a link to a file, but not one to a folder. Links to what is no longer there are removed; files that git
    keeps are in the checkout already.

    Args:
        root: of the operator's checkout.
        folder: of the other one.

    Raises:
        ParameterError: a relative path leads out of the checkout.
    """
    path = (load_params(folder / PARAMS_FILE).get("download") or {}).get("path")
    if not isinstance(path, str) or Path(path).is_absolute():
        return  # the same from everywhere, or refused by the stage itself
    top = Path(os.path.normpath(path))
    if top.parts[:1] == ("..",):
        raise ParameterError(f"download.path {path} leads out of the checkout; a nightly run needs it absolute")
    if (root / top).is_file() and str(top.parent) not in (".", *OUTPUTS):
        top = top.parent  # with the pictures that a table lists
    if top == Path():
        return
    (folder / MIRROR).parent.mkdir(parents=True, exist_ok=True)
    (folder / MIRROR).write_text(str(root.resolve()))  # else the sources would not follow links that lead out
    tracked = set(git(folder, "ls-files", "-z", "--", str(top)).split("\0"))
    wanted = {name: root / name for name in _entries(root, top) if name not in tracked}
    _remove_others(folder, top, wanted)
    for name, target in wanted.items():
        link = folder / name
        if not link.is_symlink() and link.exists():
            logger.warning("%s is a file of its own, not the operator's", link)
        elif not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)


def _entries(root: Path, top: Path) -> Iterator[str]:
    """Name each file below a folder, or the file itself, and each link to a folder, from the root on."""
    if (root / top).is_file():
        yield str(top)
    for here, folders, files in os.walk(root / top):
        links = [name for name in folders if Path(here, name).is_symlink()]
        yield from (os.path.relpath(Path(here, name), root) for name in (*files, *links))


def _remove_others(folder: Path, top: Path, wanted: dict[str, Path]) -> None:
    """Remove links that lead elsewhere than wanted, and folders that are left without any file."""
    names = [str(top)] if (folder / top).is_symlink() else []
    for name in (*names, *_entries(folder, top)):
        link = folder / name
        if link.is_symlink() and wanted.get(name) != link.readlink():
            link.unlink()
    for here, _, _ in os.walk(folder / top, topdown=False):
        if not any(Path(here).iterdir()):
            Path(here).rmdir()
