"""A flow as a command: what becomes of its errors and of signals."""

import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from flows import children
from tasks.stage import one_line
from waymark.errors import WaymarkError

INTERRUPTED = 130


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


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
