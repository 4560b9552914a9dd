"""Fetch the records and their pictures from a source."""

import hashlib
import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tasks.outputs import file_digest, whole_folder, write_json
from tasks.stage import STRICT, Stage
from waymark.errors import SourceError
from waymark.records import landmarks_table, write_table
from waymark.sources import Fetched, Source, SyntheticSource, TableSource

logger = logging.getLogger(__name__)

RAW = Path("data/raw")


@dataclass(frozen=True, config=STRICT)
class Synthetic:
    """Section `download.synthetic`: how much the generator makes.

    Args:
        places: number of places, four views each.
        landmarks: number of landmarks, with a long tail of pictures.
        seed: another seed is another country's worth of pictures.
    """

    places: Annotated[int, Field(gt=0)] = 3000
    landmarks: Annotated[int, Field(ge=0)] = 24
    seed: int = 1


@dataclass(frozen=True, config=STRICT)
class Table:
    """Section `download.table`.

    Args:
        file: name of the table in the folder `download.path`, where that holds several.
    """

    file: str | None = None


@dataclass(frozen=True, config=STRICT)
class Download:
    """Section `download` of params.yaml.

    Args:
        source: where records come from.
        path: the user's folder or file, for sources that read one.
        synthetic: how much the bundled generator makes.
        table: how a table is read.
    """

    source: Literal["synthetic", "table"]
    path: str
    synthetic: Synthetic = Field(default_factory=Synthetic)
    table: Table = Field(default_factory=Table)


def _check(settings: Download) -> None:
    if settings.source == "table" and not Path(settings.path).exists():
        raise SourceError(
            f"{settings.path} does not exist; set download.path to a table or to the folder that holds it"
        )


STAGE = Stage("download", Download, check=_check)


def download(settings: Download) -> None:
    """Fetch the records and their pictures from a source."""
    with whole_folder(RAW) as folder:
        fetched = choose_source(settings).fetch(folder)
        landmarks = landmarks_table(fetched.records, fetched.landmark_names)
        write_table(fetched.records, folder / "records.parquet")
        write_table(landmarks, folder / "landmarks.parquet")
        write_json(_describe(fetched, folder, landmarks.num_rows), folder / "source.json")
    logger.info("%s: %d records, %d landmarks", settings.source, fetched.records.num_rows, landmarks.num_rows)


def choose_source(settings: Download) -> Source:
    """Build the source that the settings name."""
    if settings.source == "table":
        return TableSource(Path(settings.path), file=settings.table.file)
    made = settings.synthetic
    return SyntheticSource(places=made.places, landmarks=made.landmarks, seed=made.seed)


def _describe(fetched: Fetched, folder: Path, landmarks: int) -> dict[str, object]:
    pictures = sorted(path for path in (folder / "images").rglob("*") if path.is_file())
    checksum = hashlib.sha256()
    for path in pictures:
        checksum.update(f"{path.relative_to(folder)} {file_digest(path)}\n".encode())
    counts = {"records": fetched.records.num_rows, "pictures": len(pictures), "landmarks": landmarks}
    checksums = {
        "records.parquet": file_digest(folder / "records.parquet"),
        "images": checksum.hexdigest(),
    }
    return {**fetched.origin, "counts": counts, "checksums": checksums}


if __name__ == "__main__":
    STAGE.main(download)
