"""The code of a training on another machine: this checkout's commit and its files, as one file in a DVC remote."""

import shutil
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from flows.nights.repository import LOCK, CheckoutError, commit_tree, find, git, untracked
from waymark.errors import WaymarkError

HANDED_BACK = "Handed back"  # state of a training that a worker cannot do
REF = "refs/waymark/handover"
REPOSITORY = "repository"  # name in the archive


class UnreachableError(WaymarkError):
    """This machine does not reach what a training needs."""


def pack(archive: Path) -> None:
    """Write the present commit, and the files as they are now, as a git repository without a history.

    No origin needs to have the commit: a nightly run makes its own, which only this checkout knows. What is in no
    commit goes along, dvc.lock above all, so that the other machine sees the same changes as git does here.

    Raises:
        CheckoutError: this is no git checkout with a commit.
    """
    here = Path.cwd()
    head = find(here, "HEAD^{commit}")
    if head is None:
        raise CheckoutError(f"{here} is no git checkout with a commit, so that no other machine can train for it")
    with TemporaryDirectory(prefix="waymark-") as scratch:
        repository = Path(scratch) / REPOSITORY
        files = commit_tree(here, _tree_of_files(here, Path(scratch) / "index"), [head], "Files as they are\n")
        git(here, "init", "--quiet", "--bare", "--template=", str(repository))
        git(repository, "fetch", "--quiet", "--depth=2", here.as_uri(), f"{files}:{REF}")  # with the commit before
        with tarfile.open(archive, "w") as tar:
            tar.add(repository, REPOSITORY)


def _tree_of_files(folder: Path, index: Path) -> str:
    """Write the tree of the files as they are; the user's own index stays as it is."""
    scratch = {"GIT_INDEX_FILE": str(index)}
    new = [*untracked(folder), *([LOCK] if (folder / LOCK).exists() else [])]
    git(folder, "read-tree", "HEAD", variables=scratch)
    git(folder, "add", "--update", variables=scratch)
    if new:
        git(folder, "add", "--force", "--", *new, variables=scratch)
    return git(folder, "write-tree", variables=scratch)


def unpack(archive: Path, folder: Path) -> None:
    """Bring a folder to where the other checkout is; what git ignores there, such as unfinished work, stays."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / ".git", ignore_errors=True)  # a kill may have left it locked
    with TemporaryDirectory(prefix="waymark-") as scratch:
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        git(folder, "init", "--quiet", "--template=")
        git(folder, "fetch", "--quiet", "--depth=2", (Path(scratch) / REPOSITORY).as_uri(), f"{REF}:{REF}")
    git(folder, "checkout", "--quiet", "--force", "--detach", REF)
    git(folder, "clean", "--quiet", "-ffd")
    git(folder, "reset", "--quiet", "--mixed", f"{REF}^")
