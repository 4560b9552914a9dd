"""The nightly run: what was committed is trained in a checkout of its own, and what is better is promoted."""

import json
import logging
from functools import partial
from typing import Any

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from flows.command import Address, SecretName, address, command, option, secret_name
from flows.engine import as_task, completed, dated, run
from flows.nights.checkout import nightly_checkout
from flows.nights.report import Report, Verdict
from flows.notify import notify as send
from flows.pipeline import pipeline
from flows.promote import promote as judge
from flows.stages.explain import plan, write
from flows.stages.inputs import check_inputs
from flows.stages.results import COMPARISON, write_markdown
from flows.worker import end_with_worker
from tasks.common.outputs import read_json
from tasks.common.stage import one_line
from tasks.registry import versions
from tasks.registry.register import Registered
from waymark.errors import WaymarkError
from waymark.promotion.checks import Gate
from waymark.system.terminal import printable_lines

REVISION_TAG = "waymark.git.locked_revision"  # of a version: the commit whose dvc.lock knows its data
JUDGED_TAG = "waymark.promotion.reason"
DEFAULT = Gate()

logger = logging.getLogger("flows.nightly")  # also where it is run as a command

run_name = dated("nightly run of")


@flow(name="nightly", flow_run_name=run_name)
def nightly(
    committed_only: bool = False,
    remote: Address | None = None,
    notify: SecretName | None = None,
    gate: Gate = DEFAULT,
    promote: bool = True,
) -> State[Any]:
    """Train what was committed in a checkout of the run's own, and promote what is better.

    Args:
        committed_only: go on from the last commit where the checkout has changes that are in none, rather than refuse.
        remote: DVC remote through which workers on other machines get code and data and give back their models.
            Without one, none of them is asked.
        notify: Name of the Secret with the URL that is notified when a run fails, is refused or promotes.
        gate: what a challenger must show to become champion.
        promote: whether challengers are judged at all.
    """
    end_with_worker()
    title = str(runtime.flow_run.name or run_name())
    try:
        with nightly_checkout(committed_only=committed_only) as checkout:
            report = Report(title, checkout)
            _bring_up_to_date(report, remote)
            _judge_all(report, gate if promote else None)
            write_markdown("night", report.page(), title)
    except (WaymarkError, FileNotFoundError) as error:
        send(notify, f"{title}: failed", one_line(error))
        return Failed(message=one_line(error))
    except Exception as error:
        send(notify, f"{title}: failed", f"{type(error).__name__}: {one_line(error)}")
        raise
    if report.verdicts:
        send(notify, f"{title}: {', '.join(verdict.outcome.lower() for verdict in report.verdicts)}", report.page())
    return Completed(name="Unchanged" if report.unchanged else None, message=report.summary)


def _bring_up_to_date(report: Report, remote: str | None) -> None:
    """Run the pipeline, commit dvc.lock, and tag the new versions with that commit."""
    if report.nightly.left_out:
        logger.warning("not committed, and so left out: %s", ", ".join(report.nightly.left_out))
    report.before = read_json(COMPARISON) if COMPARISON.exists() else None
    report.done = completed(run(pipeline, remote=remote)).result()
    report.after = read_json(COMPARISON) if COMPARISON.exists() else None
    report.committed = report.nightly.commit_lock(report.message())
    for version in report.done.registered:
        if not _tag(version, REVISION_TAG):
            revision = report.nightly.revision
            versions.tag(version.name, version.version, {REVISION_TAG: revision})


def _judge_all(report: Report, gate: Gate | None) -> None:
    """Compare each challenger that nobody has judged yet with its champion, and look at how far the data drifted."""
    for version in report.done.registered:
        if (drift := _drift(version.name)) is not None:  # before a challenger becomes champion, whose data these are
            report.drifts[version.name] = drift
        if gate is not None and not version.is_champion and not _tag(version, JUDGED_TAG):
            state = completed(run(judge, model=version.name, gate=gate))  # without notify: this run reports it
            verdict = Verdict(version.name, version.version, state.name or "", state.message or "")
            report.verdicts.append(verdict)


def _drift(name: str) -> str | None:
    from tasks.registry.drift import drift  # late, for torch takes seconds

    try:
        found: str | None = as_task(f"drift of {name}", partial(drift, name))
    except Exception as error:  # no reason to keep yesterday's model
        return f"The drift check failed: {one_line(error)}"
    return found


def _tag(version: Registered, tag: str) -> str:
    return str(versions.version_of(version.name, version.version).tags.get(tag, ""))


def explain(committed_only: bool = False) -> str:
    """Write in Markdown what a nightly run would run now and why: from its own dvc.lock, with the last commit's files.

    Raises:
        WaymarkError: why it would refuse, too.
    """
    with nightly_checkout(committed_only=committed_only, look=True) as checkout:
        check_inputs()
        left_out = f"Not committed, and so left out: {', '.join(checkout.left_out)}\n\n" if checkout.left_out else ""
        return left_out + write(plan()[1])


def main() -> None:
    """Run as a command: exit 0, or 1 with one line on stderr."""
    gate = 'what a challenger must show: {"least_records": 30}'
    with command(
        "flows.nightly",
        str(__doc__),
        option("--explain", action="store_true", help="print what would run and why, and run nothing"),
        option("--committed-only", action="store_true", help="leave out changes that are in no commit"),
        option("--remote", type=address, help="DVC remote for workers on other machines"),
        option("--notify", type=secret_name, help="Secret with the URL that is notified of how the run ended"),
        option("--gate", type=json.loads, default={}, help=gate),
        option("--no-promote", dest="promote", action="store_false", help="judge no challenger"),
    ) as arguments:
        given = vars(arguments)
        if given.pop("explain"):
            print(printable_lines(explain(given["committed_only"])))
            return
        print(printable_lines(completed(run(nightly, **given)).message or ""))


if __name__ == "__main__":
    main()
