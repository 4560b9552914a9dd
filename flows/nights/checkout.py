"""The checkout of nightly runs: a folder and a branch of their own, while the operator's stay as they are."""

import dataclasses
import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from dvc.config import Config, merge

from flows.locks import exclusive
from flows.nights.pictures import mirror_input
from flows.nights.repository import LOCK, CheckoutError, commit_tree, find, git, merged, put, uncommitted, with_lock
from flows.stages.graph import open_repo
from tasks.registry.store import tracking_uri
from waymark.inference.references import environment_name
from waymark.system.addresses import sqlite_path, sqlite_url

BRANCH = environment_name("nights")
CHECKOUT = Path(".nights/checkout")
HELD = Path(".nights/lock")
AT = Path(".nights/at")  # the commit as which a run left its checkout; missing while that is being changed
STORE = "MLFLOW_TRACKING_URI"
SHOWN = 10  # files in a message


@dataclasses.dataclass
class Nightly:
    """A checkout in which nobody works but the nightly run."""

    root: Path  # of the operator's checkout
    folder: Path  # of the run's
    revision: str  # commit that it is at
    trains: str  # the operator's commit whose files it has
    left_out: list[str]  # the operator's files whose changes are in no commit, and so not in the run

    def commit_lock(self, message: str) -> str | None:
        """Commit dvc.lock to the branch, and return the new revision; None where it did not change."""
        lock = git(self.root, "hash-object", "-w", f"--path={LOCK}", "--", str(self.folder / LOCK))
        tree = with_lock(self.root, self.revision, lock)
        if tree == find(self.root, f"{self.revision}^{{tree}}"):
            return None
        commit = commit_tree(self.root, tree, [self.revision], message)
        with _moving(self.root, commit):
            git(self.root, "update-ref", "-m", "nightly", f"refs/heads/{BRANCH}", commit, self.revision)
            git(self.folder, "reset", "--quiet", "--mixed", commit)
        self.revision = commit
        return commit


@contextmanager
def nightly_checkout(*, committed_only: bool = False, look: bool = False) -> Iterator[Nightly]:
    """Work in the checkout of nightly runs for as long as the block lasts; call from the root of the operator's.

    It has the files of the operator's last commit and the dvc.lock of the last run. DVC's cache, run cache and remotes,
    the store of MLflow and the pictures below `download.path` are the operator's. A run that is killed at any point
    leaves nothing that the next one does not make again.

    Args:
        committed_only: go on without what the operator has not committed, rather than refuse.
        look: leave the branch where it is, for whoever only looks at what a run would find.

    Raises:
        CheckoutError: changes that are in no commit, another run at work, or no commit at all.
        ParameterError: `download.path` leads where a nightly run cannot follow.
    """
    root = Path.cwd().resolve()
    if find(root, "HEAD^{commit}") is None or Path(git(root, "rev-parse", "--show-toplevel")) != root:
        raise CheckoutError(f"{root} is not the root of a git checkout with a commit; only a commit can be trained")
    busy = f"another nightly run is at work in {root} (process {{pid}}); wait for it or stop it"
    with exclusive(root / HELD, busy, CheckoutError):
        changes = sorted(uncommitted(root))
        if changes and not committed_only:
            remedy = "commit them, or let the run leave them out (committed_only)"
            raise CheckoutError(f"the checkout has changes that are in no commit: {_named(changes)}; {remedy}")
        nightly = _prepare(root, changes, look)
        before = os.environ.get(STORE)
        os.environ[STORE] = _store(root)
        try:
            with chdir(nightly.folder):
                restore_outputs()
                yield nightly
        finally:
            os.environ.pop(STORE)
            os.environ.update({} if before is None else {STORE: before})


def _prepare(root: Path, changes: list[str], look: bool) -> Nightly:
    head, folder = git(root, "rev-parse", "HEAD"), root / CHECKOUT
    revision = merged(root, find(root, f"refs/heads/{BRANCH}^{{commit}}"), head)
    _refuse_branch_in_use(root)
    _refuse_handwork(root, folder)
    with _moving(root, revision):
        put(root, folder, revision)
        if not look:
            git(root, "update-ref", "-m", "nightly", f"refs/heads/{BRANCH}", revision)
    share_cache(root, folder)
    mirror_input(root, folder)
    return Nightly(root, folder, revision, head, changes)


@contextmanager
def _moving(root: Path, commit: str) -> Iterator[None]:
    """Bring the checkout to a commit; killed meanwhile, nothing in it counts as somebody's change."""
    (root / AT).unlink(missing_ok=True)
    yield
    (root / AT).write_text(commit)


def _named(files: list[str]) -> str:
    return ", ".join(files[:SHOWN]) + (f" and {len(files) - SHOWN} more" if len(files) > SHOWN else "")


def _refuse_branch_in_use(root: Path) -> None:
    """Stop where the branch is checked out, whose files would seem to be changed when it moves."""
    place = Path()
    for line in git(root, "worktree", "list", "--porcelain").splitlines():
        place = Path(line.removeprefix("worktree ")) if line.startswith("worktree ") else place
        nightly = place.parts[-2:] == CHECKOUT.parts  # of an earlier version, or of a checkout that this is a copy of
        if line == f"branch refs/heads/{BRANCH}" and not nightly and place.exists():
            raise CheckoutError(f"{BRANCH} is the branch of nightly runs, and checked out in {place}; switch that away")


def _refuse_handwork(root: Path, folder: Path) -> None:
    """Stop where somebody changed or committed files in the checkout; a dvc.lock is what a killed run left."""
    if not (root / AT).exists() or not folder.exists():
        return
    try:
        if Path(git(folder, "rev-parse", "--show-toplevel")) != folder:  # it has no sound repository
            return
        names = sorted(uncommitted(folder) - {LOCK})
        moved = git(folder, "rev-parse", "HEAD") != (root / AT).read_text()
    except CheckoutError:
        return
    if names or moved:
        what = f"changes that are no nightly run's: {_named(names)}" if names else "commits that are no nightly run's"
        raise CheckoutError(f"{folder} has {what}; take them away from there; a nightly run would overwrite them")


def share_cache(root: Path, folder: Path) -> None:
    """Let DVC in another checkout use cache, run cache and remotes of the operator's.

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
    """Bring back from the cache the outputs of dvc.lock, so that only what changed since the last run is to run.

    A killed run may have left other outputs; what the cache lacks is left for the stages to make.
    """
    with open_repo() as repo:
        known = [stage.addressing for stage in repo.index.stages if all(out.hash_info for out in stage.outs)]
        if known:
            repo.checkout(known, force=True, allow_missing=True)


def _store(root: Path) -> str:
    """Return MLflow's store as an address that means the same in every folder."""
    uri = tracking_uri()
    if uri.startswith("file:") and not uri.startswith("file:/"):
        return (root / uri.removeprefix("file:")).as_uri()
    path = sqlite_path(uri)
    return uri if path is None else sqlite_url(root / path)
