"""How far the data of the last run have drifted from those that a champion was trained on: `python -m flows.drift`."""

import argparse
from contextlib import chdir
from pathlib import Path

from flows.command import add_debug, as_command
from tasks.common.checkout import NIGHT, checkout
from tasks.training.tables import RECORDS
from waymark.errors import WaymarkError
from waymark.inference.references import LANDMARK, LOCATION
from waymark.system.terminal import printable_lines


def folder_of_data() -> Path:
    """Find the checkout whose data are the last: that of the nights where there are any, else this one.

    Raises:
        WaymarkError: no run has made data yet.
    """
    folders = (checkout().joinpath(*NIGHT), Path.cwd())
    found = next((folder for folder in folders if (folder / RECORDS).exists()), None)
    if found is None:
        where = " or ".join(str(folder / RECORDS) for folder in folders)
        raise WaymarkError(f"there are no data to look at: {where} is missing; let a night run, or type make run")
    return found


def report(name: str) -> str:
    """Compare the data at hand with those of a champion, in Markdown."""
    from tasks.registry.drift import drift  # late, for torch takes seconds

    folder = folder_of_data()
    with chdir(folder):
        told = drift(name)
    if told is None:
        return f"{name} has no champion of which it is known what it was trained on"
    return f"{name}: the data in {folder} against those of the champion\n\n{told}"


def main() -> None:
    """Run as a command: exit 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.drift",
        description="Compare the training data of the last run with those that the champion was trained on.",
    )
    names = (LOCATION, LANDMARK)
    parser.add_argument("name", nargs="?", choices=names, help="in the registry; left out, both")
    add_debug(parser)
    arguments = parser.parse_args()
    with as_command(debug=arguments.debug):
        print(printable_lines("\n\n".join(map(report, [arguments.name] if arguments.name else names))))


if __name__ == "__main__":
    main()
