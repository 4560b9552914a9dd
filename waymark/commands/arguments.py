"""Checks of the arguments of a command, before anything heavy is imported."""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from waymark.errors import ModelError, ParameterError
from waymark.inference.bundle import is_exported
from waymark.inference.lookup import check_reference
from waymark.system.terminal import printable

LONGEST_NAME = 200  # characters of a landmark's name


class Outputs(NamedTuple):
    """Outputs of `waymark guess` in addition to, or in place of, text."""

    as_json: bool = False
    geojson: Path | None = None
    html: Path | None = None
    draw: Path | None = None

    @property
    def files(self) -> list[Path]:
        """Return the files to write."""
        return [path for path in (self.geojson, self.html, self.draw) if path is not None and str(path) != "-"]


def check_models(references: Sequence[str]) -> None:
    """Check that models exist; an empty sequence means the champions.

    Raises:
        ModelError: there is no such model.
    """
    for reference in references or (None,):
        check_reference(reference)


def check_files(paths: Iterable[Path], remedy: str = "") -> None:
    """Check that files can be read.

    Args:
        paths: of the files.
        remedy: what to do about a folder.

    Raises:
        ParameterError: a file does not exist, is a folder or a device, or cannot be read.
    """
    for path in paths:
        if not path.exists():
            raise ParameterError(f"{path} does not exist; check the name and the current folder")
        if path.is_dir():
            raise ParameterError(f"{path} is a folder; " + (remedy.format(path) if remedy else "name a file in it"))
        if not path.is_file():
            raise ParameterError(f"{path} is not a regular file; copy its content to one")
        if not os.access(path, os.R_OK):
            raise ParameterError(f"{path} is not readable; check its permissions")


def check_outputs(paths: Iterable[Path]) -> None:
    """Check that files can be written.

    Raises:
        ParameterError: the path is a folder or a device, or its folder is not writable.
    """
    for path in paths:
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if path.is_dir() or (path.exists() and not path.is_file()):
            raise ParameterError(f"{path} is not a file that can be written; choose another name")
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise ParameterError(f"{path} cannot be written: {parent} is not a writable folder; choose another name")


def check_export(file: Path) -> None:
    """Refuse to overwrite anything but an exported model.

    Raises:
        ModelError: the file exists and is something else.
    """
    if file.is_dir() or (file.exists() and not (file.is_file() and is_exported(file))):
        raise ModelError(f"{file} exists and is not an exported model; choose another name")
    check_outputs([file])


def check_guess(
    images: Sequence[Path], references: Sequence[str], headings: str | None, out: Outputs, *, each: bool
) -> None:
    """Check the arguments of `waymark guess`.

    Raises:
        ModelError: there is no such model.
        ParameterError: an image or an option is invalid, or options exclude each other.
    """
    check_files(images, "name its pictures, or use waymark predict {} --out FILE")
    if each and headings is not None:
        raise ParameterError(
            "--each is for single photos, and --headings for views of one place; leave out one of them"
        )
    if headings is not None:
        parse_headings(headings, len(images))
    if out.draw is not None and each and len(images) > 1:
        raise ParameterError("--draw writes one picture; ask for one place at a time")
    if out.as_json and str(out.geojson) == "-":
        raise ParameterError("--json and --geojson - both write to stdout; name a file for --geojson")
    originals = {image.resolve() for image in images}
    for path in out.files:
        if path.resolve() in originals:
            raise ParameterError(f"{path} is one of the images; write to another file")
    if out.draw is not None:
        from PIL import Image  # here, because most calls draw nothing

        if out.draw.suffix.lower() not in Image.registered_extensions():
            raise ParameterError(f"{out.draw}: {out.draw.suffix!r} is not a picture format; write a .jpg or .png")
    check_outputs(out.files)
    check_models(references)


def parse_headings(headings: str, images: int) -> tuple[float, ...]:
    """Parse the heading of each image in degrees.

    Raises:
        ParameterError: headings are not numbers, too few or too many.
    """
    try:
        angles = tuple(float(part) for part in headings.split(","))
    except ValueError:
        raise ParameterError(f"--headings {headings} are not numbers; write degrees such as 0,90,180,270") from None
    if not all(map(math.isfinite, angles)):
        raise ParameterError(f"--headings {headings} are not angles; write degrees such as 0,90,180,270")
    if len(angles) != images:
        raise ParameterError(f"--headings names {len(angles)} for {images} images; write one for each")
    return angles


def check_predict(folder: Path, out: Path, references: Sequence[str]) -> None:
    """Check the arguments of `waymark predict`.

    Raises:
        ModelError: there is no such model.
        ParameterError: the folder does not exist, or the table cannot be written.
    """
    if not folder.is_dir():
        raise ParameterError(f"{folder} is not a folder; for single pictures use waymark guess")
    check_outputs([out])
    check_models(references)


def check_source(path: Path, out: Path) -> None:
    """Check the arguments of `waymark check`.

    Raises:
        ParameterError: the source does not exist, or the page cannot be written.
    """
    if not path.is_dir():
        check_files([path])
    check_outputs([out])


def check_teach(name: str, images: Sequence[Path], reference: str | None, out: Path, landmark: str | None) -> None:
    """Check the arguments of `waymark teach`.

    Raises:
        ModelError: there is no such model, or `out` exists and is not a model.
        ParameterError: the name or the id is invalid, or an image is missing or a duplicate.
    """
    check_name("the name", name)
    if landmark is not None:
        check_name("--id", landmark)
    check_files(images)
    if len({image.resolve() for image in images}) < len(images):
        raise ParameterError("an image is named twice; leave one of them out")
    check_export(out)
    check_reference(reference)


def check_name(what: str, name: str) -> None:
    """Check the name of a landmark.

    Raises:
        ParameterError: it is empty, begins or ends with a space, is too long, or holds control characters.
    """
    if not name.strip():
        raise ParameterError(f"{what} is empty; name the landmark")
    if len(name) > LONGEST_NAME:
        raise ParameterError(f"{what} has {len(name)} characters; use at most {LONGEST_NAME}")
    if name != name.strip() or printable(name) != name:
        raise ParameterError(f"{what} {name!r} contains invisible characters; remove them")
