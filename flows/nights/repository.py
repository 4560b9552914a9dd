"""Git, the one way to call it: commits and branches are made without a look at anybody's checkout.

The command itself, as it alone heeds every setting of the user's, and can be told to run no hook.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from waymark.errors import WaymarkError
from waymark.system.processes import run_command

LOCK = "dvc.lock"
CODE = ("flows", "tasks", "waymark", "params.yaml", "dvc.yaml", LOCK)  # what no nightly run may miss
BOUND = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")  # a hook's own repository
QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}  # a look at a checkout writes nothing
NOBODY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in {"NAME": "Waymark", "EMAIL": "waymark@localhost"}.items()
}
PATHS = ("rev-parse", "--path-format=absolute", "--git-path")


class CheckoutError(WaymarkError):
    """A git checkout is not in a state in which a nightly run can work."""


def git(folder: Path, *arguments: str, given: str | None = None, variables: Mapping[str, str] | None = None) -> str:
    """Run git in a folder, without anybody's hooks, and return what it printed.

    Raises:
        CheckoutError: git failed; with its own last line.
    """
    environment = {name: value for name, value in os.environ.items() if name not in BOUND}
    result = run_command(
        ["git", "-C", str(folder), "-c", "core.hooksPath=/dev/null", *arguments],
        env={**environment, **QUIET, **(variables or {})},
        input=given,
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip()] or [f"exit {result.returncode}"]
        raise CheckoutError(f"git {arguments[0]}: {lines[-1]}")
    return result.stdout.rstrip("\n")


def find(folder: Path, name: str) -> str | None:
    """Look up the id of a commit, a tree or a file by its name; None where there is none."""
    try:
        return git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", name)
    except CheckoutError:
        return None


def put(root: Path, folder: Path, commit: str) -> None:
    """Make a folder a checkout of a commit, whatever it was before; what git ignores in it stays.

    It has a repository of its own, made again each time, with the objects and the settings of another one: nothing in
    it needs to be repaired after a kill, a move or a copy, and nobody's branches and locks are touched.
    """
    own = folder / ".git"
    if own.is_file():  # a worktree, as earlier versions made it
        own.unlink()
        git(root, "worktree", "prune")
    shutil.rmtree(own, ignore_errors=True)
    git(root, "init", "--quiet", "--template=", str(folder))
    (own / "objects/info").mkdir(exist_ok=True)
    (own / "objects/info/alternates").write_text(f"{git(root, *PATHS, 'objects')}\n")
    git(folder, "config", "include.path", git(root, *PATHS, "config"))
    before, include, after = (own / "config").read_text().partition("[include]")
    (own / "config").write_text(f"{include}{after}{before}")  # what it has of its own counts more
    git(folder, "checkout", "--quiet", "--force", "--detach", commit)
    git(folder, "clean", "--quiet", "-ffd")


def uncommitted(folder: Path) -> set[str]:
    """Name tracked files that were changed, and code and parameters that git does not know; nothing is written."""
    shown = git(folder, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules")
    return {line[3:] for line in shown.split("\0") if line} | untracked(folder)


def untracked(folder: Path) -> set[str]:
    """List code and parameters that git does not know."""
    present = [name for name in CODE if (folder / name).exists()]
    listed = git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", *present) if present else ""
    return set(filter(None, listed.split("\0")))


def commit_tree(folder: Path, tree: str, parents: Sequence[str], message: str) -> str:
    """Write a commit, signed by the user's name where git knows it; no branch moves."""
    try:
        git(folder, "-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
        variables: dict[str, str] = {}
    except CheckoutError:
        variables = {**NOBODY, **{name: os.environ[name] for name in NOBODY if os.environ.get(name)}}
    behind = [word for parent in parents for word in ("-p", parent)]
    return git(folder, "commit-tree", tree, *behind, "-F", "-", given=message, variables=variables)


def merged(folder: Path, last: str | None, head: str) -> str:
    """Return the commit that a nightly run starts from: the files of `head` with the dvc.lock of the last run.

    Where `head` brings a dvc.lock that is new since they parted, that one counts.

    Args:
        folder: any checkout of the repository.
        last: what the last run left; None for the first.
        head: what is to be trained.
    """
    if last is None or _contains(folder, head, last):
        return head
    lock = find(folder, f"{head}:{LOCK}")
    try:
        base = git(folder, "merge-base", last, head)
    except CheckoutError:  # no common history
        base = ""
    if base and find(folder, f"{base}:{LOCK}") == lock:
        lock = find(folder, f"{last}:{LOCK}") or lock
    tree = with_lock(folder, head, lock)
    if _contains(folder, last, head) and find(folder, f"{last}^{{tree}}") == tree:
        return last
    return commit_tree(folder, tree, [last, head], f"Merge {head[:12]} for the nightly run\n")


def _contains(folder: Path, commit: str, other: str) -> bool:
    """Whether another commit is the commit itself or lies behind it."""
    return git(folder, "rev-list", "--max-count=1", other, f"^{commit}") == ""


def with_lock(folder: Path, commit: str, lock: str | None) -> str:
    """Write the tree of a commit with another dvc.lock, by the id of its content, or with none."""
    listed = git(folder, "ls-tree", "-z", commit).split("\0")
    entries = [line for line in listed if line and not line.endswith(f"\t{LOCK}")]
    if lock is not None:
        entries.append(f"100644 blob {lock}\t{LOCK}")
    return git(folder, "mktree", "-z", given="".join(f"{entry}\0" for entry in entries))
