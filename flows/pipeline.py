"""All of it: DVC's graph stage by stage, then the best models into the registry."""

import argparse
import sys
from dataclasses import dataclass
from typing import Any

from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.states import Cancelled, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner

from flows import children, sharing
from flows.artifacts import COMPARISON, REPORT, figures, show_progress, write_ledger, write_results
from flows.command import add_debug, as_command
from flows.explain import Cause, causes_of, explain, write
from flows.gpu import Training, has_worker, is_served
from flows.graph import Node, open_repo, read_graph
from flows.inputs import check_inputs
from flows.ledger import Entry, Ledger
from flows.lifeline import watching
from flows.names import dated
from flows.parameters import Address, address
from flows.stages import task_of
from tasks import tracking
from tasks.lineage import FLOW_RUN_VARIABLE
from tasks.outputs import read_json
from tasks.register import Registered, register_best
from tasks.stage import load_params
from waymark.lookup import BEST

SPARED = "neither it nor anything before it changed"
THREADS = 64  # most of which wait for stages before theirs; `stages` says how many are at work


@dataclass(frozen=True)
class Outcome:
    """What a pipeline run did.

    Args:
        registered: the versions in the registry that are best on val.
        causes: the stages that were to run, and why.
        entries: what became of each stage.
    """

    registered: list[Registered]
    causes: list[Cause]
    entries: list[Entry]


@task(task_run_name="register", cache_policy=NO_CACHE)
def register() -> list[Registered]:
    """Register the models that are best on val."""
    return register_best()


@flow(name="pipeline", flow_run_name=dated("pipeline"), task_runner=ThreadPoolTaskRunner(max_workers=THREADS))  # type: ignore[arg-type]
def pipeline(remote: Address | None = None) -> Outcome | State[Any]:
    """Bring every stage up to date, then register the models that are best on val, for places and for landmarks.

    Args:
        remote: DVC remote (a folder, ssh://..., s3://...) through which workers on other machines and people take
            data and results. DVC's commands in this checkout use it from then on, too. Without one, no worker on
            another machine is asked.
    """
    check_inputs()
    children.allow()
    remote = sharing.use_remote(remote) if remote is not None else None
    nodes, causes = plan()
    get_run_logger().info(write(causes))
    ledger = Ledger([node.stage for node in nodes])
    runs = [str(run) for run in (runtime.flow_run.id, runtime.flow_run.root_flow_run_id) if run and is_served()]
    try:
        with watching(runs, children.stop_all) as cancelled:
            states = _run(nodes, {cause.stage for cause in causes}, remote, ledger)
    finally:
        children.stop_all()
    write_ledger(ledger.entries(), write(causes))
    if cancelled.is_set():
        return Cancelled(message="the flow run was cancelled")
    if not all(state.is_completed() for state in states):
        failed = next((state for state in states if state.is_failed()), None)
        return Failed(message=failed.message if failed and failed.message else "a stage did not run to its end")
    registered = register() if any(read_json(COMPARISON)[best] is not None for best in BEST.values()) else []
    write_results()
    if remote is not None and (failed := _share()):
        return failed
    return Outcome(registered, causes, ledger.entries())


def plan() -> tuple[list[Node], list[Cause]]:
    """Read the graph, and what in it would run and why, from DVC."""
    with open_repo() as repo:
        nodes = read_graph(repo)
        return nodes, causes_of(repo, nodes)


def _run(nodes: list[Node], changed: set[str], remote: str | None, ledger: Ledger) -> list[State[Any]]:
    """Run each stage as a task as soon as those before it are through, and show how far it is."""
    training = _training(remote) if changed else Training()
    source = load_params()["download"]["source"]
    futures: dict[str, Any] = {}
    for node in nodes:
        spared = None if node.stage in changed else SPARED
        before = [futures[stage] for stage in node.after]
        futures[node.stage] = task_of(node.stage, source).submit(node.stage, spared, training, ledger, wait_for=before)
    if changed:
        show_progress(futures, changed)
    wait(list(futures.values()))
    return [future.state for future in futures.values()]


def _training(remote: str | None) -> Training:
    return Training(
        variables={FLOW_RUN_VARIABLE: str(runtime.flow_run.id or "")},
        in_pool=has_worker(remote),
        tracking_uri=tracking.tracking_uri(),
        remote=remote,
    )


def _share() -> State[Any] | None:
    """Push everything to the remote, for other machines and people."""
    children.allow()
    try:
        return sharing.push_all(get_run_logger().info)
    finally:
        children.stop_all()


def _say(registered: list[Registered]) -> None:
    print(figures())
    for its in registered:
        role = "champion and challenger" if its.is_champion else "challenger"
        print(f"{its.model} is version {its.version} of {its.name}, {role}")
    print(f"report: {REPORT}")


def main() -> None:
    """Run the flow as a command: exit 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.pipeline",
        description="Bring every stage up to date, register the best models, and say where the report is.",
    )
    parser.add_argument("--explain", action="store_true", help="say which change causes which stages to run, and stop")
    parser.add_argument("--remote", type=address, help="DVC remote to share through: a folder, ssh://..., s3://...")
    add_debug(parser)
    arguments = parser.parse_args()
    with as_command(debug=arguments.debug):
        check_inputs()
        if arguments.explain:
            print(write(explain()))
            return
        ended = pipeline(arguments.remote, return_state=True)
    if not ended.is_completed():
        sys.exit(ended.message or "the flow did not run to its end")
    _say(ended.result().registered)


if __name__ == "__main__":
    main()
