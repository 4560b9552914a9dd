"""Make a registered model again from its tags alone, and say whether it came out the same."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dvc.repo import Repo

from flows import children
from flows.command import add_debug, as_command
from flows.mirror import mirror_input
from flows.repository import CheckoutError, find, git
from tasks.common.circumstances import hardware
from tasks.common.stage import PARAMS_FILE, load_params
from tasks.registry.origin import Origin, Row, compare, read_origin
from waymark.errors import ModelError
from waymark.system.addresses import sqlite_url
from waymark.system.terminal import printable_lines

SHOWN = 12  # letters of a hash
ANOTHER_MACHINE = (
    "The data are the same and the checkpoint is not: a training repeats on the same machine only, with the same"
    " packages. It ran on {there}; this is {here}."
)


def rebuild(reference: str, folder: Path | None = None, *, cached: bool = False) -> tuple[Origin, dict[str, list[Row]]]:
    """Make a registered model again; call from the root of a checkout that has its revision.

    Args:
        reference: of the version, as `read_origin` takes it.
        folder: where to; it must not exist and stays. None takes one that goes.
        cached: restore what DVC's cache of the checkout has, rather than run every stage.

    Raises:
        WaymarkError: the version cannot be made again, or a stage failed.
    """
    origin, root = read_origin(reference), Path.cwd().resolve()
    if find(root, f"{origin.revision}^{{commit}}") is None:
        raise CheckoutError(
            f"{origin.name} was made at {origin.revision[:SHOWN]}, which this checkout has not; git fetch it from where"
            " the model was trained"
        )
    with _place(folder) as place:
        _clone(root, place, origin, cached)
        children.allow()
        command = [sys.executable, "-m", "dvc", "--cd", str(place), "repro", f"evaluate@{origin.model}"]
        code = children.run(command, _environment(root, place), print)
        if code != 0:
            raise ModelError(f"{origin.name} could not be made again at {origin.revision[:SHOWN]}; see above")
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


def _clone(root: Path, place: Path, origin: Origin, cached: bool) -> None:
    """Check out the revision beside, with a cache of its own and links to what git does not keep."""
    git(root, "clone", "--quiet", "--shared", "--no-checkout", str(root), str(place))  # knows also what no branch holds
    git(place, "checkout", "--quiet", "--detach", origin.revision)
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
    """Let stages find this Python, the weights that were downloaded, and a store of their own."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        "TORCH_HOME": os.environ.get("TORCH_HOME", str(root / ".cache" / "torch")),
        "MLFLOW_TRACKING_URI": sqlite_url(place / "mlflow.db"),
        "DVC_SITE_CACHE_DIR": str(place / ".dvc" / "tmp" / "site"),
    }


def table(origin: Origin, found: dict[str, list[Row]]) -> str:
    """Say what is equal, in Markdown; of metrics those that differ."""
    head = f"{origin.name}: model {origin.model} at {origin.revision[:SHOWN]}\n\n"
    lines = ["| what | registered | rebuilt | |", "|---|---|---|---|"]
    for part in ("data", "checkpoint"):
        lines += [_line(row) for row in found[part]]
    differing = [row for row in found["metrics"] if not row.equal]
    count = len(found["metrics"])
    lines.append(_line(Row("metrics", str(count), str(count - len(differing)))))
    lines += [_line(row) for row in differing]
    return head + "\n".join(lines)


def _line(row: Row) -> str:
    verdict = "equal" if row.equal else "**differs**"
    return f"| {row.what} | {row.registered[:SHOWN]} | {row.rebuilt[:SHOWN]} | {verdict} |"


def verdict(origin: Origin, found: dict[str, list[Row]]) -> tuple[bool, str]:
    """Say in a sentence whether the model came out the same, and where it did not, what that means."""
    equal = {part: all(row.equal for row in rows) for part, rows in found.items()}
    if all(equal.values()):
        return True, f"{origin.name} came out the same."
    if not equal["data"]:
        return (
            False,
            "The data differ already: a source that git does not keep has changed, or a stage does not repeat.",
        )
    if not equal["checkpoint"]:
        return False, ANOTHER_MACHINE.format(
            there=origin.tags.get("waymark.hardware", "an unknown one"), here=hardware()
        )
    return False, "Data and checkpoint are the same and the metrics are not: calibration or evaluation has changed."


def main() -> None:
    """Run as a command: exit 0 where all came out equal, 1 where not, 2 where it could not be tried."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.rebuild",
        description="Make a registered model again from its tags alone, and say whether it came out the same.",
    )
    parser.add_argument("version", help="such as 3, champion, waymark-landmark/2 or waymark-landmark@champion")
    parser.add_argument("--folder", type=Path, help="where to make it, to be kept; a temporary one without")
    parser.add_argument("--cached", action="store_true", help="restore what DVC's cache has: faster, and proves less")
    add_debug(parser)
    arguments = parser.parse_args()
    with as_command(debug=arguments.debug, code=2):
        origin, found = rebuild(arguments.version, arguments.folder, cached=arguments.cached)
    equal, words = verdict(origin, found)
    print(printable_lines(f"\n{table(origin, found)}\n\n{words}"))
    sys.exit(0 if equal else 1)


if __name__ == "__main__":
    main()
