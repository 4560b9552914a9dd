"""How far the data of the last run have drifted from those that a champion was trained on: `python -m flows.drift`."""

from contextlib import chdir
from pathlib import Path

from flows.command import command, option
from tasks.training.tables import RECORDS
from waymark.errors import WaymarkError
from waymark.inference.references import LANDMARK, LOCATION
from waymark.system.checkout import NIGHT, checkout
from waymark.system.terminal import printable_lines


def folder_of_data() -> Path:
    """Find the checkout whose data are the last: that of nightly runs where there are any, else this one.

    Raises:
        WaymarkError: no run has made data yet.
    """
    folders = (checkout().joinpath(*NIGHT), Path.cwd())
    found = next((folder for folder in folders if (folder / RECORDS).exists()), None)
    if found is None:
        where = " or ".join(str(folder / RECORDS) for folder in folders)
        raise WaymarkError(f"there are no data to compare: {where} is missing; wait for a nightly run, or make run")
    return found


def report(name: str) -> str:
    """Compare the data at hand with those of a champion, in Markdown."""
    from tasks.registry.drift import drift  # late, for torch takes seconds

    folder = folder_of_data()
    with chdir(folder):
        found = drift(name)
    if found is None:
        return f"{name} has no champion of which it is known what it was trained on"
    return f"{name}: the data in {folder} against those of the champion\n\n{found}"


def main() -> None:
    """Run as a command: exit 0, or 1 with one line on stderr."""
    names = (LOCATION, LANDMARK)
    with command(
        "flows.drift",
        "Compare the training data of the last run with those that the champion was trained on.",
        option("name", nargs="?", choices=names, help="in the registry; left out, both"),
    ) as arguments:
        print(printable_lines("\n\n".join(map(report, [arguments.name] if arguments.name else names))))


if __name__ == "__main__":
    main()
