"""Give disk back: what only nights of long ago need goes, what an alias or a tag needs stays."""

import argparse
import fcntl
import logging
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from dvc.repo import Repo
from dvc_data.hashfile.gc import gc
from prefect import flow
from prefect.states import Completed, Failed, State

from flows.addresses import addresses, settings
from flows.artifacts import write_markdown
from flows.command import add_debug, as_command
from flows.names import dated
from flows.night import BRANCH, HELD
from flows.repository import LOCK, CheckoutError, find, git
from flows.worker import end_with_worker
from flows.worktree import CHECKOUT
from tasks.common.stage import WORK, one_line
from tasks.registry.retention import Forgettable, forget, forgettable, needed
from tasks.registry.store import tracking_uri
from waymark.errors import ParameterError, WaymarkError
from waymark.inference.references import is_served_from
from waymark.system.terminal import printable_lines

WORK_KEY = re.compile(r"[0-9a-f]{16}")
BEGINNING = datetime.fromtimestamp(0, UTC)
KEEP = 14  # nights


class Plan(NamedTuple):
    """What goes.

    Attributes:
        nights: how many stay.
        before: when the last night before them ended; what is older may go.
        objects: files of DVC's cache, and their bytes.
        used: what DVC keeps.
        work: folders of unfinished work, and their bytes.
        mlflow: runs and versions.
    """

    nights: int
    before: datetime
    objects: tuple[int, int]
    used: set[object]
    work: list[tuple[Path, int]]
    mlflow: Forgettable

    def words(self) -> str:
        """Say it in Markdown."""
        since = f"since {self.before:%Y-%m-%d %H:%M} UTC" if self.before > BEGINNING else "all there are"
        rows = [
            ("files of DVC's cache", *self.objects),
            ("folders of unfinished work", len(self.work), sum(size for _, size in self.work)),
            (f"runs of MLflow, with {len(self.mlflow.versions)} versions", len(self.mlflow.runs), self.mlflow.bytes),
        ]
        lines = [f"Kept: {self.nights} nights ({since}), all branches and tags, and what an alias needs.", ""]
        lines += ["| what goes | count | MB |", "|---|---:|---:|"]
        lines += [f"| {what} | {count:,} | {size / 1e6:,.1f} |" for what, count, size in rows]
        return "\n".join(lines)


@flow(name="tidy", flow_run_name=dated("tidy"))
def tidy(keep: int = KEEP, dry_run: bool = False) -> State[Any]:
    """Remove what only nights of long ago need; what an alias, its history or a git tag needs stays.

    Args:
        keep: Nights that stay.
        dry_run: Say what would go, and remove nothing.
    """
    end_with_worker()
    try:
        said = run(keep, dry_run=dry_run)
    except (WaymarkError, FileNotFoundError) as error:
        return Failed(message=one_line(error))
    write_markdown("tidy", said, "what went, and what stays")
    return Completed(message=said.rpartition("\n\n")[2])


def run(keep: int, *, dry_run: bool) -> str:
    """Do it; call from the root of the operator's checkout.

    Raises:
        ParameterError: no night is to stay.
        CheckoutError: a night or a stage is at work, whose outputs no lock file names yet, or others use the cache.
    """
    if keep < 1:
        raise ParameterError(f"keep must be at least 1, not {keep}")
    root = Path.cwd().resolve()
    _refuse_shared(root)
    folders = [folder for folder in (root, root / CHECKOUT) if (folder / "dvc.yaml").exists()]
    with _nobody_at_work(root, folders):
        plan = _plan(root, folders, keep)
        words = plan.words()
        if dry_run:
            return f"{words}\n\nNothing was removed; leave out the dry run to remove it."
        return f"{words}\n\n{_remove(root, plan)}"


def _refuse_shared(root: Path) -> None:
    with Repo(str(root)) as repo:
        cache = Path(repo.cache.local_cache_dir).resolve()
    if not cache.is_relative_to(root):
        raise CheckoutError(
            f"the cache of DVC is {cache}, where other projects may use it; tidy it with dvc gc and their folders"
        )


@contextmanager
def _nobody_at_work(root: Path, folders: Sequence[Path]) -> Iterator[None]:
    """Hold the nights' lock and that of every stage, which the kernel lets go."""
    locks = [root / HELD, *(lock for folder in folders for lock in sorted((folder / WORK / "locks").glob("*.lock")))]
    with ExitStack() as stack:
        for path in locks:
            path.parent.mkdir(exist_ok=True)
            file = stack.enter_context(path.open("a"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                who = "a night" if path == root / HELD else path.stem
                raise CheckoutError(f"{who} is at work, whose outputs DVC does not know yet; tidy afterwards") from None
        yield


def _plan(root: Path, folders: Sequence[Path], keep: int) -> Plan:
    nights = [] if find(root, BRANCH) is None else git(root, "rev-list", "--first-parent", BRANCH, "--", LOCK).split()
    kept = nights[:keep]
    since = int(git(root, "show", "--no-patch", "--format=%ct", nights[keep])) if len(nights) > keep else 0
    if not nights:
        since = int(time.time()) - keep * 86_400  # without nights, as many days
    before, stays = datetime.fromtimestamp(since, UTC), needed(folders)
    revisions = sorted({*kept, *(its for its in stays.revisions if find(root, f"{its}^{{commit}}"))})
    used = _used(root, folders, revisions)
    work = [(path, size) for folder in folders for path, size in _old_work(folder / WORK, since)]
    return Plan(min(keep, len(nights)), before, _unused(root, used), used, work, forgettable(before, stays))


def _used(root: Path, folders: Sequence[Path], revisions: list[str]) -> set[object]:
    """Ask DVC what the checkouts, all branches and tags, its experiments and some revisions need.

    Commits may name outputs that were never here, such as the bundled dvc.lock of a fresh clone: these need nothing.
    """
    logging.getLogger("dvc").setLevel(logging.ERROR)  # that a commit without dvc.lock needs nothing is no news
    every = {"all_branches": True, "all_tags": True, "all_experiments": True}
    with Repo(str(root)) as repo:
        found = repo.used_objs(**every, revs=revisions or None, force=True)
    used = set().union(*found.values())
    for folder in folders[1:]:
        with Repo(str(folder)) as repo:
            used = used.union(*repo.used_objs(force=True).values())
    return used


def _unused(root: Path, used: set[object]) -> tuple[int, int]:
    with Repo(str(root)) as repo:
        odb = repo.cache.local
        names = {its.value for its in used}  # type: ignore[attr-defined]
        sizes = [Path(odb.oid_to_path(name)).stat().st_size for name in odb.all() if name not in names]
    return len(sizes), sum(sizes)


def _old_work(work: Path, since: int) -> Iterator[tuple[Path, int]]:
    """List the folders of stages that nobody has gone on with since some time."""
    for folder in sorted(work.glob("*/*")):
        if WORK_KEY.fullmatch(folder.name) and folder.is_dir():
            files = [path.stat() for path in (folder, *folder.rglob("*"))]
            if max(its.st_mtime for its in files) < since:
                yield folder, sum(its.st_size for its in files)


def _remove(root: Path, plan: Plan) -> str:
    with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
        gc(repo.cache.local, plan.used)
    for folder, _ in plan.work:
        shutil.rmtree(folder, ignore_errors=True)
    git(root, "worktree", "prune")
    if not plan.mlflow.runs or forget(plan.mlflow, _database()):
        return "Removed."
    return (
        "Removed, but for the artifacts of the runs: they go with `mlflow gc --backend-store-uri DATABASE` on the"
        " machine of MLflow's server, which also purges experiments and logged models that were deleted there."
    )


def _database() -> str | None:
    """Give the database of MLflow's server, where it is the one of this checkout."""
    return addresses(settings()).mlflow_store if is_served_from(Path.cwd(), tracking_uri()) else None


def main() -> None:
    """Run as a command: exit 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.tidy", description="Remove what only nights of long ago need; ask with --dry-run first."
    )
    parser.add_argument("--keep", type=int, default=KEEP, metavar="N", help="nights that stay (%(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and how many bytes")
    add_debug(parser)
    arguments = parser.parse_args()
    with as_command(debug=arguments.debug):
        print(printable_lines(run(arguments.keep, dry_run=arguments.dry_run)))


if __name__ == "__main__":
    main()
