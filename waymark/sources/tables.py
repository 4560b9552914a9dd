"""Tables that people bring, CSV or Parquet: one reader for all, which takes nothing for what it may not be."""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from waymark.data.names import one_form
from waymark.errors import SourceError
from waymark.sources.paths import exists, is_file

PARQUET = (".parquet", ".pq")
TABLES = (".csv", ".tsv", *PARQUET)
SEPARATORS = (",", ";", "\t")
SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?(?:\r\n|\r|\n|$)', re.IGNORECASE)  # Excel's own
NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]+)?")
NO_NUMBER = ("na", "n/a", "nan", "<na>", "null", "none")  # words for an empty cell where a number is wanted
LATITUDE = ("latitude", "lat")
LONGITUDE = ("longitude", "lon", "lng", "long")
MEANT = {name: names[0] for names in (LATITUDE, LONGITUDE) for name in names}

MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
         (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))  # fmt: skip  # byte-order marks, the longer ones first
CODE_PAGES = ("cp1252", "cp1250", "iso8859_2", "latin_1")  # of Western and Central Europe
UTF_8_PAIR = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")
AS_UTF_8 = "save it as “CSV UTF-8”"
OTHERS = {
    b"PK\x03\x04": "it is a spreadsheet or an archive; save it as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "it is a spreadsheet; save it as CSV UTF-8",
    b"\x1f\x8b": "it is compressed; unpack it",
}
SHOWN = 60  # characters of a cell in an error
HEAD_BYTES = 2**16  # in which a header ends


class Table(NamedTuple):
    """A table as it was read.

    Attributes:
        path: of the file.
        frame: columns by their names without spaces around them; the cells of a CSV are text, those of Parquet values;
            the index is the row of the file, as a spreadsheet counts them.
        decimal_commas: whether 45,8 is a number, because commas do not separate the cells.
    """

    path: Path
    frame: pd.DataFrame
    decimal_commas: bool = False

    def find(self, names: Sequence[str]) -> str | None:
        """Return the first column with one of these names, in capitals or not."""
        known = {str(name).casefold(): str(name) for name in self.frame.columns}
        return next((known[name] for name in names if name in known), None)

    def needed(self, names: Sequence[str], called: str) -> str:
        """Return the first column with one of these names, of which people know one.

        Raises:
            SourceError: there is none.
        """
        if (found := self.find(names)) is None:
            held = ", ".join(map(str, self.frame.columns))
            raise SourceError(f"{self.path} has no column {called}; it has {shown(held, quoted=False)}")
        return found

    def where(self, row: object, column: str) -> str:
        """Name a cell, as the beginning of an error."""
        return f"{self.path}, row {row}: {column}"

    def texts(self, column: str) -> list[str | None]:
        """Read a column of names, each in one form; None where nothing stands.

        Raises:
            SourceError: a cell holds a list or something else that is no text.
        """
        return [self._text(row, column, cell) for row, cell in self.frame[column].items()]

    def _text(self, row: object, column: str, cell: Any) -> str | None:
        if isinstance(cell, bytes):
            try:
                cell = cell.decode()
            except UnicodeDecodeError:
                raise SourceError(f"{self.where(row, column)} is no text but bytes; write UTF-8") from None
        if isinstance(cell, (list, tuple, dict, np.ndarray)):
            raise SourceError(f"{self.where(row, column)} is a list, {shown(str(cell))}; write one text")
        if cell is None or cell is pd.NaT or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell)):
            return None
        text = str(cell).strip()
        if "\0" in text:
            raise SourceError(f"{self.where(row, column)} {shown(text)} holds a NUL; the file may be damaged")
        return one_form(text) or None

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Read a column of numbers; NaN where nothing stands, or a word for it.

        Raises:
            SourceError: a cell holds something that is no number, or is infinite.
        """
        values = self.frame[column]
        if values.dtype.kind in "iuf":
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
            if len(infinite := np.flatnonzero(np.isinf(numbers))):
                raise SourceError(f"{self.where(values.index[infinite[0]], column)} is infinite, no number")
            return numbers
        read = [self._number(row, column, cell) for row, cell in values.items()]
        if self.decimal_commas:
            self._refuse_mixed(column)
        return np.array(read, dtype=np.float64)

    def _number(self, row: object, column: str, cell: Any) -> float:
        text = self._text(row, column, cell)
        if text is None or text.casefold() in NO_NUMBER:
            return math.nan
        plain = NUMBER.fullmatch(text) and not isinstance(cell, (bool, np.bool_))
        if plain and "," in text and not self.decimal_commas:
            raise SourceError(f"{self.where(row, column)} {shown(text)} has a comma; write decimals with a point")
        number = float(text.replace(",", ".")) if plain or isinstance(cell, (float, Decimal)) else math.nan
        if not math.isfinite(number):
            raise SourceError(f"{self.where(row, column)} is {shown(text)}, no number; write it such as 45.815")
        return number

    def _refuse_mixed(self, column: str) -> None:
        texts = self.frame[column].astype(str)
        one, other = (texts.index[texts.str.contains(sign, regex=False)] for sign in ",.")
        if len(one) and len(other):
            raise SourceError(
                f"{self.where(one[0], column)} has a decimal comma, and row {other[0]} a point; write all with one"
            )


def shown(text: str, *, quoted: bool = True) -> str:
    """Shorten what is quoted in an error, which stays one line."""
    text = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    return repr(text) if quoted else "".join(sign if sign.isprintable() else " " for sign in text)


def read_table(path: Path) -> Table:
    """Read a CSV or Parquet file.

    A CSV may be separated by commas, semicolons or tabs, with a first line `sep=;` or without, and with decimal commas
    where commas do not separate. It is UTF-8, UTF-16 with or without a byte-order mark, or in a code page of which
    nothing depends on which one it is.

    Raises:
        SourceError: the file is missing, no such table, or may be read in more than one way.
    """
    if not is_file(path):
        kind = "is no file" if exists(path) else "does not exist"
        raise SourceError(f"{path} {kind}; give a Parquet or CSV file")
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1" or path.suffix.lower() in PARQUET
        return _parquet(path) if is_parquet else _csv(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error


def column_names(path: Path) -> list[str]:
    """Read the names of columns alone, in small letters; none where the file is no table."""
    try:
        if path.suffix.lower() in PARQUET:
            names = pq.read_schema(path).names
        else:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
            names = _header(head.decode(_marked(head) or "utf-8", "replace"))[0]
    except Exception:  # the border to hostile bytes, as in `_parquet`
        return []
    return [one_form(name.strip()).casefold() for name in names]


def _parquet(path: Path) -> Table:
    try:
        table = pq.read_table(path)
        table.validate(full=True)  # else a text that is no UTF-8 is found only when it is looked at
        names = _distinct(table.column_names, path)
        frame = table.to_pandas(integer_object_nulls=True, ignore_metadata=True)  # else 3 is 3.0 next to an empty cell
    except SourceError:
        raise
    except Exception as error:  # pyarrow raises anything on hostile bytes; this is its border
        raise _unreadable(path, str(error)) from error
    frame = frame.set_axis(names, axis="columns").set_axis(range(1, len(frame) + 1))
    return Table(path, frame)


def _csv(path: Path) -> Table:
    text = _decoded(path.read_bytes(), path)
    for sign, name in (("\0", "a NUL"), ("\ufeff", "a byte-order mark")):
        if sign in text:
            raise _unreadable(path, f"line {_line(text, text.index(sign))} holds {name}; the file may be damaged")
    try:
        header, separator, first = _header(text, path)
        rows = _rows(text, separator, first)
        cells = {row: line for row, _, line in _checked(rows, len(header), path) if any(map(str.strip, line))}
    except csv.Error as error:
        raise _unreadable(path, f"{error}; look for a quote that is never closed") from error
    names = _distinct(header, path)
    frame = pd.DataFrame(list(cells.values()), index=list(cells), columns=range(len(header)), dtype=object)
    frame = frame.set_axis(names, axis="columns")
    return Table(path, frame.loc[:, [name != "" for name in names]], decimal_commas=separator != ",")


def _header(text: str, path: Path | None = None) -> tuple[list[str], str, int]:
    """Return the header, what separates its cells, and how many rows go before what lies below it."""
    if marked := SEPARATOR_LINE.match(text):
        return _first(text, marked[1], 1), marked[1], 2
    headers = {separator: _tried(text, separator) for separator in SEPARATORS}
    if not any(headers.values()):
        _first(text, SEPARATORS[0], 0)  # raises where a quote is never closed
    several = [separator for separator, header in headers.items() if len(header) > 1]
    if len(several) > 1:
        fitting = [separator for separator in several if _fits(text, separator, len(headers[separator]))]
        if len(fitting) != 1 and path is not None:
            signs = " or ".join({",": "commas", ";": "semicolons", "\t": "tabs"}[sign] for sign in several)
            raise _unreadable(path, f"its cells may be separated by {signs}; write sep=; or sep=, as its first line")
        several = fitting or several
    separator = several[0] if several else ","
    if path is not None and not any(map(str.strip, headers[separator])):
        raise _unreadable(path, "it is empty" if not text.strip() else "its first row names no column")
    return headers[separator], separator, 1


def _tried(text: str, separator: str) -> list[str]:
    try:
        return _first(text, separator, 0)
    except csv.Error:  # a quote ends before what separates, if this does not
        return []


def _fits(text: str, separator: str, width: int) -> bool:
    try:
        return all(len(row) in (0, width) for *_, row in _rows(text, separator, 1))
    except csv.Error:
        return False


def _first(text: str, separator: str, skipped: int) -> list[str]:
    return next((row for *_, row in _rows(text[:HEAD_BYTES], separator, skipped)), [])


def _rows(text: str, separator: str, skipped: int) -> Iterator[tuple[int, int, list[str]]]:
    """Return number, last line and cells of each row that is not skipped."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    for number, row in enumerate(reader, start=1):
        if number > skipped:
            yield number, reader.line_num, row


def _checked(
    rows: Iterable[tuple[int, int, list[str]]], width: int, path: Path
) -> Iterator[tuple[int, int, list[str]]]:
    for number, line, row in rows:
        if row and len(row) != width:
            kind = "more" if len(row) > width else "fewer"
            raise _unreadable(
                path,
                f"it has rows with {kind} cells than its header; quote a cell that holds a comma, and write decimals"
                f" with a point (line {line} has {len(row)}, the header {width})",
            )
        yield number, line, row


def _distinct(names: Sequence[str], path: Path) -> list[str]:
    """Strip names of columns, and refuse two that people take for one."""
    cleaned = [one_form(str(name).strip()) for name in names]
    seen: dict[str, str] = {}
    for name in filter(None, cleaned):
        if (other := seen.setdefault(name.casefold(), name)) is not name or cleaned.count(name) > 1:
            if other == name:
                raise SourceError(f"{path} has the column {shown(name)} twice; keep one of them, or rename one")
            raise SourceError(
                f"{path} has the columns {shown(other)} and {shown(name)}, which differ in capitals alone; keep one"
            )
    return cleaned


def _decoded(data: bytes, path: Path) -> str:
    for sign, what in OTHERS.items():
        if data.startswith(sign):
            raise _unreadable(path, what)
    encoding = _marked(data)
    try:
        return data.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise _unreadable(path, f"it is no {encoding.upper()} ({error.reason}); {AS_UTF_8}") from error
        return _in_code_page(data, error.start, path)


def _marked(data: bytes) -> str | None:
    """Detect an encoding by the mark at its beginning, or by the NULs of UTF-16 between plain letters."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            return encoding
    if len(data) >= 4 and bool(data[0]) != bool(data[1]) and bool(data[2]) != bool(data[3]):
        return "utf-16-le" if data[0] else "utf-16-be"
    return None


def _in_code_page(data: bytes, wrong: int, path: Path) -> str:
    """Read a text that is no UTF-8, where all code pages of Europe agree on it."""
    readings = set()
    for page in CODE_PAGES:
        try:
            readings.add(data.decode(page))
        except UnicodeDecodeError:
            readings.add("")
    if len(readings) == 1 and not UTF_8_PAIR.search(data):
        return readings.pop()
    line = data.count(b"\n", 0, wrong) + 1
    raise _unreadable(
        path, f"it is not UTF-8 (byte 0x{data[wrong]:02x} in line {line}), and which code page it is in cannot be seen;"
        f" {AS_UTF_8}"
    )  # fmt: skip


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _unreadable(path: Path, why: str) -> SourceError:
    return SourceError(f"{path} cannot be read as a table: {' '.join(why.split())[:300]}")
