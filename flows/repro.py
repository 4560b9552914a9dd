"""DVC's commands in child processes, and what they say of a stage."""

import os
import sys
from collections.abc import Callable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from prefect.states import Completed, Failed, State

from flows import children
from flows.ledger import CACHED, SKIPPED
from waymark.system.addresses import without_credentials

CHATTER = ("To track the changes", "To enable auto staging", "Use `dvc push`", "\t")  # of DVC, after each stage
WHY_NOT = {  # what DVC says of a stage that it does not run
    "didn't change, skipping": "nothing that it depends on changed",
    "is cached - skipping run": CACHED,
}

Hear = Callable[[str], None]


def reproduce(stage: str, variables: Mapping[str, str], hear: Hear, *options: str) -> State[Any]:
    """Run `dvc repro` for one stage, and give the state that it ended with."""
    code, lines = run_dvc(["repro", "--single-item", *options, stage], variables, hear)
    if code != 0:
        return Failed(message=_reason(stage, lines))
    for mark, why in WHY_NOT.items():
        if any(mark in line for line in lines):
            return Completed(name=SKIPPED, message=why)
    return Completed(message="ran")


def run_dvc(arguments: list[str], variables: Mapping[str, str], hear: Hear) -> tuple[int, list[str]]:
    """Run a command of DVC, hand on each line that says something, and give its exit code and all lines."""
    lines: list[str] = []

    def listen(line: str) -> None:
        line = without_credentials(line)  # of a remote
        lines.append(line)
        if line and not line.startswith(CHATTER):
            hear(line)

    return children.run(
        [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments], environment(variables), listen
    ), lines


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Let children find this Python first, print at once, and know what the caller says.

    Stages run beside each other, and torch's threads spin while they wait for one another, which takes the cores from
    those beside them: with the default, an epoch of 14 s took 120 s beside another model's calibration. A hundredth of
    it costs an epoch alone some five per cent.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    own = {"PATH": path, "PYTHONUNBUFFERED": "1"}
    return {"GOMP_SPINCOUNT": "3000", **os.environ, **own, **variables}


def _reason(stage: str, lines: list[str]) -> str:
    """Find the stage's own line in what DVC printed."""
    own = [line for line in lines if line.startswith(f"{stage.split('@')[0]}: ")]
    return own[-1] if own else complaint(lines, f"{stage} failed")


def complaint(lines: list[str], otherwise: str) -> str:
    """Find what DVC or git says went wrong, with the indented lines that go on from there, in one line.

    >>> complaint(["ERROR: 'out' is busy, it is being blocked by:", "  (PID 7): dvc repro", "", "Remove ..."], "")
    "ERROR: 'out' is busy, it is being blocked by: (PID 7): dvc repro"
    """
    marked = [at for at, line in enumerate(lines) if line.startswith(("ERROR:", "fatal:", "error:"))]
    if not marked:
        return next(filter(None, reversed(lines)), otherwise)
    first, *rest = lines[marked[-1] :]
    return " ".join([first, *map(str.strip, takewhile(lambda line: line.startswith(" "), rest))])
