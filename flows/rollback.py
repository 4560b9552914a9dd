"""The alias champion goes back along its history, and forward again."""

from typing import Any

from prefect import flow
from prefect.states import Completed, Failed, State

from flows.command import command, option
from flows.engine import completed, dated, run
from flows.worker import end_with_worker
from tasks.common.stage import one_line
from tasks.registry.versions import roll_back
from waymark.errors import WaymarkError
from waymark.system.terminal import printable_lines


@flow(name="rollback", flow_run_name=dated("rollback", "model"))
def rollback(model: str, forward: bool = False, reason: str = "") -> State[Any]:
    """Make the champion before this one champion again; once more goes one further back.

    A version that was rolled back from is not promoted again by a nightly run.

    Args:
        model: Name in the registry, waymark-location or waymark-landmark.
        forward: Go forward again to the champion that a rollback left.
        reason: Why, for those who read the history later.
    """
    end_with_worker()
    try:
        moved = roll_back(model, reason, forward=forward)
    except (WaymarkError, FileNotFoundError) as error:
        return Failed(message=one_line(error))
    name = "Forward again" if forward else "Rolled back"
    return Completed(name=name, message=f"champion of {model} is version {moved.after} instead of {moved.before}")


def main() -> None:
    """Run the flow as a command: exit 0, or 1 with one line on stderr."""
    with command(
        "flows.rollback",
        "Make the champion before this one champion again.",
        option("model", help="name in the registry: waymark-location or waymark-landmark"),
        option("--forward", action="store_true", help="go forward again to the champion that a rollback left"),
        option("--reason", default="", help="why, for those who read the history later"),
    ) as arguments:
        ended = completed(run(rollback, **vars(arguments)))
        print(printable_lines(f"{ended.name}: {ended.message}"))


if __name__ == "__main__":
    main()
