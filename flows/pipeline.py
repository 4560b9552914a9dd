"""All of it: DVC's graph stage by stage, then the best models into the registry."""

import argparse
import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import redirect_stderr
from contextvars import copy_context
from dataclasses import dataclass
from io import StringIO
from typing import Any

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled, Failed, Pending, State

from flows import children, sharing
from flows.artifacts import COMPARISON, show_progress, write_ledger, write_results
from flows.command import add_debug, as_command
from flows.engine import completed, is_served, run
from flows.explain import Cause, causes_of, explain, in_short, write
from flows.gpu import Training, has_worker
from flows.graph import Node, open_repo, read_graph
from flows.inputs import check_inputs
from flows.ledger import NOT_REACHED, Entry, Ledger
from flows.lifeline import watching
from flows.names import dated
from flows.parameters import Address, address
from flows.progress import Progress
from flows.stages import TRAININGS, run_stage
from flows.summary import summary
from flows.turn import LOG, only_pipeline
from tasks.common.circumstances import FLOW_RUN_VARIABLE
from tasks.common.outputs import read_json
from tasks.common.stage import load_params
from tasks.registry.register import Registered, register_best
from tasks.registry.store import tracking_uri
from waymark.inference.lookup import BEST
from waymark.system.terminal import printable_lines

SPARED = "neither it nor anything before it changed"
BEFORE = "a stage before it did not run to its end"
THREADS = 64  # most of which wait for stages before theirs; `stages` says how many are at work

logger = logging.getLogger("flows.pipeline")  # also where it is run as a command


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
    """Register the models that are best on val; what MLflow says of that goes to the log."""
    said = StringIO()
    try:
        with redirect_stderr(said):
            return register_best()
    finally:
        for line in said.getvalue().splitlines():
            logger.info("register: %s", line)


@flow(name="pipeline", flow_run_name=dated("pipeline"))
def pipeline(remote: Address | None = None) -> Outcome | State[Any]:
    """Bring every stage up to date, then register the models that are best on val, for places and for landmarks.

    Args:
        remote: DVC remote (a folder, ssh://..., s3://...) through which workers on other machines and people take
            data and results. DVC's commands in this checkout use it from then on, too. Without one, no worker on
            another machine is asked.
    """
    check_inputs()
    with only_pipeline():
        children.allow()
        return _bring_up_to_date(sharing.use_remote(remote) if remote is not None else None)


def _bring_up_to_date(remote: str | None) -> Outcome | State[Any]:
    print("looking for what changed", flush=True)
    nodes, causes = plan()
    logger.info(write(causes))
    ledger, progress = Ledger([node.stage for node in nodes]), _progress(nodes)
    progress.write(in_short(causes, len(nodes)))
    runs = [str(run) for run in (runtime.flow_run.id, runtime.flow_run.root_flow_run_id) if run and is_served()]
    training = _training(remote) if causes else Training()
    with watching(runs, children.stop_all) as cancelled:
        states = _run(nodes, {cause.stage for cause in causes}, training, ledger, progress)
    write_ledger(ledger.entries(), write(causes))
    if cancelled.is_set():
        return Cancelled(message="the flow run was cancelled")
    if not all(state.is_completed() for state in states):
        return _failed(ledger.entries(), progress)
    registered = []
    if any(read_json(COMPARISON)[best] is not None for best in BEST.values()):
        registered = (register if is_served() else register.fn)()
    write_results()
    if remote is not None and (failed := _share()):
        return failed
    return Outcome(registered, causes, ledger.entries())


def _progress(nodes: list[Node]) -> Progress:
    models = load_params()["models"]
    trainings = [node.stage for node in nodes if node.stage.startswith(TRAININGS)]
    epochs = {stage: models[stage.partition("@")[2]]["epochs"] for stage in trainings}
    return Progress([node.stage for node in nodes], epochs)


def _failed(entries: list[Entry], progress: Progress) -> State[Any]:
    """Say what failed, and what was not reached."""
    if left := [entry.stage for entry in entries if entry.state == NOT_REACHED]:
        progress.write(f"not reached: {', '.join(left)}")
    progress.write(f"what the stages said: {LOG}")
    reasons = dict.fromkeys(entry.reason for entry in entries if entry.outcome == "failed")
    return Failed(message="; ".join(filter(None, reasons)) or "a stage did not run to its end")


def plan() -> tuple[list[Node], list[Cause]]:
    """Read the graph, and what in it would run and why, from DVC."""
    with open_repo() as repo:
        nodes = read_graph(repo)
        return nodes, causes_of(repo, nodes)


def _run(
    nodes: list[Node], changed: set[str], training: Training, ledger: Ledger, progress: Progress
) -> list[State[Any]]:
    """Run each stage in a thread as soon as those before it are through; one that fails stops only those after it."""
    futures: dict[str, Future[State[Any]]] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for node in nodes:
                spared = None if node.stage in changed else SPARED
                before = [futures[stage] for stage in node.after]
                work = {"stage": node.stage, "spared": spared, "training": training}
                work |= {"ledger": ledger, "progress": progress}
                futures[node.stage] = pool.submit(copy_context().run, _after, before, work)
            if changed:
                show_progress(futures, changed)
            wait(futures.values())
        finally:
            children.stop_all()
    return [future.result() for future in futures.values()]


def _after(before: list[Future[State[Any]]], work: Mapping[str, Any]) -> State[Any]:
    """Run a stage once those before it are through: as a task where a server records it."""
    states = [future.result() for future in before]
    if is_served():
        return run_stage(**work, wait_for=states, return_state=True)
    return run_stage.fn(**work) if all(state.is_completed() for state in states) else Pending(message=BEFORE)


def _training(remote: str | None) -> Training:
    return Training(
        variables={FLOW_RUN_VARIABLE: str(runtime.flow_run.id or "")},
        in_pool=has_worker(remote),
        tracking_uri=tracking_uri(),
        remote=remote,
    )


def _share() -> State[Any] | None:
    """Push everything to the remote, for other machines and people."""
    children.allow()
    try:
        return sharing.push_all(logger.info)
    finally:
        children.stop_all()


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
            print(printable_lines(write(explain())))
            return
        ended = completed(run(pipeline, remote=arguments.remote))
        print(printable_lines(summary(ended.result().registered)))


if __name__ == "__main__":
    main()
