"""A challenger is held against the champion, and takes its place if the evidence says so."""

import argparse
import dataclasses
import re
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.states import Completed, Failed, State

from flows.artifacts import write_markdown
from flows.command import as_command
from flows.engine import completed, run
from flows.names import dated
from flows.parameters import SecretName, secret_name
from flows.steps import as_task
from flows.word import tell
from flows.worker import end_with_worker
from tasks.common.stage import one_line
from waymark.errors import WaymarkError
from waymark.inference.references import LOCATION
from waymark.promotion.checks import Gate
from waymark.system.terminal import printable_lines

if TYPE_CHECKING:
    from tasks.registry.promotion import Decision

DEFAULT = Gate()
STATES = {"promoted": "Promoted", "refused": "Refused", "nothing to do": "Nothing to do"}


@flow(name="promote", flow_run_name=dated("promote", "model", "challenger"))
def promote(
    model: str = LOCATION,
    challenger: str = "challenger",
    gate: Gate = DEFAULT,
    notify: SecretName | None = None,
    dry_run: bool = False,
) -> State[Any]:
    """Hold a challenger against the champion, and make it champion if it is better beyond chance.

    Both are scored anew on the test records that neither has seen. A refusal is no failure: the run completes as
    "Refused" and says why.

    Args:
        model: Name in the registry, waymark-location or waymark-landmark.
        challenger: Alias or version that wants to become champion; a version may be one that was rolled back from.
        gate: What it must show.
        notify: Name of the Secret with the URL that is told the outcome; empty for WAYMARK_NOTIFY, or the log alone.
        dry_run: Decide and show the evidence, but change nothing.
    """
    from tasks.registry.promotion import decide  # late, for torch takes seconds that a form or --help does not

    end_with_worker()
    try:
        decision = decide(model, challenger, gate, dry_run=dry_run, step=as_task)
    except (WaymarkError, FileNotFoundError) as error:
        return Failed(message=one_line(error))
    if decision.markdown:
        key = re.sub("[^a-z0-9-]", "-", f"promotion-{model}".lower())
        write_markdown(key, decision.markdown, decision.reason[:200])
    line = told(decision)
    if decision.outcome != "nothing to do" and not dry_run:
        tell(notify, f"{model}: version {decision.challenger} {decision.outcome}", line)
    return Completed(name=STATES[decision.outcome], message=line)


def told(decision: "Decision") -> str:
    """Say in one line what was decided."""
    where = f" (evidence: {decision.uri})" if decision.uri else ""
    if decision.outcome == "nothing to do":
        return decision.reason
    return f"version {decision.challenger} of {decision.name} is {decision.outcome}: {decision.reason}{where}"


def main() -> None:
    """Run the flow as a command: exit 0 also for a refusal, 1 with one line on stderr for an error."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.promote", description="Hold a challenger against the champion; the better one stays."
    )
    parser.add_argument("--model", default=LOCATION, help="name in the registry (%(default)s)")
    parser.add_argument("--challenger", default="challenger", help="alias or version (%(default)s)")
    parser.add_argument("--notify", type=secret_name, help="Secret with the URL that is told the outcome")
    parser.add_argument("--dry-run", action="store_true", help="show the evidence, and change nothing")
    for field in dataclasses.fields(Gate):
        described = field.metadata["description"].replace("%", "%%")
        kind: Any = type(field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, help=f"{described} (%(default)s)")
        parser.set_defaults(**{field.name: field.default})
    arguments = parser.parse_args()
    gate = Gate(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Gate)})
    with as_command():
        asked = {name: getattr(arguments, name) for name in ("model", "challenger", "notify", "dry_run")}
        ended = completed(run(promote, **asked, gate=gate))
        print(printable_lines(f"{ended.name}: {ended.message}"))


if __name__ == "__main__":
    main()
