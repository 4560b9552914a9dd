"""From a tar of the dataset to the wanted pictures in it, safely: nothing is unpacked by the name it bears."""

import io
import logging
import re
import tarfile
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from waymark.data.records import write_table
from waymark.errors import SourceError
from waymark.images.decode import upright_dimensions
from waymark.images.tars import NO_TAR, TarWriter

logger = logging.getLogger(__name__)

FORMAT = 1  # of what is written here: raise it, and tars are extracted anew
MEMBER = re.compile(r"(?:\./)?([0-9a-f])/([0-9a-f])/([0-9a-f])/(\1\2\3[0-9a-f]{13})\.jpg")
EXTRACTED = pa.schema([("id", pa.string()), ("piece", pa.int32()), ("width", pa.int32()), ("height", pa.int32())])


class Extracted(NamedTuple):
    """The wanted pictures of one tar.

    Attributes:
        pictures: a table of `EXTRACTED`, in the order of the tar; `piece` counts its pieces.
        pieces: tars of bounded length with the pictures.
        refused: number of members that are no picture of the dataset: links, devices, other names.
    """

    pictures: pa.Table
    pieces: list[Path]
    refused: int


def extract(archive: Path, wanted: pa.Array, stem: Path) -> None:
    """Write the wanted pictures of a tar into tars of bounded length.

    The marker that `finished` looks for is renamed into place last.

    Args:
        archive: a tar whose content is known to be right.
        wanted: ids of pictures.
        stem: path of what is written, without suffix.

    Raises:
        SourceError: the file is no tar.
    """
    rows: dict[str, list[object]] = {name: [] for name in EXTRACTED.names}
    try:
        with tarfile.open(archive, "r:") as opened, TarWriter(stem) as writer:
            members, refused = _pictures(opened)
            for name in _chosen(members, wanted):
                data = opened.extractfile(members[name]).read()  # type: ignore[union-attr]  # a regular file
                width, height = upright_dimensions(io.BytesIO(data)) or (None, None)
                row = (name, writer.add(f"{name}.jpg", data), width, height)
                for column, value in zip(rows.values(), row, strict=True):
                    column.append(value)
    except NO_TAR as error:
        raise SourceError(f"{archive} has the right MD5 but is no tar ({error}); ask who serves it") from error
    table = pa.table(rows, EXTRACTED).replace_schema_metadata({"refused": str(refused)})
    unfinished = stem.with_suffix(".new")
    write_table(table, unfinished)
    unfinished.rename(_marker(stem))


def finished(stem: Path) -> Extracted | None:
    """Return what an extraction wrote; None where it did not come to its end."""
    if not (marker := _marker(stem)).exists():
        return None
    table = pq.read_table(marker)
    pieces = 1 + (pc.max(table["piece"]).as_py() if table.num_rows else -1)
    paths = [stem.with_name(f"{stem.name}-{piece:02d}.tar") for piece in range(pieces)]
    return Extracted(table, paths, int(table.schema.metadata[b"refused"]))


def _marker(stem: Path) -> Path:
    return stem.with_suffix(".parquet")


def _pictures(opened: tarfile.TarFile) -> tuple[dict[str, tarfile.TarInfo], int]:
    """List the pictures of a tar by id, and count what else is in it."""
    members: dict[str, tarfile.TarInfo] = {}
    refused = 0
    for member in opened:
        match = MEMBER.fullmatch(member.name)
        plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
        if match and plain:
            members.setdefault(match[4], member)
        elif not member.isdir():
            logger.warning("%s: %r is no picture of the dataset and is left out", opened.name, member.name)
            refused += 1
    return members, refused


def _chosen(members: dict[str, tarfile.TarInfo], wanted: pa.Array) -> list[str]:
    names = pa.array(list(members), pa.string())
    chosen: list[str] = names.filter(pc.is_in(names, value_set=wanted)).to_pylist()
    return chosen
