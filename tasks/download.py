"""Fetch the records and their pictures from a source."""

import hashlib
import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from tasks.common.kinds import AtLeastOne, FewOrNone, Made, MadeOrNone, NoneOrMore, PathText, Seconds, Seed
from tasks.common.outputs import file_digest, whole_folder, write_json
from tasks.common.stage import STRICT, WORK, Stage
from waymark.data.records import landmarks_table, write_table
from waymark.errors import SourceError
from waymark.sources import Fetched, Gldv2Source, PhotosSource, QuadsSource, Source, SyntheticSource, TableSource
from waymark.sources.gldv2.choice import Choice
from waymark.sources.gldv2.layout import BASE_URL, SIZES, Split, Subset
from waymark.sources.guessing import check_source
from waymark.sources.paths import Finder, exists
from waymark.sources.quad_folders import find_parts

logger = logging.getLogger(__name__)

RAW = Path("data/raw")
MIRROR = WORK / "mirror"  # in a checkout whose input consists of links: the checkout that they lead to


@dataclass(frozen=True, config=STRICT)
class Synthetic:
    """Section `download.synthetic`: how much to generate.

    Args:
        places: number of places, four views each.
        landmarks: number of landmarks, with a long tail of pictures.
        photos: number of photos of landmarks, of which one in ten shows none.
        seed: another seed gives other pictures.
    """

    places: Made = 3000
    landmarks: MadeOrNone = 24
    photos: MadeOrNone = 400
    seed: Seed = 1


@dataclass(frozen=True, config=STRICT)
class Table:
    """Section `download.table`.

    Args:
        file: name of the table, if the folder `download.path` has several.
    """

    file: PathText | None = None


@dataclass(frozen=True, config=STRICT)
class Quads:
    """Section `download.quads`.

    Args:
        folders: names of the folders in `download.path` that have a `data.csv` each, the first
            first where two know a place; null takes all.
        missing_views: `keep` masks a view that is missing, `drop` drops its place.
    """

    folders: tuple[PathText, ...] | None = None
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
        heading: whether the direction of a photo (GPSImgDirection, true north) is the heading of its view.
    """

    label: Literal["none", "folder"] = "none"
    group: Literal["folder_day", "folder", "none"] = "folder_day"
    heading: bool = False


@dataclass(frozen=True, config=STRICT)
class Gldv2:
    """Section `download.gldv2`: what to download of Google Landmarks Dataset v2, and how.

    Args:
        base_url: address of the folder with the files of the dataset.
        tars: numbers of the tars of each split (train, index, test), null for all of it.
        subset: images of train: `clean`, or `full` including mislabelled ones.
        landmarks: ids of landmarks of train; null for all.
        min_images: landmarks with fewer images in the whole subset are left out.
        largest: number of landmarks, the largest first.
        at_once: number of simultaneous downloads.
        keep_tars: whether tars and tables stay in .work, for another choice.
        timeout_s: longest time without data from the server.
        retries: number of attempts in a row that may make no progress.
    """

    base_url: Annotated[
        str, Field(pattern=r"^https?://[^\s/]+", max_length=2048, description="an address, https://...")
    ] = BASE_URL
    tars: dict[Split, tuple[FewOrNone, ...] | None] = Field(default_factory=lambda: {"train": None})
    subset: Subset = "clean"
    landmarks: tuple[NoneOrMore, ...] | None = None
    min_images: AtLeastOne | None = None
    largest: AtLeastOne | None = None
    at_once: Annotated[int, Field(ge=1, le=64)] = 4
    keep_tars: bool = False
    timeout_s: Seconds = 60.0
    retries: FewOrNone = 8

    @field_validator("tars")
    @classmethod
    def _there(cls, tars: dict[Split, tuple[int, ...] | None]) -> dict[Split, tuple[int, ...] | None]:
        if not tars:
            raise ValueError("must name at least one split, such as train: [0, 1] or train: null for all")
        for split, numbers in tars.items():
            if numbers is not None and not len(numbers) == len(set(numbers)) > 0:
                raise ValueError(f"{split} must name each tar once, or be null for all")
            if numbers is not None and max(numbers) >= SIZES[split].tars:
                raise ValueError(f"{split} has tars 0 to {SIZES[split].tars - 1}")
        return tars

    @field_validator("landmarks")
    @classmethod
    def _some(cls, landmarks: tuple[NoneOrMore, ...] | None) -> tuple[int, ...] | None:
        if landmarks is not None and not landmarks:
            raise ValueError("must name at least one landmark, or be null for all")
        return landmarks


@dataclass(frozen=True, config=STRICT)
class Download:
    """Section `download` of params.yaml.

    Args:
        source: where records come from.
        path: the user's folder or file, for sources that read one.
        synthetic: how much the bundled generator makes.
        table: which table to read.
        quads: folders of quadruplets, and the handling of places that lack a view.
        photos: use of the folders and days of photos.
        gldv2: what to download of Google Landmarks Dataset v2.
    """

    source: Literal["synthetic", "table", "quads", "photos", "gldv2"]
    path: PathText
    synthetic: Synthetic = Field(default_factory=Synthetic)
    table: Table = Field(default_factory=Table)
    quads: Quads = Field(default_factory=Quads)
    photos: Photos = Field(default_factory=Photos)
    gldv2: Gldv2 = Field(default_factory=Gldv2)

    @field_validator("path", mode="before")
    @classmethod
    def _one_path(cls, path: object) -> object:
        if isinstance(path, list):
            raise ValueError(
                "DVC watches one path; put the folders into one folder, and name them in download.quads.folders"
            )
        return path


WANTED = {
    "table": "a table or to its folder",
    "quads": "the folder that holds data.csv and images/<uuid>/, or to a folder of such folders",
    "photos": "the folder of your photos",
}


def _check(settings: Download) -> None:
    if settings.path.startswith("~"):
        raise SourceError(
            f"download.path {settings.path} begins with ~, which DVC does not expand; write"
            f" {Path.home() / settings.path.removeprefix('~').lstrip('/')}"
        )
    if settings.source in WANTED and not exists(Path(settings.path)):
        if exists(Finder(Path(Path(settings.path).anchor)).find(settings.path.strip("/"))):
            raise SourceError(f"{settings.path} has another Unicode form on the disk; rename it to this one")
        raise SourceError(f"{settings.path} does not exist; set download.path to {WANTED[settings.source]}")
    if settings.source == "quads":
        find_parts(Path(settings.path), settings.quads.folders)
    if settings.source in ("photos", "quads"):
        check_source(Path(settings.path), settings.source)


STAGE = Stage("download", Download, check=_check)


def download(settings: Download) -> None:
    """Fetch the records and their pictures from a source."""
    source = choose_source(settings)
    with whole_folder(RAW) as folder:
        fetched = source.fetch(folder)
        landmarks = landmarks_table(fetched.records, fetched.landmark_names)
        write_table(fetched.records, folder / "records.parquet")
        write_table(landmarks, folder / "landmarks.parquet")
        write_json(_describe(fetched, folder, landmarks.num_rows), folder / "source.json")
    if isinstance(source, Gldv2Source):
        source.tidy()
    logger.info("%s: %d records, %d landmarks", settings.source, fetched.records.num_rows, landmarks.num_rows)


def choose_source(settings: Download) -> Source:
    """Build the source that the settings name."""
    path = Path(settings.path)
    mirrored = Path(MIRROR.read_text(), path) if MIRROR.exists() and not path.is_absolute() else None
    if settings.source == "table":
        return TableSource(path, settings.table.file, mirrored)
    if settings.source == "quads":
        return QuadsSource(path, settings.quads.folders, settings.quads.missing_views, mirrored)
    if settings.source == "photos":
        photos = settings.photos
        return PhotosSource(path, photos.label, photos.group, photos.heading, mirrored)
    if settings.source == "gldv2":
        return gldv2_source(settings.gldv2)
    made = settings.synthetic
    return SyntheticSource(places=made.places, landmarks=made.landmarks, photos=made.photos, seed=made.seed)


def gldv2_source(settings: Gldv2) -> Gldv2Source:
    """Build the source that downloads.

    Its work folder depends on the address only, not on code and settings as in `work_folder`: files
    are checked before use, and hundreds of GB are not downloaded again because a line of code changed.
    """
    return Gldv2Source(
        work=WORK / "download" / f"gldv2-{hashlib.sha256(settings.base_url.encode()).hexdigest()[:16]}",
        tars=settings.tars,
        choice=Choice(settings.subset, settings.landmarks, settings.min_images, settings.largest),
        base_url=settings.base_url,
        at_once=settings.at_once,
        keep_tars=settings.keep_tars,
        timeout_s=settings.timeout_s,
        retries=settings.retries,
    )


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
