"""What all commands share: one-line errors, and files that are written atomically."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from waymark.errors import ParameterError, WaymarkError
from waymark.system.files import whole_file
from waymark.system.terminal import log_to, one_line, printable, printable_lines


@contextmanager
def one_line_errors(debug: bool) -> Iterator[None]:
    """Exit with 1 and one line on stderr on errors that the user can fix; with `debug` show the traceback."""
    log_to(None, logging.INFO if debug else logging.ERROR)
    if not debug:
        warnings.simplefilter("ignore")
    try:
        yield
    except BrokenPipeError:  # the reader closed the pipe; typer exits quietly
        raise
    except (WaymarkError, OSError) as error:
        if debug:
            raise
        say(f"waymark: {_one_line(error)}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return one_line(f"{error.filename}: {error.strerror}")
    return one_line(error)


def numbers(text: str, option: str) -> list[float]:
    """Parse numbers separated by commas; an empty text has none.

    Raises:
        ParameterError: one of them is not a number.
    """
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ParameterError(f"{option} {text} are not numbers; separate them with commas, such as 10,20") from None


def say(line: str) -> None:
    """Write a line to stderr, for people."""
    typer.echo(printable(line), err=True)


def show(text: str) -> None:
    """Write lines to stdout, for people."""
    typer.echo(printable_lines(text))


def write_text(text: str, destination: Path) -> None:
    """Write a file, or to stdout if its name is `-`."""
    if str(destination) == "-":
        typer.echo(text.rstrip("\n"))
        return
    with whole_file(destination) as path:
        path.write_text(text, encoding="utf-8")
