"""The source `gldv2`: tables first, then tar by tar download, check and extraction, then records."""

import asyncio
import errno
import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import Annotated, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from waymark.errors import SourceError
from waymark.images.tars import shard_name
from waymark.options.kinds import FewOrNone, Seconds
from waymark.options.named import STRICT
from waymark.sources.adapter import Fetched, SourceOptions
from waymark.sources.gldv2 import layout
from waymark.sources.gldv2.checks import columns_check, md5_check, take_table
from waymark.sources.gldv2.choice import Choice, Estimate, estimate
from waymark.sources.gldv2.extracting import FORMAT, Extracted, extract, finished
from waymark.sources.gldv2.fetching import Remote
from waymark.sources.gldv2.layout import Split
from waymark.sources.gldv2.listing import list_pictures, list_records
from waymark.sources.gldv2.metadata import (
    ATTRIBUTIONS,
    read_attributions,
    read_clean,
    read_ids,
    read_labels,
    read_names,
)

logger = logging.getLogger(__name__)

ALL_OF_TRAIN: dict[Split, tuple[int, ...] | None] = {"train": None}
OF_INDEX = "index-"  # its landmarks have other ids than those of train

Labels = dict[Split, pa.Table]  # tables of metadata.LABELS


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Gldv2(Choice, SourceOptions):
    """Options of the source `gldv2`: which images of train are wanted (of test and index all are), and how they come.

    Args:
        tars: numbers of the tars of each split (train, index, test), null for all of it; a split that is not named is
            not fetched.
        base_url: address below which the files of the dataset lie.
        at_once: how many tars are downloaded at the same time.
        keep_tars: whether the tars and tables stay in .work, for another choice.
        timeout_s: longest silence of the server.
        retries: how many attempts in a row may bring nothing new.
    """

    name: ClassVar[str] = "gldv2"

    tars: dict[Split, tuple[FewOrNone, ...] | None] = Field(default_factory=lambda: dict(ALL_OF_TRAIN))
    base_url: Annotated[
        str, Field(pattern=r"^https?://[^\s/]+", max_length=2048, description="an address, https://...")
    ] = layout.BASE_URL
    at_once: Annotated[int, Field(ge=1, le=64)] = 4
    keep_tars: bool = False
    timeout_s: Seconds = 60.0
    retries: FewOrNone = 8

    @field_validator("tars")
    @classmethod
    def _there(cls, tars: layout.Tars) -> layout.Tars:
        if not tars:
            raise ValueError("must name at least one split, such as train: [0, 1] or train: null for all")
        for split, numbers in tars.items():
            if numbers is not None and not len(numbers) == len(set(numbers)) > 0:
                raise ValueError(f"{split} must name each tar once, or be null for all")
            if numbers is not None and max(numbers) >= layout.SIZES[split].tars:
                raise ValueError(f"{split} has tars 0 to {layout.SIZES[split].tars - 1}")
        return tars

    def build(self, path: Path, *, work: Path, mirrored: Path | None = None) -> "Gldv2Source":
        """Build the source, which reads nothing of the user's.

        Its part of the work folder depends on the address alone, not on code and settings: files are checked before
        use, and hundreds of GB are not downloaded again because a line of code changed.
        """
        address = hashlib.sha256(self.base_url.encode()).hexdigest()[:16]
        return Gldv2Source(work=work / f"gldv2-{address}", **self.given())


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Gldv2Source(Gldv2):
    """Google Landmarks Dataset v2 (Weyand et al., CVPR 2020), one record for each image.

    Args:
        work: folder for what must survive an interruption; it belongs to one `base_url`.
    """

    work: Path

    def preview(self) -> Estimate:
        """Estimate how much the choice means, from the tables of the training labels alone.

        Raises:
            SourceError: the server gives no such table, or no image is wanted.
        """
        return asyncio.run(self._preview())

    def fetch(self, folder: Path) -> Fetched:
        """Download what is not yet at hand and list it.

        Raises:
            SourceError: the server does not give what it should, the disk is full, or no image is wanted.
        """
        try:
            return asyncio.run(self._fetch(folder))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise SourceError(f"the disk is full; make room ({self.work} keeps what came), or choose less") from error

    def tidy(self) -> None:
        """Remove what only an interruption would have needed."""
        shutil.rmtree(self.work / "extracted" if self.keep_tars else self.work, ignore_errors=True)

    def _remote(self) -> Remote:
        return Remote(self.base_url, self.work, timeout_s=self.timeout_s, retries=self.retries)

    async def _preview(self) -> Estimate:
        async with self._remote() as remote:
            return self._estimate(await self._train(remote) if "train" in self.tars else None)

    def _estimate(self, train: pa.Table | None) -> Estimate:
        images = {split: layout.SIZES[split].images for split in self.tars}
        landmarks = 0
        if train is not None:
            images["train"] = train.num_rows
            landmarks = len(pc.unique(pc.list_flatten(train["landmarks"])))
        return estimate(images, landmarks, self.tars)

    async def _fetch(self, folder: Path) -> Fetched:
        async with self._remote() as remote:
            labels = await self._labels(remote)
            logger.info("gldv2: %s", self._estimate(labels.get("train")))
            attributions = ATTRIBUTIONS.empty_table()
            if "train" in labels:
                table = await take_table(remote, layout.ATTRIBUTION)
                attributions = read_attributions(table, labels["train"]["id"])
            parts = await self._tars(remote, labels)
            records = list_records(list_pictures(parts), labels, attributions)
            if not records.num_rows:
                raise SourceError("none of the wanted images is in these tars; name others in download.gldv2.tars")
            names = await _names(remote, labels, records)
        _give([piece for _, part in parts for piece in part.pieces], folder / "images")
        return Fetched(records, names, _origin(self.base_url, records), self._counts(parts, labels, records))

    async def _labels(self, remote: Remote) -> Labels:
        labels: Labels = {}
        if "train" in self.tars:
            labels["train"] = await self._train(remote)
        if "index" in self.tars:
            labels["index"] = await _index(remote)
        if "test" in self.tars:
            labels["test"] = read_labels(await take_table(remote, layout.SOLUTION), layout.SOLUTION)
        return labels

    async def _train(self, remote: Remote) -> pa.Table:
        if self.subset == "clean":
            return self.choose(read_clean(await take_table(remote, layout.TRAIN_CLEAN)))
        return self.choose(read_labels(await take_table(remote, layout.TRAIN), layout.TRAIN))

    async def _tars(self, remote: Remote, labels: Labels) -> list[tuple[Split, Extracted]]:
        """Download, check and extract every tar that is not finished, several at once."""
        wanted = {split: table["id"].combine_chunks() for split, table in labels.items()}
        folders = {split: self.work / "extracted" / f"{split}-{_key(ids)}" for split, ids in wanted.items()}
        stems = {(split, number): folders[split] / f"{number:03d}" for split, number in layout.tar_numbers(self.tars)}
        waiting = [job for job, stem in stems.items() if finished(stem) is None]
        jobs = iter(waiting)
        with tqdm(
            total=len(stems), initial=len(stems) - len(waiting), unit="tar", desc="gldv2", disable=None
        ) as progress:

            async def work() -> None:
                for split, number in jobs:  # shared with the others
                    await self._tar(remote, split, number, wanted[split], stems[split, number])
                    progress.update()

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.at_once):
                        group.create_task(work())
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
        return [(split, part) for (split, _), stem in stems.items() if (part := finished(stem)) is not None]

    async def _tar(self, remote: Remote, split: Split, number: int, wanted: pa.Array, stem: Path) -> None:
        path = layout.tar_path(split, number)
        check = md5_check(remote, layout.md5_path(split, number))
        archive = await remote.file(path, check, self_checking=True)
        stem.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(extract, archive, wanted, stem)
        if not self.keep_tars:
            archive.unlink()
        logger.info("gldv2: %s is extracted", path)

    def _counts(self, parts: list[tuple[Split, Extracted]], labels: Labels, records: pa.Table) -> dict[str, int]:
        found = sum(part.pictures.num_rows for _, part in parts)
        whole = all(numbers is None for numbers in self.tars.values())
        missing = sum(table.num_rows for table in labels.values()) - records.num_rows if whole else 0
        if missing:
            logger.warning("gldv2: %d images that the tables list are in no tar", missing)
        return {
            "pictures": records.num_rows,
            "tars": len(parts),
            "missing": missing,
            "duplicates": found - records.num_rows,
            "refused_members": sum(part.refused for _, part in parts),
        }


def _key(ids: pa.Array) -> str:
    """Name what is wanted: an extraction goes on only where it would come out the same."""
    digest = hashlib.sha256(f"{FORMAT}\n".encode())
    digest.update("\n".join(sorted(ids.to_pylist())).encode())
    return digest.hexdigest()[:16]


async def _index(remote: Remote) -> pa.Table:
    """Read the index, whose landmarks stand in a table that a mirror may lack."""
    kind = layout.INDEX_LANDMARKS
    if (path := await remote.optional(kind, columns_check(kind))) is None:
        logger.warning("gldv2: %s has no %s; the index stays without landmarks", remote.base_url, kind)
        return read_ids(await take_table(remote, layout.INDEX), layout.INDEX)
    labels = read_labels(path, kind)
    landmarks = labels["landmarks"].combine_chunks()
    named = pc.binary_join_element_wise(OF_INDEX, landmarks.flatten(), "")
    lists = pa.ListArray.from_arrays(landmarks.offsets, named)
    return labels.set_column(1, labels.schema.field(1), lists)


async def _names(remote: Remote, labels: Labels, records: pa.Table) -> dict[str, str]:
    """Read the names of the landmarks: from the categories, and where they lack one from the hierarchy."""
    names: dict[str, str] = {}
    landmarks = set(pc.unique(pc.list_flatten(records["landmarks"])).to_pylist())
    for split, prefix in (("train", ""), ("index", OF_INDEX)):
        wanted = {landmark for landmark in landmarks if landmark.startswith(OF_INDEX) == bool(prefix)}
        for kind in (layout.CATEGORIES.format(split=split), layout.HIERARCHY.format(split=split)):
            if wanted - names.keys() and (path := await remote.optional(kind, columns_check(kind))) is not None:
                names = {prefix + landmark: name for landmark, name in read_names(path, kind).items()} | names
    return {landmark: names[landmark] for landmark in sorted(landmarks & names.keys())}


def _origin(base_url: str, records: pa.Table) -> dict[str, object]:
    counted = pc.value_counts(pc.fill_null(records["licence"], "unknown")).to_pylist()
    licences = {
        row["values"]: row["counts"] for row in sorted(counted, key=lambda row: (-row["counts"], row["values"]))
    }
    return {
        "name": "gldv2",
        "description": f"{records.num_rows} images of Google Landmarks Dataset v2 (Weyand et al., CVPR 2020)",
        "url": base_url,
        "licence": "labels CC BY 4.0 (Google); each image its own, as its record says",
        "licences": licences,
    }


def _give(pieces: list[Path], folder: Path) -> None:
    """Link finished tars under their second name, or copy them where the disk cannot."""
    folder.mkdir()
    for number, piece in enumerate(pieces):
        try:
            os.link(piece, folder / shard_name(number))
        except OSError:
            shutil.copyfile(piece, folder / shard_name(number))
