"""Git as a night needs it: commits and branches are made without a look at anybody's checkout."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from waymark.errors import WaymarkError
from waymark.system.processes import run_command

LOCK = "dvc.lock"
CODE = ("flows", "tasks", "waymark", "params.yaml", "dvc.yaml", LOCK)  # what no night may miss
BOUND = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")  # a hook's own repository
QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}  # a look at a checkout writes nothing
NOBODY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in {"NAME": "Waymark", "EMAIL": "waymark@localhost"}.items()
}


class CheckoutError(WaymarkError):
    """A git checkout is not in a state in which a night can work."""


def git(folder: Path, *arguments: str, given: str | None = None, variables: Mapping[str, str] | None = None) -> str:
    """Run git in a folder, without anybody's hooks, and give what it printed.

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
        said = [line for line in result.stderr.splitlines() if line.strip()] or [f"exit {result.returncode}"]
        raise CheckoutError(f"git {arguments[0]}: {said[-1]}")
    return result.stdout.rstrip("\n")


def find(folder: Path, name: str) -> str | None:
    """Look up the id of a commit, a tree or a file by its name; None where there is none."""
    try:
        return git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", name)
    except CheckoutError:
        return None


def contains(folder: Path, commit: str, other: str) -> bool:
    """Tell whether another commit is the commit itself or lies behind it."""
    return git(folder, "rev-list", "--max-count=1", other, f"^{commit}") == ""


def uncommitted(folder: Path) -> list[str]:
    """Name tracked files that were changed, and code and parameters that git does not know; nothing is written."""
    shown = git(folder, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules")
    return sorted({line[3:] for line in shown.split("\0") if line} | untracked(folder))


def changed(folder: Path, commit: str) -> set[str]:
    """List the tracked files of a checkout that are not as in a commit; git may refresh its index by that."""
    listed = git(folder, "diff", "--name-only", "--no-renames", "--ignore-submodules", "-z", commit, "--")
    return set(filter(None, listed.split("\0")))


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
    """Give the commit that a night starts from: the files of `head` with the dvc.lock of the last night.

    Where `head` brings a dvc.lock that is new since they parted, that one counts.

    Args:
        folder: any checkout of the repository.
        last: what the last night left; None for the first.
        head: what the night is to train.
    """
    if last is None or contains(folder, head, last):
        return head
    lock = find(folder, f"{head}:{LOCK}")
    base = _common(folder, last, head)
    if base is not None and find(folder, f"{base}:{LOCK}") == lock:
        lock = find(folder, f"{last}:{LOCK}") or lock
    tree = _with_lock(folder, head, lock)
    if contains(folder, last, head) and find(folder, f"{last}^{{tree}}") == tree:
        return last
    return commit_tree(folder, tree, [last, head], f"Take over {head[:12]} for the night\n")


def _common(folder: Path, one: str, other: str) -> str | None:
    try:
        return git(folder, "merge-base", one, other)
    except CheckoutError:  # no common history
        return None


def _with_lock(folder: Path, commit: str, lock: str | None) -> str:
    """Write the tree of a commit with another dvc.lock, or with none."""
    entries = [its for its in git(folder, "ls-tree", "-z", commit).split("\0") if its and not its.endswith(f"\t{LOCK}")]
    if lock is not None:
        entries.append(f"100644 blob {lock}\t{LOCK}")
    return git(folder, "mktree", "-z", given="".join(f"{entry}\0" for entry in entries))
