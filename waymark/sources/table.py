"""A CSV or Parquet file that lists pictures, with what is known of each."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass
from tqdm import tqdm

from waymark.data.names import one_form
from waymark.data.records import records_table
from waymark.errors import SourceError
from waymark.images.decode import upright_dimensions
from waymark.options.kinds import PathText
from waymark.options.named import STRICT
from waymark.sources.adapter import Fetched, Found, SourceOptions
from waymark.sources.paths import Finder, exists, is_file, leads_out, list_folder, real_roots
from waymark.sources.rows import (
    check_columns,
    find_picture,
    optional_degrees,
    optional_texts,
    relative_path,
)
from waymark.sources.tables import TABLES, Table, read_table, shown

COLUMNS = ("path", "latitude", "longitude", "landmark", "group", "split")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TableOptions(SourceOptions):
    """Options of the source `table`.

    Args:
        file: name of the table in the folder, where that holds several.
    """

    name: ClassVar[str] = "table"
    reads: ClassVar[str | None] = "a table or to the folder that holds it"

    file: PathText | None = None

    def build(self, path: Path, *, work: Path, mirrored: Path | None = None) -> "TableSource":
        """Build the source."""
        return TableSource(path, mirrored=mirrored, **self.given())


@dataclass(frozen=True, config=STRICT)
class TableSource(TableOptions):
    """Pictures listed in a table, one record for each row.

    Args:
        path: the table, or the folder that holds it and its pictures.
        mirrored: as of `SourceOptions.build`.
    """

    path: Path
    mirrored: Path | None = None

    def fetch(self, folder: Path) -> Fetched:
        """Copy the pictures into `folder` and list them.

        A picture that is missing stays a record: `resize` counts it as missing.

        Raises:
            SourceError: no table, no column `path`, or numbers and paths that are none.
        """
        return self.find().copy_to(folder)

    def find(self) -> Found:
        """List the pictures where they lie.

        Raises:
            SourceError: no table, no column `path`, or numbers and paths that are none.
        """
        table = _read(self._find())
        rows = _rows(table)
        root = table.path.parent
        finder, roots = Finder(root), self._roots(root)
        pictures: dict[str, Path] = {}
        numbered = zip(table.frame.index, rows, strict=True)
        for number, row in tqdm(numbered, total=len(rows), unit="picture", desc="read", disable=None):
            picture = find_picture(finder, row["record_id"], roots, table.where(number, "path"))
            if picture is not None:
                pictures[row["views"][0]["path"]] = picture
                row["width"], row["height"] = upright_dimensions(picture) or (None, None)
        origin = {
            "name": "table",
            "title": one_form(table.path.stem),
            "description": f"{len(rows)} pictures listed in {one_form(table.path.name)}",
            "licence": "as their owner says",
        }
        counts = {"missing_pictures": len(rows) - len(pictures)}
        return Found(Fetched(records_table(rows), origin=origin, counts=counts), pictures)

    def _roots(self, folder: Path) -> tuple[str, ...]:
        """List the folders to which links may lead; next to a table that is named itself its pictures lie."""
        mirrored = self.mirrored.parent if self.mirrored is not None and is_file(self.mirrored) else self.mirrored
        return real_roots(folder, mirrored)

    def _find(self) -> Path:
        if is_file(self.path):
            return self.path
        if not self.path.is_dir():
            kind = "is no file" if exists(self.path) else "does not exist"
            raise SourceError(f"{self.path} {kind}; set download.path to a table or to the folder that holds it")
        if self.file is not None:
            table = Finder(self.path).find(self.file)
            if not is_file(table):
                raise SourceError(f"{self.path} has no {self.file}; set download.table.file to a table in it")
        else:
            found = [path for path in list_folder(self.path) if is_table(path)]
            if len(found) != 1:
                names = ", ".join(one_form(path.name) for path in found) or "none"
                raise SourceError(
                    f"{self.path} must hold one .csv or .parquet table, it holds {names}; name it in"
                    " download.table.file"
                )
            (table,) = found
        if leads_out(table, self._roots(self.path)):
            raise SourceError(
                f"{table} leads out of {self.path}, which is all that DVC watches; move the table into it"
            )
        return table


def is_table(path: Path) -> bool:
    """Recognise tables by their name, unless they are notes that a device made."""
    return path.suffix.lower() in TABLES and not path.name.startswith(".")


def _read(path: Path) -> Table:
    table = read_table(path)
    check_columns(table, COLUMNS, ["path"], "it must name each picture, relative to the table")
    for one, other in (("latitude", "longitude"), ("longitude", "latitude")):
        if one in table.frame and other not in table.frame:
            held = shown(", ".join(map(str, table.frame.columns)), quoted=False)
            raise SourceError(f"{path} has a column {one} but no {other}; it has {held}")
    if table.frame.empty:
        raise SourceError(f"{path} lists no picture; add a row for each")
    return table


def _rows(table: Table) -> list[dict[str, Any]]:
    degrees = {name: optional_degrees(table, name) for name in ("latitude", "longitude")}
    texts = {name: optional_texts(table, name) for name in ("path", "landmark", "group", "split")}
    rows: dict[str, dict[str, Any]] = {}
    first: dict[str, int] = {}
    for place, number in enumerate(table.frame.index):
        where = table.where(number, "path")
        if (text := texts["path"][place]) is None:
            raise SourceError(f"{where} is empty; name a picture, or take the row out")
        path = relative_path(text, where)
        if (other := first.setdefault(path, number)) != number:
            raise SourceError(f"{table.path}, row {number}: duplicate record_id {shown(path)}, as in row {other}")
        landmark = texts["landmark"][place]
        rows[path] = {
            "record_id": path,
            "views": [{"path": f"images/{path}", "heading_deg": None}],
            "landmarks": [] if landmark is None else [landmark],
            **{name: values[place] for name, values in degrees.items()},
            **{name: texts[name][place] for name in ("group", "split")},
        }
    return list(rows.values())
