"""The tables of the dataset, read column by column: the largest have millions of rows."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from waymark.errors import SourceError
from waymark.sources.gldv2.layout import COLUMNS

BLOCK_BYTES = 64 * 2**20  # a row must fit into a block: the largest class of train_clean.csv has 100 kB of ids
ID = "^[0-9a-f]{16}$"

LABELS = pa.schema([pa.field("id", pa.string()), pa.field("landmarks", pa.list_(pa.string()))])
ATTRIBUTIONS = pa.schema([(name, pa.string()) for name in ("id", "author", "licence", "source_url")])


def read_columns(path: Path, kind: str) -> Iterator[pa.RecordBatch]:
    """Read the columns of a table as text, block by block.

    Args:
        path: the file.
        kind: which table it is, a key of `layout.COLUMNS`.

    Raises:
        SourceError: it is no such table.
    """
    names = COLUMNS[kind]
    try:
        with csv.open_csv(
            path,
            read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=csv.ParseOptions(newlines_in_values=True),  # titles and authors are people's own texts
            convert_options=csv.ConvertOptions(
                include_columns=list(names),
                column_types={name: pa.string() for name in names},
                strings_can_be_null=False,
            ),
        ) as reader:
            yield from reader
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{path} is no table with columns {', '.join(names)} ({reason}); delete it") from error


def read_labels(path: Path, kind: str) -> pa.Table:
    """Read images with one landmark each, or, of a solution, with none or several.

    Args:
        path: of train.csv, index_image_to_landmark.csv or recognition_solution_v2.1.csv.
        kind: which of them it is.

    Returns:
        A table of `LABELS`.
    """
    batches = list(read_columns(path, kind))
    ids, labels = (pa.chunked_array([batch.column(number) for batch in batches], pa.string()) for number in (0, 1))
    return _labels(ids, _words(labels), path)


def read_ids(path: Path, kind: str) -> pa.Table:
    """Read images of which no landmark is told, as a table of `LABELS`."""
    ids = pa.chunked_array([batch.column(0) for batch in read_columns(path, kind)], pa.string())
    return _labels(ids, _words(pa.chunked_array([pa.nulls(len(ids), pa.string())])), path)


def read_clean(path: Path) -> pa.Table:
    """Read train_clean.csv, which lists the images of each landmark, as a table of `LABELS`."""
    ids, labels = [], []
    for batch in read_columns(path, "metadata/train_clean.csv"):
        images = _words(pa.chunked_array([batch.column(1)])).combine_chunks()
        ids.append(images.flatten())
        labels.append(batch.column(0).take(pc.list_parent_indices(images)))
    return _labels(pa.chunked_array(ids, pa.string()), _words(pa.chunked_array(labels, pa.string())), path)


def _words(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Take texts apart at their spaces; an empty one has no word."""
    trimmed = pc.utf8_trim_whitespace(pc.fill_null(texts, ""))
    words = pc.utf8_split_whitespace(trimmed)
    empty = pa.scalar([], pa.list_(pa.string()))
    return pc.if_else(pc.equal(trimmed, ""), empty, words)


def _labels(ids: pa.ChunkedArray, landmarks: pa.ChunkedArray, path: Path) -> pa.Table:
    table = pa.Table.from_arrays([ids, landmarks], schema=LABELS)
    if not table.num_rows:
        raise SourceError(f"{path} lists no image; delete it, and it is downloaded again")
    right = pc.match_substring_regex(ids, ID)
    if not pc.all(right).as_py():
        wrong = ids.filter(pc.invert(right))[0].as_py()
        raise SourceError(f"{path} lists {wrong!r}, which is no id of 16 hex digits; delete it and download it again")
    return table


def read_attributions(path: Path, wanted: pa.ChunkedArray) -> pa.Table:
    """Read author, licence and page of the wanted images, as a table of `ATTRIBUTIONS`.

    Args:
        path: of train_attribution.csv.
        wanted: ids.
    """
    values = wanted.combine_chunks()
    parts = [ATTRIBUTIONS.empty_table()]
    for batch in read_columns(path, "metadata/train_attribution.csv"):
        kept = pa.Table.from_batches([batch.filter(pc.is_in(batch.column("id"), value_set=values))])
        columns = [kept["id"], *(_or_null(kept[name]) for name in ("author", "license", "url"))]
        parts.append(pa.Table.from_arrays(columns, schema=ATTRIBUTIONS))
    return pa.concat_tables(parts)


def _or_null(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def read_names(path: Path, kind: str) -> dict[str, str]:
    """Read the readable name of each landmark from the address of its category."""
    names = {}
    for batch in read_columns(path, kind):
        for landmark, category in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
            if name := category_name(category):
                names[landmark] = name
    return names


def category_name(url: str) -> str:
    """Make a name of the address of a category on Wikimedia Commons.

    >>> category_name("http://commons.wikimedia.org/wiki/Category:Stari_Most_%28Mostar%29")
    'Stari Most (Mostar)'
    """
    name = url.strip().rsplit("/wiki/", 1)[-1].removeprefix("Category:")
    return unquote(name).replace("_", " ").strip()
