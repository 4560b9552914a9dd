"""Outputs are written atomically; unfinished work is kept in a separate folder."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.common import provenance
from tasks.common.stage import WORK
from waymark.system.files import whole_file as whole_file


@contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """Yield a folder to write into that replaces `destination` when the block succeeds.

    Raises:
        ChangedError: the stage's parameters, code or inputs have changed since it began.
    """
    beside = destination.with_name(f".{destination.name}.new")
    old = destination.with_name(f".{destination.name}.old")
    destination.parent.mkdir(parents=True, exist_ok=True)
    if old.exists() and not destination.exists():  # killed between the two renames below
        old.rename(destination)
    for left_over in (beside, old):
        shutil.rmtree(left_over, ignore_errors=True)
    beside.mkdir()
    try:
        yield beside
        provenance.check()  # also at the end of the stage; here unfinished work still exists for the next run
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    if destination.exists():
        destination.rename(old)
    beside.rename(destination)
    shutil.rmtree(old, ignore_errors=True)


def write_json(content: Any, path: Path) -> None:
    """Write JSON, the same bytes for the same content; NaN is refused."""
    path.write_text(json.dumps(content, indent=2, sort_keys=False, allow_nan=False, ensure_ascii=False) + "\n")


def link_or_copy(source: Path, destination: Path) -> None:
    """Hard-link a finished file, or copy it if the disk cannot."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)


def file_digest(path: Path) -> str:
    """Hash the content of a file (SHA-256)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def work_folder(stage: str, settings: Mapping[str, Any], inputs: Iterable[Path]) -> Path:
    """Return the folder in which a stage keeps what must survive an interruption.

    Its name is a hash of the stage, its settings, the contents of its inputs and the code, so that work is resumed
    only if the result would be the same. The stage removes it on success.
    """
    tasks = Path(__file__).parent.parent
    code = [*tasks.rglob("*.py"), *(tasks.parent / "waymark").rglob("*.py")]
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in [*sorted(inputs), *sorted(code)]:
        key.update(f"\n{path}:{file_digest(path)}".encode())
    folder = WORK / stage / key.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_json(path: Path) -> Any:
    """Read a JSON file that a stage wrote."""
    return json.loads(path.read_text())
