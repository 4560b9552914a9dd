"""A night's own checkout: a worktree and a branch beside those of the operator, which stay as they are."""

import dataclasses
import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path

from dvc.config import Config, merge

from flows.graph import open_repo
from flows.mirror import mirror_input
from flows.repository import LOCK, CheckoutError, commit_tree, find, git, merged, uncommitted
from flows.worktree import mend, move, refuse_changes, refuse_handwork, settle
from tasks.registry.store import tracking_uri
from waymark.system.addresses import sqlite_path, sqlite_url

logger = logging.getLogger(__name__)

BRANCH = "nights"
HELD = Path(".nights/lock")
STORE_VARIABLE = "MLFLOW_TRACKING_URI"


@dataclasses.dataclass
class Night:
    """A checkout in which nobody works but the night.

    Args:
        root: of the operator's checkout.
        folder: of the night's.
        revision: commit that it is at.
        trains: the operator's commit whose files it has.
        left_out: the operator's files whose changes are in no commit, and so not in the night.
    """

    root: Path
    folder: Path
    revision: str
    trains: str
    left_out: list[str]

    def commit_lock(self, message: str) -> str | None:
        """Commit dvc.lock to the night's branch, and give the new revision; None where it did not change."""
        git(self.folder, "add", "--force", "--", LOCK)
        tree = git(self.folder, "write-tree")
        if tree == find(self.folder, f"{self.revision}^{{tree}}"):
            return None
        commit = commit_tree(self.folder, tree, [self.revision], message)
        git(self.folder, "update-ref", "-m", "night", f"refs/heads/{BRANCH}", commit, self.revision)
        self.revision = commit
        settle(self.root, commit)
        return commit


@contextmanager
def night_checkout(*, committed_only: bool = False, look: bool = False) -> Iterator[Night]:
    """Work in the night's checkout for as long as the block lasts; call from the root of the operator's.

    It has the files of the operator's last commit and the dvc.lock of the last night. DVC's cache, run cache and
    remotes, the store of MLflow and the pictures below `download.path` are the operator's.

    Args:
        committed_only: go on without what the operator has not committed, rather than refuse.
        look: leave the branch of the nights where it is, for whoever only looks at what a night would find.

    Raises:
        CheckoutError: changes that are in no commit, another night at work, or no commit at all.
        ParameterError: `download.path` leads where a night cannot follow.
    """
    root = Path.cwd().resolve()
    if find(root, "HEAD^{commit}") is None or Path(git(root, "rev-parse", "--show-toplevel")) != root:
        raise CheckoutError(f"{root} is not the root of a git checkout with a commit; a night trains what is committed")
    with _alone(root):
        if not committed_only:
            refuse_changes(root, "the checkout", "commit them, or let the night leave them out (committed_only)")
        night = _prepare(root, look)
        with chdir(night.folder), _variables({STORE_VARIABLE: _store(root)}):
            restore_outputs()
            yield night


def _prepare(root: Path, look: bool) -> Night:
    head = git(root, "rev-parse", "HEAD")
    revision = merged(root, find(root, f"refs/heads/{BRANCH}^{{commit}}"), head)
    folder = mend(root, BRANCH, revision)
    refuse_handwork(root, folder)
    move(root, folder, BRANCH, revision, look=look)
    share_cache(root, folder)
    mirror_input(root, folder)
    return Night(root, folder, revision, head, uncommitted(root))


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the lock of the nights, which the kernel lets go when the process dies."""
    (root / HELD).parent.mkdir(exist_ok=True)
    with (root / HELD).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise CheckoutError(
                f"another night is at work in {root} (process {file.read().strip()}); wait for it or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def share_cache(root: Path, folder: Path) -> None:
    """Let DVC in the night's checkout use cache, run cache and remotes of the operator's.

    All of it goes into config.local, which git does not know: it may hold credentials.
    """
    theirs = Config(str(root / ".dvc"), validate=False)
    shared = {**theirs.load_one("repo")}
    merge(shared, theirs.load_one("local"))
    shared["cache"]["dir"] = theirs["cache"].get("dir") or os.path.relpath(root / ".dvc" / "cache")  # DVC writes ASCII
    ours = folder / ".dvc" / Config.CONFIG_LOCAL
    ours.touch(mode=0o600)
    ours.write_text("")
    with Config(str(folder / ".dvc"), validate=False).edit("local", validate=False) as config:
        merge(config, shared)


def restore_outputs() -> None:
    """Bring back from the cache what dvc.lock says, so that only what changed since the last night is to run.

    A killed night may have left other outputs; what the cache lacks is left for the stages to make.
    """
    with open_repo() as repo:
        known = [stage.addressing for stage in repo.index.stages if all(out.hash_info for out in stage.outs)]
        if known:
            repo.checkout(known, force=True, allow_missing=True)


def _store(root: Path) -> str:
    """Give MLflow's store by an address that means the same in every folder."""
    uri = tracking_uri()
    if uri.startswith("file:") and not uri.startswith("file:/"):
        return (root / uri.removeprefix("file:")).as_uri()
    path = sqlite_path(uri)
    return uri if path is None else sqlite_url(root / path)


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
