"""Read untrusted model files: their content is validated before it is used.

The result is the content of the file or a `ModelError`, in time and memory bounded by its size.
"""

import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from waymark.errors import ModelError

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST_DOCUMENT = 10_000_000  # bytes of JSON
LONGEST_TEXT = 4096  # characters of a name
LONGEST_REASON = 500
SMALL, AMPLE = 1 << 30, 64  # bytes of memory for a table: 1 GiB, or 64 times its file
ROWS = 4096  # of a table, read at once

T = TypeVar("T")


class Config(TypedDict):
    """Type of the `__pydantic_config__` of a dataclass."""

    extra: str
    allow_inf_nan: bool
    str_max_length: int


CLOSED = Config(extra="forbid", allow_inf_nan=False, str_max_length=LONGEST_TEXT)


def regular_file(path: Path) -> Path:
    """Return the path if it is a regular file; a device or a pipe could be endless.

    Raises:
        ModelError: it is not a regular file, or not accessible.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # the latter for a NUL in the name
        raise ModelError(f"{path} cannot be read ({getattr(error, 'strerror', error)}); give another model") from None
    if not stat.S_ISREG(mode):
        raise ModelError(f"{path} is no regular file; give an exported file, a checkpoint or the folder of one")
    return path


def read_document(path: Path, kind: type[T]) -> T:
    """Read a JSON file as a dataclass, or another type that pydantic supports.

    Raises:
        ModelError: the file is too long, not JSON, or has other content.
    """
    with regular_file(path).open("rb") as file:
        return parse_document(file.read(LONGEST_DOCUMENT + 1), kind, str(path))


def parse_document(text: bytes, kind: type[T], name: str) -> T:
    """Read JSON as a dataclass, or another type that pydantic supports; `name` is for messages.

    Raises:
        ModelError: the text is too long, not JSON, or has other content.
    """
    if len(text) > LONGEST_DOCUMENT:
        raise ModelError(f"{name} has more than {LONGEST_DOCUMENT:,} bytes, and is not what Waymark wrote")
    return _validated("validate_json", text, kind, name)


def checked(content: Any, kind: type[T], name: str) -> T:
    """Validate plain values as a dataclass, or another type that pydantic supports; `name` is for messages.

    Raises:
        ModelError: they are invalid.
    """
    return _validated("validate_python", content, kind, name)


def _validated(how: str, content: Any, kind: type[T], name: str) -> T:
    from pydantic import TypeAdapter, ValidationError  # here, because a command with wrong arguments does not need it

    try:
        found: T = getattr(TypeAdapter(kind), how)(content, strict=False)
        return found
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:100]
        raise ModelError(
            f"{name} is not what Waymark wrote ({where}{': ' * bool(where)}{first['msg'][:LONGEST_REASON]})"
        ) from None


def read_table(path: Path, schema: "pa.Schema | None" = None) -> "pa.Table":
    """Read a Parquet file, which may expand to far more than its size.

    Args:
        path: the file.
        schema: names and types of the columns that it must have; None for any.

    Raises:
        ModelError: it is not such a table, or would need far more memory than its size.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    allowed = max(SMALL, AMPLE * regular_file(path).stat().st_size)
    try:
        whole = pq.ParquetFile(path).schema_arrow
        wanted = whole if schema is None else schema
        for column in wanted:
            if column.name not in whole.names:
                raise ModelError(f"{path} has no column {column.name}")
            if pa.types.is_nested(column.type) and column.type != whole.field(column.name).type:
                raise ModelError(f"{path}: {column.name} is {whole.field(column.name).type}, not {column.type}")
        texts = [column.name for column in whole if pa.types.is_binary(column.type) or pa.types.is_string(column.type)]
        file = pq.ParquetFile(path, read_dictionary=texts)  # a repeated text is in memory once
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        if sum(max(group.total_byte_size, 0) for group in groups) > allowed:
            raise ModelError(f"{path} would need more than {allowed / 1e9:.1f} GB of memory")
        batches, taken = [], 0
        for batch in file.iter_batches(ROWS, columns=wanted.names):
            batches.append(batch)
            taken += sum(_bytes_of(column) for column in batch.columns)
            if taken > allowed:
                raise ModelError(f"{path} would need more than {allowed / 1e9:.1f} GB of memory")
        read = pa.schema([file.schema_arrow.field(name) for name in wanted.names])
        return pa.Table.from_batches(batches, read).cast(wanted)
    except ModelError:
        raise
    except Exception as error:  # Arrow raises anything on invalid bytes
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} is not a table that Waymark wrote ({type(error).__name__}: {reason})") from error


def _bytes_of(column: "pa.Array") -> int:
    """Compute the size of a column with all repeated texts written out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary)
    if pa.types.is_string(column.type.value_type) and (pc.max(lengths).as_py() or 0) > LONGEST_TEXT:
        raise ModelError(f"a name has more than {LONGEST_TEXT} characters")
    lengths = lengths.take(column.indices.drop_null())
    return 8 * len(column) + int(pc.sum(lengths).as_py() or 0)
