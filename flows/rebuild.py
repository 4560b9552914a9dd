"""Make a registered model again from its tags alone, and check whether it came out the same."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dvc.repo import Repo

from flows.command import command, option
from flows.nights.pictures import mirror_input
from flows.nights.repository import CheckoutError, find, put
from flows.stages import children
from flows.stages.repro import environment
from tasks.common.circumstances import hardware
from tasks.common.stage import PARAMS_FILE, load_params
from tasks.registry.origin import Origin, Row, compare, read_origin
from waymark.errors import ModelError
from waymark.system.addresses import sqlite_url
from waymark.system.terminal import printable_lines

SHOWN = 12  # letters of a hash
SAME_MACHINE = (
    "The data are the same and the checkpoint is not: a training repeats on the same machine only, with the same"
    " packages. It ran on {there}; this is {here}."
)
OTHER_DATA = "The data differ already: a source that git does not keep has changed, or a stage does not repeat."
OTHER_METRICS = "Data and checkpoint are the same and the metrics are not: calibration or evaluation has changed."


def rebuild(reference: str, folder: Path | None = None, *, cached: bool = False) -> tuple[Origin, dict[str, list[Row]]]:
    """Make a registered model again; call from the root of a checkout that has its revision.

    Args:
        reference: of the version, as `read_origin` takes it.
        folder: where to; it must not exist and stays. None takes one that is removed.
        cached: restore what DVC's cache of the checkout has, rather than run every stage.

    Raises:
        WaymarkError: the version cannot be made again, or a stage failed.
    """
    origin, root = read_origin(reference), Path.cwd().resolve()
    revision = origin.revision[:SHOWN]
    if find(root, f"{origin.revision}^{{commit}}") is None:
        remedy = "git fetch it from where the model was trained"
        raise CheckoutError(f"{origin.name} was made at {revision}, which this checkout has not; {remedy}")
    with _place(folder) as place:
        _prepare(root, place, origin, cached)
        children.allow()
        dvc = [sys.executable, "-m", "dvc", "--cd", str(place), "repro", f"evaluate@{origin.model}"]
        if children.run(dvc, _environment(root, place), print) != 0:
            raise ModelError(f"{origin.name} could not be made again at {revision}; see above")
        return origin, compare(origin, place)


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with TemporaryDirectory(prefix="waymark-rebuild-") as made:
            yield Path(made) / "checkout"
    elif folder.exists():
        raise CheckoutError(f"{folder} exists; name a folder that does not, so that nothing in it helps")
    else:
        yield folder.resolve()


def _prepare(root: Path, place: Path, origin: Origin, cached: bool) -> None:
    """Check out the revision, with a cache of its own and links to what git does not keep."""
    put(root, place, origin.revision)
    cache = Repo(str(root)).cache.local_cache_dir if cached else place / ".dvc" / "cache"
    (place / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n")
    mirror_input(root, place)
    params = load_params(place / PARAMS_FILE)
    models, evaluate = params.get("models") or {}, params.get("evaluate") or {}
    named = (params.get("region"), evaluate.get("regions"), (models.get(origin.model) or {}).get("weights"))
    for name in named:
        if isinstance(name, str) and (root / name).is_file() and not (place / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).symlink_to(root / name)


def _environment(root: Path, place: Path) -> dict[str, str]:
    """Let stages find a store of their own, and no code but that revision's."""
    inherited = environment(
        MLFLOW_TRACKING_URI=sqlite_url(place / "mlflow.db"), DVC_SITE_CACHE_DIR=str(place / ".dvc" / "tmp" / "site")
    )
    inherited.pop("PYTHONPATH", None)
    return inherited


def table(origin: Origin, found: dict[str, list[Row]]) -> str:
    """List in Markdown what is equal; of metrics those that differ."""
    differing = [row for row in found["metrics"] if not row.equal]
    count = len(found["metrics"])
    metrics = Row("metrics", str(count), str(count - len(differing)))
    lines = [f"{origin.name}: model {origin.model} at {origin.revision[:SHOWN]}", ""]
    lines += ["| what | registered | rebuilt | |", "|---|---|---|---|"]
    for row in (*found["data"], *found["checkpoint"], metrics, *differing):
        verdict = "equal" if row.equal else "**differs**"
        lines.append(f"| {row.what} | {row.registered[:SHOWN]} | {row.rebuilt[:SHOWN]} | {verdict} |")
    return "\n".join(lines)


def verdict(origin: Origin, found: dict[str, list[Row]]) -> tuple[bool, str]:
    """Decide whether the model came out the same, and where it did not, what that means."""
    equal = {part: all(row.equal for row in rows) for part, rows in found.items()}
    if all(equal.values()):
        return True, f"{origin.name} came out the same."
    if not equal["data"]:
        return False, OTHER_DATA
    if not equal["checkpoint"]:
        there = origin.tags.get("waymark.hardware", "an unknown one")
        return False, SAME_MACHINE.format(there=there, here=hardware())
    return False, OTHER_METRICS


def main() -> None:
    """Run as a command: exit 0 where all came out equal, 1 where not, 2 where it could not be tried."""
    with command(
        "flows.rebuild",
        str(__doc__),
        option("version", help="such as 3, champion, waymark-landmark/2 or waymark-landmark@champion"),
        option("--folder", type=Path, help="where to make it, to be kept; a temporary one without"),
        option("--cached", action="store_true", help="restore what DVC's cache has: faster, and proves less"),
        code=2,
    ) as arguments:
        origin, found = rebuild(arguments.version, arguments.folder, cached=arguments.cached)
    equal, words = verdict(origin, found)
    print(printable_lines(f"\n{table(origin, found)}\n\n{words}"))
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
