"""A challenger is compared with the champion, and takes its place if the evidence says so."""

import re
from dataclasses import fields
from typing import Any

from prefect import flow
from prefect.states import Completed, Failed, State

from flows.command import SecretName, command, option, secret_name
from flows.engine import as_task, completed, dated, run
from flows.notify import notify as send
from flows.stages.results import write_markdown
from flows.worker import end_with_worker
from tasks.common.stage import one_line
from waymark.errors import WaymarkError
from waymark.inference.references import LOCATION
from waymark.promotion.checks import Gate
from waymark.system.terminal import printable_lines

DEFAULT = Gate()
NOTHING = "nothing to do"
STATES = {"promoted": "Promoted", "refused": "Refused", NOTHING: "Nothing to do"}


@flow(name="promote", flow_run_name=dated("promote", "model", "challenger"))
def promote(
    model: str = LOCATION,
    challenger: str = "challenger",
    gate: Gate = DEFAULT,
    notify: SecretName | None = None,
    dry_run: bool = False,
) -> State[Any]:
    """Compare a challenger with the champion, and make it champion if it is better beyond chance.

    Both are scored again on the test records that neither has seen. A refusal is no failure: the run completes as
    "Refused" with the reason.

    Args:
        model: Name in the registry, waymark-location or waymark-landmark.
        challenger: Alias or version that wants to become champion; a version may be one that was rolled back from.
        gate: What it must show.
        notify: Name of the Secret with the URL to notify of the outcome; empty for WAYMARK_NOTIFY, or the log alone.
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
    if decision.outcome == NOTHING:
        return Completed(name=STATES[NOTHING], message=decision.reason)
    where = f" (evidence: {decision.uri})" if decision.uri else ""
    line = f"version {decision.challenger} of {decision.name} is {decision.outcome}: {decision.reason}{where}"
    if not dry_run:
        send(notify, f"{model}: version {decision.challenger} {decision.outcome}", line)
    return Completed(name=STATES[decision.outcome], message=line)


def main() -> None:
    """Run the flow as a command: exit 0 also for a refusal, 1 with one line on stderr for an error."""
    gate = [
        option(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            help=f"{field.metadata['description'].replace('%', '%%')} (%(default)s)",
        )
        for field in fields(Gate)
    ]
    with command(
        "flows.promote",
        "Compare a challenger with the champion; the better one stays.",
        option("--model", default=LOCATION, help="name in the registry (%(default)s)"),
        option("--challenger", default="challenger", help="alias or version (%(default)s)"),
        option("--notify", type=secret_name, help="Secret with the URL to notify of the outcome"),
        option("--dry-run", action="store_true", help="show the evidence, and change nothing"),
        *gate,
    ) as arguments:
        given = vars(arguments)
        wanted = Gate(**{field.name: given.pop(field.name) for field in fields(Gate)})
        ended = completed(run(promote, **given, gate=wanted))
        print(printable_lines(f"{ended.name}: {ended.message}"))


if __name__ == "__main__":
    main()
