"""Files that are written atomically."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(destination: Path) -> Iterator[Path]:
    """Yield a path to write to that replaces `destination` when the block succeeds."""
    part = destination.with_name(f".{destination.name}.new")
    destination.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    try:
        yield part
        part.replace(destination)
    finally:
        part.unlink(missing_ok=True)
