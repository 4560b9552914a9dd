"""All of it: DVC's graph stage by stage, then the best models into the registry."""

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, redirect_stderr
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from io import StringIO
from typing import Any

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled, Failed, Pending, State

from flows.command import Address, address, command, option
from flows.engine import completed, dated, is_served, run
from flows.locks import exclusive
from flows.stages import children
from flows.stages.explain import Cause, in_short, plan, write
from flows.stages.graph import Node
from flows.stages.inputs import check_inputs
from flows.stages.progress import NOT_REACHED, Entry, Progress
from flows.stages.results import COMPARISON, show_progress, write_ledger, write_results
from flows.stages.stage import TRAININGS, run_stage
from flows.stages.summary import summary
from flows.workers import sharing
from flows.workers.cancellation import watching
from flows.workers.training import Training, has_worker
from tasks.common.circumstances import FLOW_RUN_VARIABLE
from tasks.common.outputs import read_json
from tasks.common.stage import WORK, load_params
from tasks.registry.register import Registered, register_best
from tasks.registry.store import tracking_uri
from waymark.inference.lookup import BEST
from waymark.system.terminal import printable_lines

UNCHANGED = "neither it nor anything before it changed"
BEFORE = "a stage before it did not run to its end"
THREADS = 64  # most of which wait for stages before theirs; flows/stages/stage.py limits how many are at work
LOG = WORK / "pipeline.log"
LOCK = WORK / "locks" / "pipeline.lock"

logger = logging.getLogger("flows.pipeline")  # also where it is run as a command


@dataclass(frozen=True)
class Outcome:
    """What a pipeline run did."""

    registered: list[Registered]  # the versions in the registry that are best on val
    causes: list[Cause]  # the stages that were to run, and why
    entries: list[Entry]  # what became of each stage


@task(task_run_name="register", cache_policy=NO_CACHE)
def register() -> list[Registered]:
    """Register the models that are best on val; MLflow's own messages go to the log."""
    printed = StringIO()
    try:
        with redirect_stderr(printed):
            return register_best()
    finally:
        for line in printed.getvalue().splitlines():
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
    busy = "another pipeline is at work in this checkout (process {pid}); waiting for it"
    with exclusive(LOCK, busy, error=None), _logged():
        children.allow()
        return _bring_up_to_date(sharing.use_remote(remote) if remote is not None else None)


@contextmanager
def _logged() -> Iterator[None]:
    """Write what the flows log into the file of this run."""
    handler = logging.FileHandler(LOG, mode="w")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.getLogger("flows").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("flows").removeHandler(handler)
        handler.close()


def _bring_up_to_date(remote: str | None) -> Outcome | State[Any]:
    print("looking for what changed", flush=True)
    nodes, causes = plan()
    logger.info(write(causes))
    models, stages = load_params()["models"], [node.stage for node in nodes]
    epochs = {name: models[name.partition("@")[2]]["epochs"] for name in stages if name.startswith(TRAININGS)}
    progress = Progress(stages, epochs)
    progress.write(in_short(causes, len(nodes)))
    runs = [str(run) for run in (runtime.flow_run.id, runtime.flow_run.root_flow_run_id) if run and is_served()]
    training = _training(remote) if causes else Training()
    with watching(runs, children.stop_all) as cancelled:
        states = _run(nodes, {cause.stage for cause in causes}, training, progress)
    write_ledger(progress.entries(), write(causes))
    if cancelled.is_set():
        return Cancelled(message="the flow run was cancelled")
    if not all(state.is_completed() for state in states):
        return _failed(progress)
    registered = []
    if any(read_json(COMPARISON)[best] is not None for best in BEST.values()):
        registered = (register if is_served() else register.fn)()
    write_results()
    if remote is not None and (failed := _share()):
        return failed
    return Outcome(registered, causes, progress.entries())


def _failed(progress: Progress) -> State[Any]:
    """Name what failed, and what was not reached."""
    entries = progress.entries()
    if left := [entry.stage for entry in entries if entry.state == NOT_REACHED]:
        progress.write(f"not reached: {', '.join(left)}")
    progress.write(f"output of the stages: {LOG}")
    reasons = dict.fromkeys(entry.reason for entry in entries if entry.outcome == "failed")
    return Failed(message="; ".join(filter(None, reasons)) or "a stage did not run to its end")


def _run(nodes: list[Node], changed: set[str], training: Training, progress: Progress) -> list[State[Any]]:
    """Run each stage in a thread as soon as those before it have ended; one that fails stops only those after it."""
    futures: dict[str, Future[State[Any]]] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for node in nodes:
                skipped = None if node.stage in changed else UNCHANGED
                before = [futures[stage] for stage in node.after]
                work = {"stage": node.stage, "skipped": skipped, "training": training, "progress": progress}
                futures[node.stage] = pool.submit(copy_context().run, partial(_after, before, work))
            if changed:
                show_progress(futures, changed)
            wait(futures.values())
        finally:
            children.stop_all()
    return [future.result() for future in futures.values()]


def _after(before: list[Future[State[Any]]], work: dict[str, Any]) -> State[Any]:
    """Run a stage once those before it have ended: as a task where a server records it."""
    states = [future.result() for future in before]
    if is_served():
        return run_stage(**work, wait_for=states, return_state=True)
    return run_stage.fn(**work) if all(state.is_completed() for state in states) else Pending(message=BEFORE)


def _training(remote: str | None) -> Training:
    variables = {FLOW_RUN_VARIABLE: str(runtime.flow_run.id or "")}
    training = Training(variables, tracking_uri=tracking_uri(), remote=remote)
    return replace(training, in_pool=has_worker(training))


def _share() -> State[Any] | None:
    """Push everything to the remote, for other machines and people."""
    children.allow()
    try:
        return sharing.push_all(logger.info)
    finally:
        children.stop_all()


def main() -> None:
    """Run as a command: exit 0, or 1 with one line on stderr."""
    with command(
        "flows.pipeline",
        "Bring every stage up to date, register the best models, and print where the report is.",
        option("--explain", action="store_true", help="print which change causes which stages to run, and stop"),
        option("--remote", type=address, help="DVC remote to share through: a folder, ssh://..., s3://..."),
    ) as arguments:
        if arguments.explain:
            check_inputs()
            print(printable_lines(write(plan()[1])))
            return
        ended = completed(run(pipeline, remote=arguments.remote))
        print(printable_lines(summary(ended.result().registered)))


if __name__ == "__main__":
    main()
