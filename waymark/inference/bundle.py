"""A model as one file: checkpoint, calibration and what is known of them, in a zip that runs no code.

The parts are stored, not compressed, so that the file is no larger unpacked, and each is held
against its digest. The same model gives the same bytes.
"""

import errno
import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

from waymark.errors import ModelError
from waymark.system.untrusted import CLOSED, LONGEST_DOCUMENT, checked, parse_document, regular_file

FORMAT = 1
MANIFEST = "waymark.json"
CHECKPOINT = "model.ckpt"
ATTRIBUTION = "attribution.csv"
PART = re.compile(r"model\.ckpt|attribution\.csv|calibration/[a-z][a-z0-9_]*\.(json|parquet)")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip can say

FULL = (errno.ENOSPC, errno.EDQUOT)  # of OSError, when the disk holds no more

Figures = dict[str, dict[str, float | int | bool | str | None]]


@dataclass(frozen=True)
class Stamp:
    """What an exported file of any format says of itself."""

    format: int


@dataclass(frozen=True)
class Manifest:
    """What an exported file says of itself.

    Args:
        format: of the file.
        name: what people call the model.
        waymark: version that wrote it, None where that is unknown.
        digest: sha256 over those of its parts.
        files: sha256 of each part, by its name.
        metrics: figures on val and test, as far as they are known.
    """

    __pydantic_config__: ClassVar[Any] = CLOSED

    format: int
    name: str
    waymark: str | None
    digest: str
    files: dict[str, str]
    metrics: Figures


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies.

    Args:
        name: what people call it.
        checkpoint: of its locator.
        calibration: folder of its calibration.
        metrics: figures on val and test, as far as they are known.
        attribution: authors and licences of the pictures that it was trained on, where they are kept.
    """

    name: str
    checkpoint: Path
    calibration: Path
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    attribution: Path | None = None


def export_model(files: ModelFiles, destination: Path) -> Manifest:
    """Write a model as one file, which must not exist.

    Raises:
        ModelError: its name or its figures are such that nobody could read them again.
    """
    parts = dict(_parts(files))
    digests = {name: _digest(path) for name, path in parts.items()}
    digest = hashlib.sha256("".join(digests.values()).encode()).hexdigest()
    metrics = {split: dict(figures) for split, figures in files.metrics.items()}
    manifest = Manifest(FORMAT, files.name, _version(), digest, digests, metrics)
    checked(asdict(manifest), Manifest, f"what is known of {files.name}")
    with zipfile.ZipFile(destination, "x", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(MANIFEST, EPOCH), json.dumps(asdict(manifest), indent=2) + "\n")
        for name, path in parts.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.file_size = path.stat().st_size  # or zipfile refuses more than 2 GiB
            with path.open("rb") as source, archive.open(info, "w") as part:
                shutil.copyfileobj(source, part, 1 << 20)
    return manifest


def _parts(files: ModelFiles) -> Iterator[tuple[str, Path]]:
    yield CHECKPOINT, files.checkpoint
    for path in sorted(files.calibration.iterdir()):
        if PART.fullmatch(name := f"calibration/{path.name}"):
            yield name, path
    if files.attribution is not None:
        yield ATTRIBUTION, files.attribution


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version() -> str | None:
    try:
        return version("waymark")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return None


def is_exported(path: Path) -> bool:
    """Check whether a file was exported; a checkpoint is a zip, too.

    Raises:
        ModelError: it is no regular file.
    """
    try:
        with zipfile.ZipFile(regular_file(path)) as archive:
            return MANIFEST in archive.namelist()
    except ModelError:
        raise
    except Exception:  # zipfile raises anything on a file that is none
        return False


def unpack_exported(path: Path, folder: Path) -> ModelFiles:
    """Unpack an exported file.

    Args:
        path: the file.
        folder: an empty folder.

    Raises:
        ModelError: it holds something else than a model, or its parts are not what was exported.
    """
    try:
        with zipfile.ZipFile(regular_file(path)) as archive:
            manifest = _read_manifest(archive, path)
            _check_parts(archive, manifest.files, path)
            (folder / "calibration").mkdir()
            for name, digest in manifest.files.items():
                with archive.open(name) as part, (folder / name).open("wb") as written:
                    shutil.copyfileobj(part, written, 1 << 20)
                if _digest(folder / name) != digest:
                    raise ModelError(f"{path}: {name} is not what was exported; copy the file again")
    except (ModelError, FileNotFoundError):
        raise
    except OSError as error:
        if error.errno in FULL:
            raise
        raise ModelError(f"{path} is damaged ({error}); copy the file again") from error
    except Exception as error:  # zipfile raises anything on bytes that are no zip
        raise ModelError(f"{path} is damaged ({type(error).__name__}: {error}); copy the file again") from error
    attribution = folder / ATTRIBUTION if ATTRIBUTION in manifest.files else None
    return ModelFiles(manifest.name, folder / CHECKPOINT, folder / "calibration", manifest.metrics, attribution)


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> Manifest:
    with archive.open(MANIFEST) as part:
        text = part.read(LONGEST_DOCUMENT + 1)
    try:
        stamp = parse_document(text, Stamp, MANIFEST)
        if stamp.format == FORMAT:
            return parse_document(text, Manifest, MANIFEST)
    except ModelError as error:
        raise ModelError(f"{path} is no exported model ({error}); write one with waymark export") from error
    raise ModelError(f"{path} is of format {stamp.format}, not {FORMAT}; export the model again")


def _check_parts(archive: zipfile.ZipFile, digests: Mapping[str, str], path: Path) -> None:
    """Refuse whatever an export would not have written: other names, a name twice, packed or overlapping parts."""
    parts = archive.infolist()
    names = [info.filename for info in parts]
    if sorted(names) != sorted([MANIFEST, *digests]) or not all(map(PART.fullmatch, digests)):
        raise ModelError(f"{path} holds other files than an exported model; write it again with waymark export")
    packed = any(info.compress_type != zipfile.ZIP_STORED for info in parts)
    if CHECKPOINT not in digests or packed or sum(info.file_size for info in parts) > path.stat().st_size:
        raise ModelError(f"{path} was not written by waymark export; write it again")
