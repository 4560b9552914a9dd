"""A CSV or Parquet file that lists pictures, with what is known of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from tqdm import tqdm

from waymark.errors import SourceError, nearest_name
from waymark.images.decode import upright_dimensions
from waymark.records import records_table
from waymark.sources.adapter import Fetched
from waymark.sources.rows import MEANT, cell_number, cell_text, copy_picture, read_frame

COLUMNS = ("path", "latitude", "longitude", "landmark", "group", "split")
SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class TableSource:
    """Pictures listed in a table, one record for each row.

    Args:
        path: the table, or the folder that holds it and its pictures.
        file: name of the table in the folder, where it holds several.
    """

    path: Path
    file: str | None = None

    def fetch(self, folder: Path) -> Fetched:
        """Copy the pictures into `folder` and list them.

        A picture that is missing stays a record: `resize` counts it as missing.

        Raises:
            SourceError: no table, no column `path`, or numbers and paths that are none.
        """
        table_path = self._find()
        rows = list(_rows(_read(table_path), table_path))
        for row in tqdm(rows, unit="picture", desc="copy", disable=None):
            _copy(table_path.parent, row, folder)
        origin = {
            "name": "table",
            "description": f"{len(rows)} pictures listed in {table_path.name}",
            "licence": "as their owner says",
        }
        return Fetched(records=records_table(rows), landmark_names={}, origin=origin)

    def _find(self) -> Path:
        if self.path.is_file():
            return self.path
        if not self.path.is_dir():
            raise SourceError(
                f"{self.path} does not exist; set download.path to a table or to the folder that holds it"
            )
        if self.file is not None:
            if not (self.path / self.file).is_file():
                raise SourceError(f"{self.path} has no {self.file}; set download.table.file to a table in it")
            return self.path / self.file
        found = sorted(path for path in self.path.iterdir() if path.suffix.lower() in SUFFIXES)
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise SourceError(
                f"{self.path} must hold one .csv or .parquet table, it holds {names}; name it in download.table.file"
            )
        return found[0]


def _read(path: Path) -> pd.DataFrame:
    frame = read_frame(path)
    for name in map(str, frame.columns):
        meant = MEANT.get(name.strip().lower(), name.strip().lower())
        if meant in COLUMNS and meant not in frame.columns:
            raise SourceError(f"{path} has a column {name!r}, which is not read; call it {meant}")
    if "path" not in frame.columns:
        hint = nearest_name("path", map(str, frame.columns))
        raise SourceError(f"{path} has no column path ({hint}); it must name each picture, relative to the table")
    for one, other in (("latitude", "longitude"), ("longitude", "latitude")):
        if one in frame.columns and other not in frame.columns:
            hint = nearest_name(other, map(str, frame.columns))
            raise SourceError(f"{path} has a column {one} but no {other}; {hint}")
    if frame.empty:
        raise SourceError(f"{path} lists no picture; add a row for each")
    return frame


def _rows(frame: pd.DataFrame, table: Path) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(frame.to_dict("records"), start=2):
        cells = {name: cell_text(row.get(name)) for name in COLUMNS}
        path = cells["path"]
        if path is None:
            raise SourceError(f"{table}, row {number}: path is empty")
        relative = PurePosixPath(path.replace("\\", "/"))
        if relative.is_absolute() or ".." in relative.parts:
            raise SourceError(
                f"{table}, row {number}: {path!r} leads out of the folder; paths are relative to the table"
            )
        latitude, longitude = (cell_number(cells[name], name, table, number) for name in ("latitude", "longitude"))
        yield {
            "record_id": str(relative),
            "views": [{"path": f"images/{relative}", "heading_deg": None}],
            "landmarks": [cells["landmark"]] if cells["landmark"] is not None else [],
            "latitude": latitude,
            "longitude": longitude,
            "group": cells["group"],
            "split": cells["split"],
        }


def _copy(root: Path, row: dict[str, Any], folder: Path) -> None:
    source = root / row["record_id"]
    destination = folder / row["views"][0]["path"]
    if not source.is_file():
        return
    copy_picture(source, destination)
    if (dimensions := upright_dimensions(source)) is not None:
        row["width"], row["height"] = dimensions
