"""DVC's commands in child processes, and what they print about a stage."""

import os
import sys
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from prefect.states import Completed, Failed, State

from flows.stages import children
from flows.stages.children import Log
from waymark.system.addresses import without_credentials

SKIPPED = "Skipped"  # state of a stage that had nothing to do
CACHED = "it ran before with these parameters and inputs"
CHATTER = ("To track the changes", "To enable auto staging", "Use `dvc push`", "\t")  # of DVC, after each stage
WHY_NOT = {  # what DVC prints of a stage that it does not run
    "didn't change, skipping": "nothing that it depends on changed",
    "is cached - skipping run": CACHED,
}


def reproduce(stage: str, variables: Mapping[str, str], log: Log, *options: str) -> State[Any]:
    """Run `dvc repro` for one stage, and return the state that it ended with."""
    code, lines = run_dvc(["repro", "--single-item", *options, stage], variables, log)
    if code != 0:
        own = [line for line in lines if line.startswith(f"{stage.split('@')[0]}: ")]  # the stage's one line
        return Failed(message=own[-1] if own else complaint(lines, f"{stage} failed"))
    for mark, why in WHY_NOT.items():
        if any(mark in line for line in lines):
            return Completed(name=SKIPPED, message=why)
    return Completed(message="ran")


def run_dvc(arguments: list[str], variables: Mapping[str, str], log: Log) -> tuple[int, list[str]]:
    """Run a command of DVC, log its lines but for blank ones and chatter, and return its exit code and all lines."""
    lines: list[str] = []

    def receive(line: str) -> None:
        lines.append(line := without_credentials(line))  # of a remote
        if line and not line.startswith(CHATTER):
            log(line)

    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    return children.run(command, environment(**variables), receive), lines


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of child processes: this Python first, output at once.

    Several stages run at the same time, and torch's threads spin while they wait for one another, which takes the
    cores from the others: with the default, an epoch of 14 s took 120 s during another model's calibration. A hundredth
    of it costs an epoch alone some five per cent.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {"GOMP_SPINCOUNT": "3000", **os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **variables}


def complaint(lines: list[str], otherwise: str) -> str:
    """Find the error of DVC or git, with the indented lines that continue it, in one line.

    >>> complaint(["ERROR: 'out' is busy, it is being blocked by:", "  (PID 7): dvc repro", "", "Remove ..."], "")
    "ERROR: 'out' is busy, it is being blocked by: (PID 7): dvc repro"
    """
    marked = [at for at, line in enumerate(lines) if line.startswith(("ERROR:", "fatal:", "error:"))]
    if not marked:
        return next(filter(None, reversed(lines)), otherwise)
    first, *rest = lines[marked[-1] :]
    return " ".join([first, *map(str.strip, takewhile(lambda line: line.startswith(" "), rest))])
