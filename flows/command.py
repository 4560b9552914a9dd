"""Flows as commands: their arguments, errors in one line, signals; and parameters that must hold no password."""

import logging
import re
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, NoReturn

from pydantic import Field

from flows.stages import children
from tasks.common.stage import one_line
from waymark.errors import WaymarkError

INTERRUPTED = 130
RUNS = ("prefect.flow_runs", "prefect.task_runs")  # loggers of Prefect's engine

# Prefect keeps and shows the parameters of a flow, and `ps` shows the arguments of a command.
SECRET_NAME = r"^[a-z0-9][a-z0-9-]*$"
ADDRESS = r"^([^@]*|/.*|[a-z0-9+.-]+://[^/@]*/.*|ssh://[^/:@]+@.*|[^/:@]+@[^/].*)$"  # a user for SSH is no password
SecretName = Annotated[str, Field(pattern=SECRET_NAME)]  # Prefect's server checks it before it keeps a parameter
Address = Annotated[str, Field(pattern=ADDRESS)]

Option = tuple[tuple[str, ...], dict[str, Any]]


def secret_name(text: str) -> str:
    """Check the name of a Secret, where somebody may have written the URL itself; the message does not repeat it."""
    return _matching(
        SECRET_NAME,
        text,
        "names a Secret of Prefect, in small letters, digits and dashes, and not the URL itself; keep the URL with"
        " `python -m flows.notify NAME`, or in WAYMARK_NOTIFY",
    )


def address(text: str) -> str:
    """Check the address of a remote or a repository, which must not hold a password; the message does not repeat it."""
    remedy = "leave it out, and give it to DVC with `dvc remote modify --local`"
    return _matching(ADDRESS, text, f"holds a password or token; {remedy}")


def _matching(pattern: str, text: str, otherwise: str) -> str:
    if re.fullmatch(pattern, text) is None:
        raise ArgumentTypeError(otherwise)
    return text


def option(*names: str, **settings: Any) -> Option:
    """Describe an argument of a command, as argparse takes it."""
    return names, settings


def parse(module: str, description: str, *options: Option) -> Namespace:
    """Read the arguments of `python -m MODULE`."""
    parser = ArgumentParser(prog=f"python -m {module}", description=description)
    for names, settings in options:
        parser.add_argument(*names, **settings)
    return parser.parse_args()


@contextmanager
def command(module: str, description: str, *options: Option, code: int = 1) -> Iterator[Namespace]:
    """Run the block as `python -m MODULE`, with its arguments.

    An error that is known leaves one line on stderr, an interrupt leaves no child process.

    Args:
        module: whose `main` this is.
        description: for `--help`.
        options: its arguments besides `--debug`.
        code: exit code after a known error.
    """
    debug = option("--debug", action="store_true", help="show the traceback of an error")
    arguments = parse(module, description, *options, debug)
    shows_traceback = vars(arguments).pop("debug")
    signal.signal(signal.SIGTERM, _interrupt)
    _leave_the_terminal_to_people()
    try:
        yield arguments
    except (WaymarkError, FileNotFoundError) as error:
        if shows_traceback:
            raise
        print(one_line(error), file=sys.stderr)
        sys.exit(code)
    except KeyboardInterrupt:
        children.stop_all()
        sys.exit(INTERRUPTED)


def _leave_the_terminal_to_people() -> None:
    """Show warnings alone, and nothing that Prefect logs of its runs: its server has that.

    DVC draws bars as its logger's level says, one for each file that it looks at.
    """
    logging.getLogger("dvc.progress").setLevel(logging.CRITICAL)
    for handler in logging.getLogger().handlers:
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter())
        handler.addFilter(lambda record: not record.name.startswith(RUNS))


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
