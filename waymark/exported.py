"""A model as one file: checkpoint, calibration and what is known of them, in a zip that runs no code.

The parts are stored, not compressed, so that the file is no larger unpacked, and each is held
against its digest. The same model gives the same bytes.
"""

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from waymark.errors import ModelError

FORMAT = 1
MANIFEST = "waymark.json"
CHECKPOINT = "model.ckpt"
ATTRIBUTION = "attribution.csv"
PART = re.compile(r"model\.ckpt|attribution\.csv|calibration/[a-z][a-z0-9_]*\.(json|parquet)")
LONGEST_MANIFEST = 1_000_000  # bytes
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip can say

Figures = Mapping[str, Mapping[str, Any]]


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
    metrics: Figures = field(default_factory=dict)
    attribution: Path | None = None


def export_model(files: ModelFiles, destination: Path) -> dict[str, Any]:
    """Write a model as one file, which must not exist.

    Returns:
        The manifest: format, name, version of waymark, digests and metrics.
    """
    parts = dict(_parts(files))
    digests = {name: _digest(path) for name, path in parts.items()}
    manifest = {
        "format": FORMAT,
        "name": files.name,
        "waymark": _version(),
        "digest": hashlib.sha256("".join(digests.values()).encode()).hexdigest(),
        "files": digests,
        "metrics": files.metrics,
    }
    with zipfile.ZipFile(destination, "x", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(MANIFEST, EPOCH), json.dumps(manifest, indent=2) + "\n")
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
    """Tell an exported file from any other; a checkpoint is a zip, too."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return MANIFEST in archive.namelist()


def unpack_exported(path: Path, folder: Path) -> ModelFiles:
    """Unpack an exported file.

    Args:
        path: the file.
        folder: an empty folder.

    Raises:
        ModelError: it holds something else than a model, or its parts are not what was exported.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _read_manifest(archive, path)
            _check_parts(archive, manifest["files"], path)
            (folder / "calibration").mkdir()
            for name, digest in manifest["files"].items():
                with archive.open(name) as part, (folder / name).open("wb") as written:
                    shutil.copyfileobj(part, written, 1 << 20)
                if _digest(folder / name) != digest:
                    raise ModelError(f"{path}: {name} is not what was exported; copy the file again")
    except zipfile.BadZipFile as error:
        raise ModelError(f"{path} is damaged ({error}); copy the file again") from error
    attribution = folder / ATTRIBUTION if ATTRIBUTION in manifest["files"] else None
    return ModelFiles(manifest["name"], folder / CHECKPOINT, folder / "calibration", manifest["metrics"], attribution)


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        with archive.open(MANIFEST) as part:
            manifest = json.loads(part.read(LONGEST_MANIFEST))
        kinds = {"name": str, "files": dict, "metrics": dict}
        if manifest["format"] != FORMAT:
            raise ModelError(f"{path} is of format {manifest['format']}, not {FORMAT}; export the model again")
        if not all(isinstance(manifest[name], kind) for name, kind in kinds.items()):
            raise TypeError("a field of another type")
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is no exported model ({error}); write one with waymark export") from error
    return dict(manifest)


def _check_parts(archive: zipfile.ZipFile, digests: Mapping[str, str], path: Path) -> None:
    """Refuse whatever an export would not have written: other names, a name twice, packed parts."""
    names = [info.filename for info in archive.infolist()]
    if sorted(names) != sorted([MANIFEST, *digests]) or not all(map(PART.fullmatch, digests)):
        raise ModelError(f"{path} holds other files than an exported model; write it again with waymark export")
    if CHECKPOINT not in digests or any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
        raise ModelError(f"{path} was not written by waymark export; write it again")
