"""Fetch the records and their pictures from a source."""

import hashlib
import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from tasks.outputs import file_digest, whole_folder, write_json
from tasks.stage import STRICT, Stage
from waymark.errors import SourceError
from waymark.records import landmarks_table, write_table
from waymark.sources import Fetched, PhotosSource, QuadsSource, Source, SyntheticSource, TableSource
from waymark.sources.quad_folders import find_parts

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
class Quads:
    """Section `download.quads`.

    Args:
        folders: names of the folders in `download.path` that hold a `data.csv` each, the first
            first where two know a place; null takes all.
        missing_views: `keep` masks a view that is missing, `drop` drops its place.
    """

    folders: tuple[str, ...] | None = None
    missing_views: Literal["keep", "drop"] = "keep"

    @field_validator("folders")
    @classmethod
    def _some(cls, folders: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if folders is not None and len(set(folders)) != max(1, len(folders)):
            raise ValueError("must name each folder once, or be null for all")
        return folders


@dataclass(frozen=True, config=STRICT)
class Photos:
    """Section `download.photos`.

    Args:
        label: `folder` makes the name of a photo's folder its landmark.
        group: what is never split apart: the photos of one folder and day, of one folder, or nothing.
        heading: whether a photo's direction (GPSImgDirection, true north) becomes its view's heading.
    """

    label: Literal["none", "folder"] = "none"
    group: Literal["folder_day", "folder", "none"] = "folder_day"
    heading: bool = False


@dataclass(frozen=True, config=STRICT)
class Download:
    """Section `download` of params.yaml.

    Args:
        source: where records come from.
        path: the user's folder or file, for sources that read one.
        synthetic: how much the bundled generator makes.
        table: how a table is read.
        quads: which folders of quadruplets are read, and what becomes of places that lack a view.
        photos: what becomes of the folders and days of photos.
    """

    source: Literal["synthetic", "table", "quads", "photos"]
    path: str
    synthetic: Synthetic = Field(default_factory=Synthetic)
    table: Table = Field(default_factory=Table)
    quads: Quads = Field(default_factory=Quads)
    photos: Photos = Field(default_factory=Photos)

    @field_validator("path", mode="before")
    @classmethod
    def _one_path(cls, path: object) -> object:
        if isinstance(path, list):
            raise ValueError(
                "DVC watches one path; put the folders into one folder, and name them in download.quads.folders"
            )
        return path


WANTED = {
    "table": "a table or to the folder that holds it",
    "quads": "the folder that holds data.csv and images/<uuid>/, or to a folder of such folders",
    "photos": "the folder of your photos",
}


def _check(settings: Download) -> None:
    if settings.source in WANTED and not Path(settings.path).exists():
        raise SourceError(f"{settings.path} does not exist; set download.path to {WANTED[settings.source]}")
    if settings.source == "quads":
        find_parts(Path(settings.path), settings.quads.folders)


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
    path = Path(settings.path)
    if settings.source == "table":
        return TableSource(path, file=settings.table.file)
    if settings.source == "quads":
        return QuadsSource(path, folders=settings.quads.folders, missing_views=settings.quads.missing_views)
    if settings.source == "photos":
        photos = settings.photos
        return PhotosSource(path, label=photos.label, group=photos.group, heading=photos.heading)
    made = settings.synthetic
    return SyntheticSource(places=made.places, landmarks=made.landmarks, seed=made.seed)


def _describe(fetched: Fetched, folder: Path, landmarks: int) -> dict[str, object]:
    pictures = sorted(path for path in (folder / "images").rglob("*") if path.is_file())
    checksum = hashlib.sha256()
    for path in pictures:
        checksum.update(f"{path.relative_to(folder)} {file_digest(path)}\n".encode())
    counts = {"records": fetched.records.num_rows, "pictures": len(pictures), "landmarks": landmarks, **fetched.counts}
    checksums = {
        "records.parquet": file_digest(folder / "records.parquet"),
        "images": checksum.hexdigest(),
    }
    return {**fetched.origin, "counts": counts, "checksums": checksums}


if __name__ == "__main__":
    STAGE.main(download)
