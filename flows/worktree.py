"""The checkout in which nights work: made, mended, and put where the night starts."""

import logging
import shutil
from pathlib import Path

from flows.repository import CODE, LOCK, CheckoutError, changed, find, git, uncommitted, untracked

logger = logging.getLogger(__name__)

CHECKOUT = Path(".nights/checkout")
AT = Path(".nights/at")  # the commit as which a night left its checkout; missing while that is being moved
BROKEN = Path(".nights/broken")
COMMON = ("rev-parse", "--path-format=absolute", "--git-common-dir")
SHOWN = 10


def mend(root: Path, branch: str, commit: str) -> Path:
    """Give the folder of the night's checkout, made anew where there is none that git knows.

    Raises:
        CheckoutError: the branch is checked out elsewhere.
    """
    folder = root / CHECKOUT
    if folder.exists() and not _is_sound(root, folder):
        _join(root, folder)
    _refuse_elsewhere(root, branch, folder)
    if not _is_sound(root, folder):
        (root / AT).unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(root / BROKEN, ignore_errors=True)
            folder.rename(root / BROKEN)
            logger.warning("git does not know %s any more; what it held lies in %s", folder, root / BROKEN)
        git(root, "worktree", "add", "--force", "--detach", "--no-checkout", str(folder), commit)
    return folder


def _refuse_elsewhere(root: Path, branch: str, folder: Path) -> None:
    place = ""
    for line in git(root, "worktree", "list", "--porcelain").splitlines():
        place = line.removeprefix("worktree ") if line.startswith("worktree ") else place
        if line == f"branch refs/heads/{branch}" and Path(place) != folder and Path(place).exists():
            raise CheckoutError(f"{branch} is the branch of the nights, and checked out in {place}; switch that away")


def _join(root: Path, folder: Path) -> None:
    """Let the folder and the repository know of each other again, where one was moved or copied with the other.

    `git worktree repair` alone would follow a copy to the repository of the original, and change that.
    """
    common = Path(git(root, *COMMON))
    for its in sorted(common.glob("worktrees/*")):
        known = Path(_read(its / "gitdir"))
        lives = known.is_file() and _read(known) == f"gitdir: {its}"
        if known.parts[-3:] == (*CHECKOUT.parts, ".git") and (known == folder / ".git" or not lives):
            (folder / ".git").write_text(f"gitdir: {its}\n")
            git(root, "worktree", "repair", str(folder))
            return


def _is_sound(root: Path, folder: Path) -> bool:
    """Tell whether git takes the folder for a checkout of this repository, and the repository for its own."""
    if not (folder / ".git").is_file():
        return False
    try:
        top = git(folder, "rev-parse", "--show-toplevel")
        ours = git(folder, *COMMON) == git(root, *COMMON)
        back = Path(git(folder, "rev-parse", "--absolute-git-dir"), "gitdir").read_text().strip()
    except (CheckoutError, OSError):
        return False
    return ours and Path(top) == folder and Path(back) == folder / ".git"


def refuse_changes(folder: Path, whose: str, remedy: str) -> None:
    """Stop where files are not as git has them.

    Raises:
        CheckoutError: with the names of the files.
    """
    if names := uncommitted(folder):
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise CheckoutError(f"{whose} has changes that are in no commit: {', '.join(names[:SHOWN])}{more}; {remedy}")


def refuse_handwork(root: Path, folder: Path) -> None:
    """Stop where somebody changed files in the night's checkout.

    The branch may have moved beneath it, and it may have been left in the middle of a move: neither is
    somebody's work, and neither is a dvc.lock that a killed night left.

    Raises:
        CheckoutError: with the names of the files.
    """
    left_at = find(folder, f"{_read(root / AT)}^{{commit}}")
    if left_at is None:
        return
    names = changed(folder, left_at)
    if find(folder, "HEAD^{commit}") is not None:
        names &= changed(folder, "HEAD")
    if names := (names | untracked(folder)) - {LOCK}:
        remedy = "commit or remove them there; a night would overwrite them"
        raise CheckoutError(f"{folder} has changes that are no night's: {', '.join(sorted(names)[:SHOWN])}; {remedy}")


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def move(root: Path, folder: Path, branch: str, commit: str, *, look: bool = False) -> None:
    """Put branch and checkout of the night at a commit; to look only, the checkout without the branch.

    Killed at any point, the next night does it again: git's own locks of the two are removed, as nobody
    else works with them, and while the checkout is on its way nothing in it counts as somebody's change.
    """
    on_its_way = not (root / AT).exists()
    (root / AT).unlink(missing_ok=True)
    _release(folder, branch)
    if look:
        git(folder, "update-ref", "--no-deref", "-m", "look", "HEAD", commit)
    else:
        git(folder, "update-ref", "-m", "night", f"refs/heads/{branch}", commit)
        git(folder, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
    git(folder, "reset", "--quiet", "--hard")
    if on_its_way:  # files of a move that a kill cut off
        git(folder, "clean", "-ffdq", "--", *CODE)
    settle(root, commit)


def settle(root: Path, commit: str) -> None:
    """Remember as which commit the night's checkout was left."""
    (root / AT).write_text(commit)


def _release(folder: Path, branch: str) -> None:
    its, common = Path(git(folder, "rev-parse", "--absolute-git-dir")), Path(git(folder, *COMMON))
    for lock in (its / "index.lock", its / "HEAD.lock", common / f"refs/heads/{branch}.lock"):
        lock.unlink(missing_ok=True)
