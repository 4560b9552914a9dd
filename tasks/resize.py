"""Decode every picture once, to squares of one size in memory-mapped shards."""

import logging
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from tasks.common.outputs import link_or_copy, whole_folder, work_folder
from tasks.common.stage import STRICT, Stage
from waymark.data.records import read_records, write_table
from waymark.errors import ImageError
from waymark.images.decode import Fit, Picture
from waymark.images.resizing import channel_figures, perceptual_hash, read_pictures
from waymark.images.shards import INDEX_SCHEMA, shard_name, shard_rows, write_shard
from waymark.options.kinds import Fraction, Pixels, SizePx

logger = logging.getLogger(__name__)

RAW = Path("data/raw")
RECORDS = Path("data/filtered/records.parquet")
SHARDS = Path("data/shards")
QUARANTINE_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        ("view", pa.int32()),
        ("path", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True, config=STRICT)
class Resize:
    """Section `resize` of params.yaml.

    Args:
        size_px: side of the squares.
        fit: crop uses the largest centred square of a picture, stretch scales all of it to the square.
        max_pixels: width times height beyond which a picture counts as giant.
        max_quarantined: largest share of undecodable pictures before the stage fails.
    """

    size_px: SizePx
    max_pixels: Pixels
    max_quarantined: Fraction
    fit: Fit = "crop"


STAGE = Stage("resize", Resize)

View = dict[str, Any]  # record_id, view, path


def resize(settings: Resize) -> None:
    """Decode every picture once, to squares of one size in memory-mapped shards."""
    views = list(_views(read_records(RECORDS)))
    work = work_folder("resize", {**asdict(settings), "max_quarantined": None}, [RECORDS, RAW / "source.json"])
    rows = shard_rows(settings.size_px)
    parts = [views[start : start + rows] for start in range(0, len(views), rows)]
    waiting = [shard for shard in range(len(parts)) if not _finished(work, shard)]
    paths = [RAW / view["path"] for shard in waiting for view in parts[shard]]
    pictures = read_pictures(paths, settings.size_px, max_pixels=settings.max_pixels, fit=settings.fit)
    done = len(views) - len(paths)
    with tqdm(total=len(views), initial=done, unit="picture", desc="resize", disable=None) as progress:
        for shard in waiting:
            seen = _counted(islice(pictures, len(parts[shard])), progress)
            _write_part(parts[shard], shard, seen, settings.size_px, work)
    _publish(work, len(parts), settings)
    shutil.rmtree(work)


def _views(records: pa.Table) -> Iterator[View]:
    for record in records.select(["record_id", "views"]).to_pylist():
        for view, where in enumerate(record["views"]):
            yield {"record_id": record["record_id"], "view": view, "path": where["path"]}


def _finished(work: Path, shard: int) -> bool:
    """Check for the part of the index: it is renamed into place last, and marks the shard as finished."""
    return (work / f"index-{shard:05d}.parquet").exists()


def _counted(pictures: Iterable[Picture], progress: "tqdm[Any]") -> Iterator[Picture]:
    """Pass pictures on and count them."""
    for picture in pictures:
        progress.update()
        yield picture


def _write_part(part: list[View], shard: int, pictures: Iterable[Picture], size_px: int, work: Path) -> None:
    kept, index, quarantine = [], [], []
    for view, picture in zip(part, pictures, strict=True):
        index.append(_index_row(view, picture, shard, len(kept)))
        if picture.pixels is not None:
            kept.append(picture.pixels)
        else:
            quarantine.append({**view, "status": picture.status, "reason": picture.reason})
    if kept:
        write_shard(kept, size_px, work / shard_name(shard))
    write_table(pa.Table.from_pylist(quarantine, QUARANTINE_SCHEMA), work / f"quarantine-{shard:05d}.parquet")
    marker = work / f"index-{shard:05d}.parquet"
    write_table(pa.Table.from_pylist(index, INDEX_SCHEMA), marker.with_suffix(".new"))
    marker.with_suffix(".new").rename(marker)


def _index_row(view: View, picture: Picture, shard: int, row: int) -> dict[str, Any]:
    where = {"record_id": view["record_id"], "view": view["view"], "status": picture.status}
    if picture.pixels is None:
        return where
    figures = channel_figures(picture.pixels)
    return {**where, "shard": shard, "row": row, "perceptual_hash": perceptual_hash(picture.pixels), **figures}


def _publish(work: Path, shards: int, settings: Resize) -> None:
    index = pa.concat_tables([pq.read_table(work / f"index-{n:05d}.parquet") for n in range(shards)])
    quarantine = pa.concat_tables([pq.read_table(work / f"quarantine-{n:05d}.parquet") for n in range(shards)])
    share = quarantine.num_rows / index.num_rows
    if share > settings.max_quarantined:
        first = quarantine.slice(0, 1).to_pylist()[0]
        raise ImageError(
            f"{quarantine.num_rows} of {index.num_rows} pictures cannot be decoded, such as {first['path']}"
            f" ({first['reason']}); fix them or raise resize.max_quarantined above {share:.4f}"
        )
    with whole_folder(SHARDS) as folder:
        for path in sorted(work.glob("shard-*.arrow")):
            link_or_copy(path, folder / path.name)
        about = {"size_px": str(settings.size_px), "fit": settings.fit}
        write_table(index.replace_schema_metadata(about), folder / "index.parquet")
        write_table(quarantine, folder / "quarantine.parquet")
    logger.info("resized %d pictures, %d quarantined", index.num_rows - quarantine.num_rows, quarantine.num_rows)


if __name__ == "__main__":
    STAGE.main(resize)
