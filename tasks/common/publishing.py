"""What a stage makes goes to MLflow by a process next to it, which no stage imports and none depends on.

The stage writes files: `record.json` with what its training is made from, and `curves.json` after each epoch. The
publisher (`tasks.registry.publish`) reads them while the stage runs, and its outputs when it has ended well. Without
a publisher nothing is lost: the record stays in `.work/runs` until a run in MLflow has all of it.
"""

import logging
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from tasks.common.outputs import file_digest, whole_file, write_json
from tasks.common.stage import WORK
from waymark.system.checkout import checkout
from waymark.system.processes import start_command

logger = logging.getLogger(__name__)

PUBLISHER = "tasks.registry.publish"
RECORD, CURVES = "record.json", "curves.json"
SPEED = WORK / "speed"  # by which a model answered when it was evaluated: it differs from run to run, and is no output
LEAVE_S = 600.0  # that a publisher has for the outputs of a stage that ended well


def begin_record(work: Path, model: str, params: Mapping[str, Any], **made_from: Any) -> None:
    """Write down what a training is made from, unless it goes on after a kill: then the first record stays.

    Args:
        work: folder that outlives a kill.
        model: name of its entry.
        params: of the training.
        made_from: `lineage` and `circumstances`.
    """
    if not (work / RECORD).exists():
        with whole_file(work / RECORD) as path:  # by its id a training that goes on finds its run again
            write_json({"id": uuid4().hex, "model": model, "params": params, **made_from}, path)


def write_curves(work: Path, curves: Sequence[Mapping[str, float | None]]) -> None:
    """Write the figures of all epochs so far."""
    with whole_file(work / CURVES) as path:
        write_json(curves, path)


def keep_record(work: Path, checkpoint: Path) -> None:
    """Keep the record of a training that is through, until MLflow has all of it."""
    with whole_file(kept_record(file_digest(checkpoint))) as path:
        path.write_text((work / RECORD).read_text())


def kept_record(digest: str) -> Path:
    """Name the file of the training that made a checkpoint with a digest."""
    return checkout() / WORK / "runs" / f"{digest}.json"


@contextmanager
def published(model: str, work: Path | None = None) -> Iterator[None]:
    """Let the publisher follow a stage; whatever becomes of it, the stage goes on.

    Args:
        model: that the stage trains or measures.
        work: folder in which a training writes its record and curves.
    """
    child = _start([model] if work is None else [model, "--follow", str(work)])
    try:
        yield
    except BaseException:
        if child is not None:
            child.kill()
            child.wait()
        raise
    if child is not None:
        _leave(child)


def _start(arguments: Sequence[str]) -> "subprocess.Popen[str] | None":
    try:
        return start_command(
            [sys.executable, "-m", PUBLISHER, *arguments], stdin=subprocess.PIPE, text=True, prepare=_ignore_interrupts
        )
    except OSError as error:  # such as too many processes
        logger.warning("MLflow gets the run later: its publisher does not start (%s)", error)
        return None


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the stage, which ends the publisher."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _leave(child: "subprocess.Popen[str]") -> None:
    """Tell the publisher that the stage ended well, and wait until it has logged what there is."""
    try:
        child.communicate("ended well\n", LEAVE_S)  # where it has died, nobody reads
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
