"""What all stages share: parameters, one writer at a time, one-line errors."""

import argparse
import dataclasses
import errno
import fcntl
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from tasks.common import provenance
from tasks.common.kinds import check_name
from tasks.common.params import PARAMS_FILE, load_params, look_up, shown
from tasks.common.validation import validate
from waymark.errors import ParameterError, WaymarkError
from waymark.options.named import STRICT as STRICT
from waymark.system import terminal
from waymark.system.processes import die_with, die_with_parent

logger = logging.getLogger(__name__)

WORK = Path(".work")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of OSError, if the disk is full


DVC_STAGE = "DVC_STAGE"  # set by DVC for each command

S = TypeVar("S")


@dataclasses.dataclass(frozen=True)
class Stage(Generic[S]):
    """A stage of dvc.yaml: its name and the parameters that it reads.

    Args:
        name: of the stage, its module and, unless `section` says otherwise, its section of params.yaml.
        settings: frozen dataclass whose fields are the keys of the section and of `shared`.
        section: dotted key of the section, where `{entry}` is the name of the entry; empty for none.
        shared: top-level keys that the stage reads in addition.
        each: section of params.yaml for each entry of which the stage runs once, such as `models`.
        check: raises if the settings are inconsistent, or name something missing.
        prepare: called before the inputs are recorded.
    """

    name: str
    settings: type[S]
    section: str | None = None
    shared: tuple[str, ...] = ()
    each: str | None = None
    check: Callable[[S], None] | None = None
    prepare: Callable[[S], None] | None = None

    def params(self, entry: str | None = None) -> list[str]:
        """List the keys that dvc.yaml must declare for this stage."""
        section = self.name if self.section is None else self.section
        return [*([section.format(entry=entry)] if section else []), *self.shared]

    def read(self, document: dict[str, Any], entry: str | None = None) -> S:
        """Parse the stage's part of params.yaml into its settings.

        Raises:
            WaymarkError: a key is unknown, missing or of the wrong type, or the settings are inconsistent.
        """
        if self.each is not None and entry is not None:
            check_name(self.each, entry)
        values: dict[str, Any] = {}
        for dotted, found in self.values(document, entry).items():
            if dotted in self.shared:
                values[dotted] = found
            elif found is not None and not isinstance(found, dict):
                raise ParameterError(f"params.yaml: {dotted} must be a section with keys (it is {shown(repr(found))})")
            else:
                self._refuse_shared(dotted, found or {})
                values.update(found or {})
        place = self.params(entry)[0] if self.section != "" else ""
        settings = validate(self.settings, values, place, self.shared)
        if self.check is not None:
            try:
                self.check(settings)
            except WaymarkError as error:
                raise type(error)(
                    f"params.yaml: {place}{': ' if place else ''}{terminal.printable(str(error))}"
                ) from error
        return settings

    def values(self, document: dict[str, Any], entry: str | None = None) -> dict[str, Any]:
        """Find the values of the stage in params.yaml, by dotted key.

        Raises:
            ParameterError: something is missing.
        """
        return {dotted: look_up(document, dotted) for dotted in self.params(entry)}

    def _refuse_shared(self, section: str, keys: Iterable[str]) -> None:
        for key in self.shared:
            if key in keys:
                raise ParameterError(f"params.yaml: unknown key {section}.{key}; {key} is a top-level key")

    def main(self, body: Callable[..., None]) -> NoReturn:
        """Run the stage as a command: exit 0, or 1 with one line on stderr."""
        arguments = _parse(self, body)
        terminal.log_to(sys.stdout, logging.INFO)
        logging.captureWarnings(True)
        end_with_parent()
        try:
            self._run(body, _entry(self, arguments))
        except (WaymarkError, OSError) as error:
            if arguments.debug or not _is_known(error):
                raise
            sys.exit(f"{self.name}: {one_line(error)}")
        except KeyboardInterrupt:
            sys.exit(130)
        sys.exit(0)

    def _run(self, body: Callable[..., None], entry: str | None) -> None:
        """Run the body as the only writer, and withdraw its outputs if their origins have changed."""
        if self.each is not None and entry is not None:
            check_name(self.each, entry)  # before it is the name of a lock
        with only_writer(self.name if entry is None else f"{self.name}@{entry}"):
            document = load_params()
            settings = self.read(document, entry)
            if self.prepare is not None:
                self.prepare(settings)
            item = None if self.each is None else look_up(document, f"{self.each}.{entry}")
            edges = provenance.read_edges(self.name, {**document, "key": entry, "item": item})
            provenance.begin(edges, self.values(document, entry), lambda: self.values(load_params(), entry))
            body(*([settings] if entry is None else [entry, settings]))
            try:
                provenance.check()
            except WaymarkError:
                provenance.withdraw()
                raise


def _is_known(error: Exception) -> bool:
    return not isinstance(error, OSError) or isinstance(error, FileNotFoundError) or error.errno in FULL


def one_line(error: Exception) -> str:
    """Describe an error in one line, with the remedy for a missing input."""
    if isinstance(error, OSError) and error.errno in FULL:
        return terminal.one_line(
            f"{error.strerror}: {error.filename2 or error.filename or Path.cwd()}; make room and run again, finished"
            " work is kept"  # of a copy, the second name is the full disk
        )
    if isinstance(error, FileNotFoundError):
        return terminal.one_line(f"{error.filename or error} is missing; run the stages before this one with dvc repro")
    return terminal.one_line(error)


def _parse(stage: Stage[Any], body: Callable[..., None]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m tasks.{stage.name}",
        description=(body.__doc__ or "").strip().splitlines()[0],
        epilog=f"Reads {', '.join(stage.params('ENTRY'))} of {PARAMS_FILE}.",
    )
    if stage.each is not None:
        parser.add_argument("entry", nargs="?", help=f"name of an entry of {stage.each}: in params.yaml")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args()


def _entry(stage: Stage[Any], arguments: argparse.Namespace) -> str | None:
    """Return the entry of the command line, or of DVC.

    DVC passes the address of its stage in a variable, such as train@cells. No command in dvc.yaml has the name as an
    argument, because DVC runs commands in a shell, which would execute a name from params.yaml.
    """
    if stage.each is None or arguments.entry is not None:
        return getattr(arguments, "entry", None)
    group, _, entry = os.environ.get(DVC_STAGE, "").rpartition(f"{provenance.GRAPH}:")[2].partition("@")
    if group != stage.name or not entry:
        raise ParameterError(f"name an entry of {stage.each}: python -m tasks.{stage.name} NAME")
    return entry


def end_with_parent() -> None:
    """End with the parent, even if it died before the kernel was asked.

    DVC runs a stage through a shell, and some shells stay in between and outlive DVC: then the stage ends with the
    parent of the shell.
    """
    die_with_parent()
    parent = os.getppid()
    elders = [parent, *_parent_of_shell(parent)]
    session = os.getsid(0)
    try:
        orphan = session != os.getpid() and any(os.getsid(elder) != session for elder in elders)
        for elder in elders[1:]:
            die_with(elder)
    except ProcessLookupError:
        orphan = True
    if orphan:  # the parent of an orphan is in another session
        sys.exit(1)


def _parent_of_shell(pid: int) -> list[int]:
    """Return the parent of a shell that only runs a stage; none for any other process."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    if "-c" not in arguments or not any("-m tasks." in argument for argument in arguments):
        return []
    return [int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:")]


@contextmanager
def only_writer(name: str) -> Iterator[None]:
    """Hold the lock of a stage, which the kernel releases when the process dies.

    Raises:
        WaymarkError: another process runs the stage.
    """
    lock = WORK / "locks" / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WaymarkError(f"another process runs {name} in this checkout; wait for it or stop it") from None
        yield
