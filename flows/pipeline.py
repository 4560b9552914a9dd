"""All of it: DVC's graph stage by stage, then the best model into the registry."""

import argparse
import os
import re
import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import wait
from prefect.states import Completed, Failed, State
from prefect.task_runners import ThreadPoolTaskRunner

from flows import children
from flows.graph import read_graph
from tasks.lineage import FLOW_RUN_VARIABLE
from tasks.outputs import read_json
from tasks.register import Registered, register_best
from tasks.stage import load_params, one_line
from waymark.errors import ParameterError, WaymarkError, nearest_name

REPORT = Path("reports/index.html")
COMPARISON = Path("reports/compare.json")
SKIPPED = ("didn't change, skipping", "is cached - skipping run")
CHATTER = ("To track the changes", "To enable auto staging", "Use `dvc push`", "\t")  # of DVC, after each stage
GRIDS = "data/grids/"
ENTRY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
MAIN_FIGURES = ("mean_km", "median_km", "constant_mean_km", "oracle_mean_km", "coverage_90")

_one_training = threading.Semaphore(1)  # two at once on one machine are slower than one after the other


@task(task_run_name="{stage}", cache_policy=NO_CACHE)
def run_stage(stage: str) -> State[Any]:
    """Bring one stage of DVC's graph up to date."""
    logger = get_run_logger()
    lines: list[str] = []

    def hear(line: str) -> None:
        lines.append(line)
        if line and not line.startswith(CHATTER):
            logger.info(line)

    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    with _one_training if stage.startswith(("train@", "gap@")) else threading.Semaphore():
        code = children.run(command, _environment(), hear)
    if code != 0:
        return Failed(message=_reason(stage, lines))
    if any(mark in line for line in lines for mark in SKIPPED):
        return Completed(name="Skipped", message="its outputs for these parameters and inputs are at hand")
    return Completed(message="ran")


def _environment() -> dict[str, str]:
    """Let children find this Python first, print at once, and know the flow run."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    run_id = str(runtime.flow_run.id or "")
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", FLOW_RUN_VARIABLE: run_id}


def _reason(stage: str, lines: list[str]) -> str:
    """Find the stage's own line in what DVC printed."""
    own = [line for line in lines if line.startswith(f"{stage.split('@')[0]}: ")]
    dvc = [line for line in lines if line.startswith("ERROR:")]
    return (own or dvc or lines or [f"{stage} failed"])[-1]


@task(cache_policy=NO_CACHE)
def register() -> Registered:
    """Register the location model that is best on val."""
    return register_best()


@flow(name="pipeline", task_runner=ThreadPoolTaskRunner(max_workers=4))  # type: ignore[arg-type]
def pipeline() -> Registered | State[Any] | None:
    """Bring every stage up to date, then register the location model that is best on val."""
    check_params()
    children.allow()
    futures: dict[str, Any] = {}
    try:
        for node in read_graph():
            before = [futures[stage] for stage in node.after]
            futures[node.stage] = run_stage.submit(node.stage, wait_for=before)
        wait(list(futures.values()))
    finally:
        children.stop_all()
    states = [future.state for future in futures.values()]
    if not all(state.is_completed() for state in states):
        failed = next((state for state in states if state.is_failed()), None)
        return Failed(message=failed.message if failed and failed.message else "a stage did not run to its end")
    comparison = read_json(COMPARISON)
    create_markdown_artifact(markdown=_table(comparison), key="metrics", description="figures of all models")
    return register() if comparison["best_on_val"] is not None else None


def check_params() -> None:
    """Refuse parameters that a stage would refuse, before DVC removes that stage's outputs.

    Raises:
        ParameterError: the first wrong key.
    """
    document = load_params()
    if not document.get("models"):
        raise ParameterError("params.yaml: models must hold at least one model")
    known: set[str] = set()
    for module in sorted(Path("tasks").glob("*.py")):
        stage = getattr(import_module(f"tasks.{module.stem}"), "STAGE", None)
        if stage is not None:
            known.update(key.split(".")[0] for key in stage.params("entry"))
            for entry in _entries(document, stage.each):
                stage.read(document, entry)
    for name, entry in document["models"].items():
        if (target := entry["target"]).startswith(GRIDS) and target.removeprefix(GRIDS) not in document["grids"]:
            hint = nearest_name(target.removeprefix(GRIDS), document["grids"])
            raise ParameterError(f"params.yaml: models.{name}.target {target} is no entry of grids; {hint}")
    if unknown := sorted(set(map(str, document)) - known):
        raise ParameterError(f"params.yaml: unknown section {unknown[0]}; {nearest_name(unknown[0], known)}")


def _entries(document: dict[str, Any], section: str | None) -> list[Any]:
    """List the names under a section for each of which a stage runs; one None without a section."""
    if section is None:
        return [None]
    entries = document.get(section)
    if not isinstance(entries, dict):
        raise ParameterError(
            f"params.yaml: {section} must be a section with names; leave it empty with {section}: {{}}"
        )
    if wrong := [name for name in entries if not ENTRY_NAME.fullmatch(str(name))]:
        raise ParameterError(f"params.yaml: {section}.{wrong[0]}: names consist of letters, digits, _ and -")
    return list(entries)


def _table(comparison: dict[str, Any]) -> str:
    rows = [
        f"| {model} | {split} | " + " | ".join(_shown(figures[split].get(name)) for name in MAIN_FIGURES) + " |"
        for model, figures in comparison["models"].items()
        for split in ("val", "test")
    ]
    head = f"| model | split | {' | '.join(MAIN_FIGURES)} |\n|---|---|{'---:|' * len(MAIN_FIGURES)}\n"
    return head + "\n".join(rows) + "\n"


def _shown(figure: float | None) -> str:
    return "–" if figure is None else f"{figure:.3g}" if figure < 1 else f"{figure:.1f}"


def _say(registered: Registered | None) -> None:
    print(_table(read_json(COMPARISON)))
    if registered is not None:
        role = "champion and challenger" if registered.is_champion else "challenger"
        print(f"{registered.model} is version {registered.version} of waymark-location, {role}")
    print(f"report: {REPORT}")


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Run the flow as a command: exit 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.pipeline",
        description="Bring every stage up to date, register the best location model, and say where the report is.",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        check_params()
        ended = pipeline(return_state=True)
    except (WaymarkError, FileNotFoundError) as error:
        if arguments.debug:
            raise
        sys.exit(one_line(error))
    except KeyboardInterrupt:
        children.stop_all()
        sys.exit(130)
    if not ended.is_completed():
        sys.exit(ended.message or "the flow did not run to its end")
    _say(ended.result())


if __name__ == "__main__":
    main()
