"""What every source gives: records, names of landmarks, and where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True)
class Fetched:
    """What a source has put into a folder.

    Attributes:
        records: table of `waymark.records.RECORD_SCHEMA`; the paths of views are relative to the folder.
        landmark_names: readable name of each landmark that has one.
        origin: what `source.json` tells about the source, such as name, description and licence.
        counts: what the source counted besides records and pictures, such as what it left out.
    """

    records: pa.Table
    landmark_names: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, object] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


class Source(Protocol):
    """A source of records; its settings are its own fields."""

    def fetch(self, folder: Path) -> Fetched:
        """Put the pictures into `folder`, an existing and empty one, and tell what is in it."""
        ...
