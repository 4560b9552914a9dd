"""Free disk space: what only old nightly runs need is removed, what an alias or a tag needs stays."""

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

from flows.command import command, option
from flows.engine import dated
from flows.locks import exclusive
from flows.nights.checkout import BRANCH, CHECKOUT, HELD
from flows.nights.repository import LOCK, CheckoutError, find, git
from flows.servers.addresses import addresses, settings
from flows.stages.results import write_markdown
from flows.worker import end_with_worker
from tasks.common.stage import WORK, one_line
from tasks.registry.retention import Forgettable, forget, forgettable, needed
from tasks.registry.store import tracking_uri
from waymark.errors import ParameterError, WaymarkError
from waymark.inference.references import is_served_from
from waymark.system.terminal import printable_lines

WORK_KEY = re.compile(r"[0-9a-f]{16}")
BEGINNING = datetime.fromtimestamp(0, UTC)
KEEP = 14  # nightly runs


class Plan(NamedTuple):
    """What is to be removed."""

    kept: int  # nightly runs that stay
    before: datetime  # when the last run before them ended; what is older may be removed
    objects: tuple[int, int]  # files of DVC's cache, and their bytes
    used: set[Any]  # what DVC keeps
    work: list[tuple[Path, int]]  # folders of unfinished work, and their bytes
    mlflow: Forgettable  # runs and versions

    def words(self) -> str:
        """Write it in Markdown."""
        since = f"since {self.before:%Y-%m-%d %H:%M} UTC" if self.before > BEGINNING else "all there are"
        rows = [
            ("files of DVC's cache", *self.objects),
            ("folders of unfinished work", len(self.work), sum(size for _, size in self.work)),
            (f"runs of MLflow, with {len(self.mlflow.versions)} versions", len(self.mlflow.runs), self.mlflow.bytes),
        ]
        lines = [f"Kept: {self.kept} nightly runs ({since}), all branches and tags, and what an alias needs.", ""]
        lines += ["| what goes | count | MB |", "|---|---:|---:|"]
        lines += [f"| {what} | {count:,} | {size / 1e6:,.1f} |" for what, count, size in rows]
        return "\n".join(lines)


@flow(name="tidy", flow_run_name=dated("tidy"))
def tidy(keep: int = KEEP, dry_run: bool = False) -> State[Any]:
    """Remove what only old nightly runs need; what an alias, its history or a git tag needs stays.

    Args:
        keep: Nightly runs that stay.
        dry_run: Report what would be removed, and remove nothing.
    """
    end_with_worker()
    try:
        words = run(keep, dry_run=dry_run)
    except (WaymarkError, FileNotFoundError) as error:
        return Failed(message=one_line(error))
    write_markdown("tidy", words, "what was removed, and what stays")
    return Completed(message=words.rpartition("\n\n")[2])


def run(keep: int, *, dry_run: bool) -> str:
    """Remove it, and report what; call from the root of the operator's checkout.

    Raises:
        ParameterError: no run is to stay.
        CheckoutError: a nightly run or a stage is at work, whose outputs no lock file names yet, or others use the
            cache.
    """
    if keep < 1:
        raise ParameterError(f"keep must be at least 1, not {keep}")
    root = Path.cwd().resolve()
    with Repo(str(root)) as repo:
        cache = Path(repo.cache.local_cache_dir).resolve()
    if not cache.is_relative_to(root):
        remedy = "tidy it with dvc gc and their folders"
        raise CheckoutError(f"the cache of DVC is {cache}, where other projects may use it; {remedy}")
    folders = [folder for folder in (root, root / CHECKOUT) if (folder / "dvc.yaml").exists()]
    with _nobody_at_work(root, folders):
        plan = _plan(root, folders, keep)
        if dry_run:
            return f"{plan.words()}\n\nNothing was removed; leave out the dry run to remove it."
        return f"{plan.words()}\n\n{_remove(root, plan)}"


@contextmanager
def _nobody_at_work(root: Path, folders: Sequence[Path]) -> Iterator[None]:
    """Hold the lock of nightly runs and that of every stage."""
    locks = [lock for folder in folders for lock in sorted((folder / WORK / "locks").glob("*.lock"))]
    with ExitStack() as stack:
        for who, path in [("a nightly run", root / HELD), *((lock.stem, lock) for lock in locks)]:
            busy = f"{who} is at work, whose outputs DVC does not know yet; tidy afterwards"
            stack.enter_context(exclusive(path, busy, CheckoutError))
        yield


def _plan(root: Path, folders: Sequence[Path], keep: int) -> Plan:
    runs = [] if find(root, BRANCH) is None else git(root, "rev-list", "--first-parent", BRANCH, "--", LOCK).split()
    kept = runs[:keep]
    since = int(git(root, "show", "--no-patch", "--format=%ct", runs[keep])) if len(runs) > keep else 0
    if not runs:
        since = int(time.time()) - keep * 86_400  # without nightly runs, as many days
    before, stays = datetime.fromtimestamp(since, UTC), needed(folders)
    revisions = sorted({*kept, *(commit for commit in stays.revisions if find(root, f"{commit}^{{commit}}"))})
    used = _used(root, folders, revisions)
    work = [(path, size) for folder in folders for path, size in _old_work(folder / WORK, since)]
    return Plan(len(kept), before, _unused(root, used), used, work, forgettable(before, stays))


def _used(root: Path, folders: Sequence[Path], revisions: list[str]) -> set[Any]:
    """Ask DVC what the checkouts, all branches and tags, its experiments and some revisions need.

    Commits may name outputs that were never here, such as the bundled dvc.lock of a fresh clone: these need nothing.
    """
    logging.getLogger("dvc").setLevel(logging.ERROR)  # that a commit without dvc.lock needs nothing is no news
    every = {"all_branches": True, "all_tags": True, "all_experiments": True, "revs": revisions or None}
    used: set[Any] = set()
    for folder, options in ((folder, every if folder == root else {}) for folder in folders):
        with Repo(str(folder)) as repo:
            used = used.union(*repo.used_objs(**options, force=True).values())
    return used


def _unused(root: Path, used: set[Any]) -> tuple[int, int]:
    with Repo(str(root)) as repo:
        odb, names = repo.cache.local, {found.value for found in used}
        sizes = [Path(odb.oid_to_path(name)).stat().st_size for name in odb.all() if name not in names]
    return len(sizes), sum(sizes)


def _old_work(work: Path, since: int) -> Iterator[tuple[Path, int]]:
    """List the folders of stages that nobody has worked in since some time."""
    for folder in sorted(work.glob("*/*")):
        if WORK_KEY.fullmatch(folder.name) and folder.is_dir():
            files = [path.stat() for path in (folder, *folder.rglob("*"))]
            if max(file.st_mtime for file in files) < since:
                yield folder, sum(file.st_size for file in files)


def _remove(root: Path, plan: Plan) -> str:
    with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
        gc(repo.cache.local, plan.used)
    for folder, _ in plan.work:
        shutil.rmtree(folder, ignore_errors=True)
    served = is_served_from(Path.cwd(), tracking_uri())  # by MLflow's server of this checkout, whose database is here
    if not plan.mlflow.runs or forget(plan.mlflow, addresses(settings()).mlflow_store if served else None):
        return "Removed."
    return (
        "Removed, but for the artifacts of the runs: remove them with `mlflow gc --backend-store-uri DATABASE` on the"
        " machine of MLflow's server, which also purges experiments and logged models that were deleted there."
    )


def main() -> None:
    """Run as a command: exit 0, or 1 with one line on stderr."""
    with command(
        "flows.tidy",
        "Remove what only old nightly runs need; ask with --dry-run first.",
        option("--keep", type=int, default=KEEP, metavar="N", help="nightly runs that stay (%(default)s)"),
        option("--dry-run", action="store_true", help="report what would be removed, and how many bytes"),
    ) as arguments:
        print(printable_lines(run(arguments.keep, dry_run=arguments.dry_run)))


if __name__ == "__main__":
    main()
