"""What every source offers: its options, and records with the names of landmarks and where they come from."""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow as pa
from tqdm import tqdm

from waymark.data.names import one_form
from waymark.errors import SourceError


@dataclass(frozen=True)
class Fetched:
    """What a source has put into a folder.

    Attributes:
        records: table of `waymark.data.records.RECORD_SCHEMA`; the paths of views are relative to the folder.
        landmark_names: readable name of each landmark that has one.
        origin: what `source.json` tells about the source, such as name, description and licence.
        counts: what the source counted besides records and pictures, such as what it left out.
    """

    records: pa.Table
    landmark_names: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, object] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a source finds in a folder of its user, where nothing is copied yet.

    Attributes:
        fetched: as it will be, once the pictures are copied.
        pictures: where the picture of each path in the records lies now; those that are missing are left out.
    """

    fetched: Fetched
    pictures: Mapping[str, Path]

    def copy_to(self, folder: Path) -> Fetched:
        """Copy the pictures, which stay as they are, into a folder.

        Raises:
            SourceError: this user may not read one.
        """
        for path, picture in tqdm(self.pictures.items(), unit="picture", desc="copy", disable=None):
            destination = folder / path
            destination.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(picture, destination)
            except PermissionError as error:
                name = one_form(str(error.filename))
                raise SourceError(f"{name}: permission denied; give yourself the right, or move it away") from None
        return self.fetched


class Source(Protocol):
    """A source of records."""

    def fetch(self, folder: Path) -> Fetched:
        """Put the pictures into `folder`, an existing and empty one, and list what is in it."""
        ...

    def tidy(self) -> None:
        """Remove what only an interruption would have needed."""
        ...


class SourceOptions(ABC):
    """Options of a source: a section of configuration parses into them, and they build it.

    A source is a subclass of its options that also knows where to read. It can be chosen as soon as its module is
    imported.
    """

    name: ClassVar[str]
    reads: ClassVar[str | None] = None  # what of the user's it reads; None where it needs nothing

    def check(self, path: Path) -> None:  # noqa: B027  # most read whatever lies there
        """Refuse what lies at a path of the user, which exists, where this source would not read it."""

    @abstractmethod
    def build(self, path: Path, *, work: Path, mirrored: Path | None = None) -> Source:
        """Build the source.

        Args:
            path: folder or file of the user, for sources that read one.
            work: folder for what must survive an interruption.
            mirrored: what `path` links to, where it was made to stand for that; else links may not lead out of it.
        """

    def given(self) -> dict[str, Any]:
        """List the options by name."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]  # each source is a dataclass

    def tidy(self) -> None:  # noqa: B027  # most keep nothing
        """Remove what only an interruption would have needed."""


def known_sources() -> dict[str, type[SourceOptions]]:
    """List the options of all sources by name, in the order of their names."""
    return {options.name: options for options in sorted(SourceOptions.__subclasses__(), key=lambda each: each.name)}
