"""What can be wrong with the arguments of a command, found before anything heavy is imported."""

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
    """What `waymark guess` writes besides, or instead of, the words."""

    as_json: bool = False
    geojson: Path | None = None
    html: Path | None = None
    draw: Path | None = None

    @property
    def files(self) -> list[Path]:
        """The files to write."""
        return [path for path in (self.geojson, self.html, self.draw) if path is not None and str(path) != "-"]


def check_models(references: Sequence[str]) -> None:
    """Check that models can be found; none stands for the champions.

    Raises:
        ModelError: there is no such model.
    """
    for reference in references or (None,):
        check_reference(reference)


def check_files(paths: Iterable[Path], remedy: str = "") -> None:
    """Check that files can be read.

    Args:
        paths: of the files.
        remedy: what to do with a folder instead.

    Raises:
        ParameterError: a file does not exist, is a folder or a device, or belongs to others.
    """
    for path in paths:
        if not path.exists():
            raise ParameterError(f"{path} does not exist; check the name, or the folder that you are in")
        if path.is_dir():
            raise ParameterError(f"{path} is a folder; " + (remedy.format(path) if remedy else "name a file in it"))
        if not path.is_file():
            raise ParameterError(f"{path} is no regular file; copy what it gives to one")
        if not os.access(path, os.R_OK):
            raise ParameterError(f"{path} may not be read; ask its owner, or copy it")


def check_outputs(paths: Iterable[Path]) -> None:
    """Check that files can be written.

    Raises:
        ParameterError: there is a folder, a device or nothing that could hold it.
    """
    for path in paths:
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if path.is_dir() or (path.exists() and not path.is_file()):
            raise ParameterError(f"{path} is no file that could be written; give another name")
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise ParameterError(f"{path} cannot be written, for {parent} is no folder of yours; give another name")


def check_export(file: Path) -> None:
    """Refuse to write over anything but an exported model.

    Raises:
        ModelError: the file exists and is none.
    """
    if file.is_dir() or (file.exists() and not (file.is_file() and is_exported(file))):
        raise ModelError(f"{file} exists and is no exported model; give another name")
    check_outputs([file])


def check_guess(
    images: Sequence[Path], references: Sequence[str], headings: str | None, out: Outputs, *, each: bool
) -> None:
    """Check the arguments of `waymark guess`.

    Raises:
        ModelError: there is no such model.
        ParameterError: an image or an option cannot be used, or they do not go together.
    """
    check_files(images, "name its pictures, or use waymark predict {} --out FILE")
    if each and headings is not None:
        raise ParameterError("--each takes single photos, which have no use for --headings; leave out one of them")
    if headings is not None:
        parse_headings(headings, len(images))
    if out.draw is not None and each and len(images) > 1:
        raise ParameterError("--draw writes one picture; ask for one place at a time")
    if out.as_json and str(out.geojson) == "-":
        raise ParameterError("--json and --geojson - both write to stdout; give --geojson a file")
    originals = {image.resolve() for image in images}
    for path in out.files:
        if path.resolve() in originals:
            raise ParameterError(f"{path} is one of the images, which are never changed; write to another file")
    if out.draw is not None:
        from PIL import Image  # late, for most people draw nothing

        if out.draw.suffix.lower() not in Image.registered_extensions():
            raise ParameterError(f"{out.draw}: no picture format is called {out.draw.suffix!r}; write a .jpg or .png")
    check_outputs(out.files)
    check_models(references)


def parse_headings(headings: str, images: int) -> tuple[float, ...]:
    """Read the heading of each image in degrees.

    Raises:
        ParameterError: headings that are no numbers, too few or too many.
    """
    try:
        angles = tuple(float(part) for part in headings.split(","))
    except ValueError:
        raise ParameterError(f"--headings {headings} are no numbers; write degrees such as 0,90,180,270") from None
    if not all(map(math.isfinite, angles)):
        raise ParameterError(f"--headings {headings} are no angles; write degrees such as 0,90,180,270")
    if len(angles) != images:
        raise ParameterError(f"--headings names {len(angles)} for {images} images; give one for each")
    return angles


def check_predict(folder: Path, out: Path, references: Sequence[str]) -> None:
    """Check the arguments of `waymark predict`.

    Raises:
        ModelError: there is no such model.
        ParameterError: the folder is none, or the table cannot be written.
    """
    if not folder.is_dir():
        raise ParameterError(f"{folder} is no folder; for single pictures use waymark guess")
    check_outputs([out])
    check_models(references)


def check_source(path: Path, out: Path) -> None:
    """Check the arguments of `waymark check`.

    Raises:
        ParameterError: there is nothing to look at, or the page cannot be written.
    """
    if not path.is_dir():
        check_files([path])
    check_outputs([out])


def check_teach(name: str, images: Sequence[Path], reference: str | None, out: Path, landmark: str | None) -> None:
    """Check the arguments of `waymark teach`.

    Raises:
        ModelError: there is no such model, or `out` exists and is none.
        ParameterError: the name or the id cannot be one, or an image is missing or given twice.
    """
    check_name("the name", name)
    if landmark is not None:
        check_name("--id", landmark)
    check_files(images)
    if len({image.resolve() for image in images}) < len(images):
        raise ParameterError("an image is given twice; leave one of them out")
    check_export(out)
    check_reference(reference)


def check_name(what: str, name: str) -> None:
    """Check the name of a landmark.

    Raises:
        ParameterError: it is empty, begins or ends with a space, is too long, or holds control characters.
    """
    if not name.strip():
        raise ParameterError(f"{what} is empty; say what people call the landmark")
    if len(name) > LONGEST_NAME:
        raise ParameterError(f"{what} has {len(name)} characters; give at most {LONGEST_NAME}")
    if name != name.strip() or printable(name) != name:
        raise ParameterError(f"{what} {name!r} holds characters that nobody sees; write it without them")
