"""What every source gives: records, names of landmarks, and where they come from."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

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
    """A source of records; its settings are its own fields."""

    def fetch(self, folder: Path) -> Fetched:
        """Put the pictures into `folder`, an existing and empty one, and tell what is in it."""
        ...
