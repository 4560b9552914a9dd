"""The night: what was committed is trained in a checkout of its own, and what is better goes into use."""

import argparse
import json
import logging
from functools import partial
from typing import Any

from prefect import flow, runtime
from prefect.states import Completed, Failed, State

from flows.artifacts import write_markdown
from flows.command import as_command
from flows.engine import completed, run
from flows.explain import write
from flows.inputs import check_inputs
from flows.names import dated
from flows.night import night_checkout
from flows.night_report import Account, Verdict, message, page
from flows.parameters import Address, SecretName, address, secret_name
from flows.pipeline import COMPARISON, pipeline, plan
from flows.promote import promote as judge
from flows.steps import as_task
from flows.word import tell
from flows.worker import end_with_worker
from tasks.common.outputs import read_json
from tasks.common.stage import one_line
from tasks.registry import versions
from tasks.registry.register import Registered
from waymark.errors import WaymarkError
from waymark.promotion.checks import Gate
from waymark.system.terminal import printable_lines

REVISION_TAG = "waymark.git.locked_revision"  # of a version: the commit whose dvc.lock knows its data
DEFAULT = Gate()
JUDGED_TAG = "waymark.promotion.reason"

logger = logging.getLogger("flows.nightly")  # also where it is run as a command


night_name = dated("night of")


@flow(name="nightly", flow_run_name=night_name)
def nightly(
    committed_only: bool = False,
    remote: Address | None = None,
    notify: SecretName | None = None,
    gate: Gate = DEFAULT,
    promote: bool = True,
) -> State[Any]:
    """Train what was committed in a checkout of the night's own, and promote what is better.

    Args:
        committed_only: go on from the last commit where the checkout has changes that are in none, rather than refuse.
        remote: DVC remote through which workers on other machines get code and data and give back their models.
            Without one, none of them is asked.
        notify: Name of the Secret with the URL that hears when a night fails, is refused or promotes.
        gate: what a challenger must show to become champion.
        promote: whether challengers are judged at all.
    """
    end_with_worker()
    title = str(runtime.flow_run.name or night_name())
    try:
        with night_checkout(committed_only=committed_only) as night:
            account = Account(title, night)
            _bring_up_to_date(account, remote)
            _judge_all(account, gate if promote else None)
            write_markdown("night", page(account), account.title)
    except (WaymarkError, FileNotFoundError) as error:
        tell(notify, f"{title}: failed", one_line(error))
        return Failed(message=one_line(error))
    except Exception as error:
        tell(notify, f"{title}: failed", f"{type(error).__name__}: {one_line(error)}")
        raise
    if account.verdicts:
        tell(notify, f"{title}: {', '.join(verdict.outcome.lower() for verdict in account.verdicts)}", page(account))
    return Completed(name="Unchanged" if account.unchanged else None, message=account.summary)


def _bring_up_to_date(account: Account, remote: str | None) -> None:
    """Run the pipeline, commit the night's dvc.lock, and tell the new versions where it stands."""
    night = account.night
    if night.left_out:
        logger.warning("not committed, and so left out: %s", ", ".join(night.left_out))
    account.before = _comparison()
    account.done = completed(run(pipeline, remote=remote)).result()
    account.after = _comparison()
    account.committed = night.commit_lock(message(account))
    for its in account.done.registered:
        if not _tag(its, REVISION_TAG):
            versions.tag(its.name, its.version, {REVISION_TAG: night.revision})


def _judge_all(account: Account, gate: Gate | None) -> None:
    """Hold each challenger that nobody has judged yet against its champion, and look at how far the data drifted."""
    for its in account.done.registered:
        if (told := _drift(its.name)) is not None:  # before a challenger becomes champion, whose data these are
            account.drifts[its.name] = told
        if gate is not None and not its.is_champion and not _tag(its, JUDGED_TAG):
            account.verdicts.append(_judge(its, gate))


def _drift(name: str) -> str | None:
    from tasks.registry.drift import drift  # late, for torch takes seconds

    try:
        told: str | None = as_task(f"drift of {name}", partial(drift, name))
    except Exception as error:  # a look at the data that fails is no reason to keep yesterday's model
        return f"The drift check failed: {one_line(error)}"
    return told


def _comparison() -> Any:
    return read_json(COMPARISON) if COMPARISON.exists() else None


def _tag(its: Registered, tag: str) -> str:
    return str(versions.version_of(its.name, its.version).tags.get(tag, ""))


def _judge(its: Registered, gate: Gate) -> Verdict:
    """Let a challenger stand up to the champion."""
    state = completed(run(judge, model=its.name, gate=gate))  # without notify: the night tells of it
    return Verdict(its.name, its.version, state.name or "", state.message or "")


def explain(committed_only: bool = False) -> str:
    """Say in Markdown what a night would run now and why: from its own dvc.lock, with the files of the last commit.

    Raises:
        WaymarkError: why a night would refuse, too.
    """
    with night_checkout(committed_only=committed_only, look=True) as night:
        check_inputs()
        left_out = f"Not committed, and so left out: {', '.join(night.left_out)}\n\n" if night.left_out else ""
        return left_out + write(plan()[1])


def main() -> None:
    """Run a night as a command: exit 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m flows.nightly", description=__doc__)
    parser.add_argument("--explain", action="store_true", help="say what would run and why, and run nothing")
    parser.add_argument("--committed-only", action="store_true", help="leave out changes that are in no commit")
    parser.add_argument("--remote", type=address, help="DVC remote for workers on other machines")
    parser.add_argument("--notify", type=secret_name, help="Secret with the URL that hears how the night ended")
    parser.add_argument(
        "--gate", type=json.loads, default={}, help='what a challenger must show: {"least_records": 30}'
    )
    parser.add_argument("--no-promote", dest="promote", action="store_false", help="judge no challenger")
    arguments = vars(parser.parse_args())
    with as_command():
        if arguments.pop("explain"):
            print(printable_lines(explain(arguments["committed_only"])))
            return
        ended = completed(run(nightly, **arguments))
        print(printable_lines(ended.message or ""))


if __name__ == "__main__":
    main()
