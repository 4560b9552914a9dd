"""Fetch the records and their pictures from a source."""

import dataclasses
import hashlib
import logging
from pathlib import Path
from typing import Literal

from pydantic import field_validator
from pydantic.dataclasses import dataclass

from tasks.common.outputs import file_digest, whole_folder, write_json
from tasks.common.stage import STRICT, WORK, Stage
from waymark.data.records import landmarks_table, write_table
from waymark.errors import SourceError
from waymark.options.kinds import PathText
from waymark.sources import Fetched, Source, SourceOptions, known_sources
from waymark.sources.paths import Finder, exists

logger = logging.getLogger(__name__)

RAW = Path("data/raw")
MIRROR = WORK / "mirror"  # in a checkout whose input consists of links: the checkout that they lead to


Sections = dataclasses.make_dataclass(
    "Sections",
    [(name, options, dataclasses.field(default_factory=options)) for name, options in known_sources().items()],
    frozen=True,
    kw_only=True,
)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Download(Sections):  # type: ignore[valid-type,misc]
    """Section `download` of params.yaml; the options of each source stand in a section of their own.

    Args:
        source: where records come from.
        path: the user's folder or file, for sources that read one.
    """

    source: Literal[tuple(known_sources())]  # type: ignore[valid-type]
    path: PathText

    @field_validator("path", mode="before")
    @classmethod
    def _one_path(cls, path: object) -> object:
        if isinstance(path, list):
            raise ValueError(
                "DVC watches one path; put the folders into one folder, and name them in download.quads.folders"
            )
        return path

    @property
    def options(self) -> SourceOptions:
        """The section of the source that is chosen."""
        options: SourceOptions = getattr(self, self.source)
        return options


def _check(settings: Download) -> None:
    if settings.path.startswith("~"):
        raise SourceError(
            f"download.path {settings.path} begins with ~, which DVC does not expand; write"
            f" {Path.home() / settings.path.removeprefix('~').lstrip('/')}"
        )
    options, path = settings.options, Path(settings.path)
    if options.reads is None:
        return
    if not exists(path):
        if exists(Finder(Path(path.anchor)).find(settings.path.strip("/"))):
            raise SourceError(f"{path} has another Unicode form on the disk; rename it to this one")
        raise SourceError(f"{path} does not exist; set download.path to {options.reads}")
    options.check(path)


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
    source.tidy()
    logger.info("%s: %d records, %d landmarks", settings.source, fetched.records.num_rows, landmarks.num_rows)


def choose_source(settings: Download) -> Source:
    """Build the source that the settings name."""
    path = Path(settings.path)
    mirrored = Path(MIRROR.read_text(), path) if MIRROR.exists() and not path.is_absolute() else None
    return settings.options.build(path, work=WORK / "download", mirrored=mirrored)


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
