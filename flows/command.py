"""A flow as a command: what becomes of its errors and of signals."""

import logging
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from flows import children
from tasks.common.stage import one_line
from waymark.errors import WaymarkError

INTERRUPTED = 130
RUNS = ("prefect.flow_runs", "prefect.task_runs")  # loggers of Prefect's engine


def add_debug(parser: ArgumentParser) -> None:
    """Offer `--debug`."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


@contextmanager
def as_command(*, debug: bool = False, code: int = 1) -> Iterator[None]:
    """Leave with one line on stderr where an error is known, and without children where the command is interrupted.

    Args:
        debug: show the traceback of a known error, too.
        code: with which it leaves after an error.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    _leave_the_terminal_to_people()
    try:
        yield
    except (WaymarkError, FileNotFoundError) as error:
        if debug:
            raise
        print(one_line(error), file=sys.stderr)
        sys.exit(code)
    except KeyboardInterrupt:
        children.stop_all()
        sys.exit(INTERRUPTED)


def _leave_the_terminal_to_people() -> None:
    """Show warnings alone, as they are, and nothing that Prefect logs of its runs: its server has that.

    DVC draws bars as its logger's level says, one for each file that it looks at.
    """
    logging.getLogger("dvc.progress").setLevel(logging.CRITICAL)
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter())
        handler.addFilter(lambda record: not record.name.startswith(RUNS))


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
