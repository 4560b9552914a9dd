"""Errors that a caller can act on: each says what, which value, and the remedy."""

from collections.abc import Iterable
from difflib import get_close_matches

MOST_LISTED = 20  # names in a message


class WaymarkError(Exception):
    """Base of every error that bad input or a bad environment causes."""


class ParameterError(WaymarkError):
    """A parameter is unknown, of the wrong type, or out of its range."""


class ChangedError(WaymarkError):
    """Something changed while it was in use."""


class SourceError(WaymarkError):
    """A source of records is missing, unreadable or without its columns."""


class RegionError(WaymarkError):
    """A region is unknown, empty or not a polygon."""


class CoordinateError(WaymarkError):
    """Coordinates are outside what they are used for, or swapped."""


class GridError(WaymarkError):
    """A grid cannot be built with the spacing or number of cells requested."""


class SplitError(WaymarkError):
    """A split cannot be made from these records."""


class ImageError(WaymarkError):
    """Pictures cannot be decoded, or too many of them."""


class ModelError(WaymarkError):
    """A model cannot be built, loaded, or trained on these data."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Suggest which known name was probably meant.

    >>> nearest_name("resnet81", ["resnet18", "vgg16"])
    "did you mean 'resnet18'?"
    >>> nearest_name("zzz", ["resnet18", "vgg16"])
    'known: resnet18, vgg16'
    >>> nearest_name("zzz", map(str, range(1000, 2000)))[-18:]
    '1019, and 980 more'
    """
    known = sorted(known)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    more = [f"and {len(known) - MOST_LISTED} more"] if len(known) > MOST_LISTED else []
    return "known: " + ", ".join([*known[:MOST_LISTED], *more])
