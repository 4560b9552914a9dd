"""Facts of a photo from its EXIF: place, direction, time and author."""

import contextlib
import math
import re
import warnings
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from PIL import ExifTags, Image

from waymark.images.decode import exif_of, open_picture, upright_size

GPS, BASE = ExifTags.GPS, ExifTags.Base
TIMES = (  # when the picture was taken or, if it was scanned, when that was done; each with its offset
    (BASE.DateTimeOriginal, BASE.OffsetTimeOriginal),
    (BASE.DateTimeDigitized, BASE.OffsetTimeDigitized),
)
TIME = re.compile(r"(\d{4})[:/.-](\d\d)[:/.-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
OFFSET = re.compile(r"[+-](0\d|1[0-4]):[0-5]\d")
LONGEST = 300  # characters of a text that are kept
TRUE_NORTH = "T"

Tags = Mapping[int, Any]


class PhotoFacts(NamedTuple):
    """Facts of a photo; None if EXIF has nothing."""

    dimensions: tuple[int, int] | None = None  # upright width and height
    latitude: float | None = None  # degrees; NaN if the value is not an angle
    longitude: float | None = None
    heading_deg: float | None = None  # clockwise from true north
    captured_at: str | None = None  # ISO 8601, local, with its offset from UTC if known
    author: str | None = None
    copyright: str | None = None


def read_facts(path: Path) -> PhotoFacts:
    """Read the facts of a photo, without decoding any pixel.

    Never raises for faults of the file: a part that cannot be read counts as absent. Coordinates are returned as
    written: `filter` reports 0, 0 and numbers beyond the Earth. Those of another
    datum than WGS84 (GPSMapDatum, some hundred metres) are not converted.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_picture(path) as image:
                exif = exif_of(image)
                dimensions = upright_size(image, exif)
                gps, details = (_directory(exif, kind) for kind in (ExifTags.IFD.GPSInfo, ExifTags.IFD.Exif))
                author, copyright_ = (_text(exif.get(tag)) for tag in (BASE.Artist, BASE.Copyright))
    except Exception:  # Pillow raises anything on hostile bytes, which ends here
        return PhotoFacts()
    return PhotoFacts(
        dimensions,
        angle_deg(gps.get(GPS.GPSLatitude), gps.get(GPS.GPSLatitudeRef), "NS"),
        angle_deg(gps.get(GPS.GPSLongitude), gps.get(GPS.GPSLongitudeRef), "EW"),
        _heading_deg(gps),
        _captured_at(details),
        author,
        copyright_,
    )


def _directory(exif: Image.Exif, kind: int) -> Tags:
    try:
        return dict(exif.get_ifd(kind))
    except Exception:  # likewise: a broken directory does not affect the others
        return {}


def angle_deg(value: Any, reference: Any, directions: str) -> float | None:
    """Convert degrees, minutes and seconds as written in EXIF to signed degrees.

    Seconds, or minutes and seconds, may be left out or be 0/0.

    Args:
        value: one to three numbers.
        reference: side of the equator or of Greenwich.
        directions: letters of the positive and of the negative side.

    Returns:
        Degrees; None if nothing is written (a receiver without a fix writes 0/0), NaN if it is not an angle: a text, a
        missing side, 75 minutes.

    >>> angle_deg((16.0, 26.0, 24.0), "W", "EW")
    -16.44
    """
    if value is None:
        return None
    try:
        parts = [float(part) for part in (value if isinstance(value, tuple) else (value,))]
    except (TypeError, ValueError):
        return math.nan
    while parts and math.isnan(parts[-1]):
        parts.pop()
    if not parts:
        return None
    side = (_text(reference) or "?")[0].upper()
    regular = all(part >= 0 for part in parts) and all(part <= 60 for part in parts[1:])
    if not regular or len(parts) > 3 or side not in directions:
        return math.nan
    degrees = sum((part / 60.0**power for power, part in enumerate(parts)), 0.0)
    return round(-degrees if side == directions[1] else degrees, 9) + 0.0  # no negative zero


def _heading_deg(gps: Tags) -> float | None:
    """Return the direction of the view, unless it is magnetic: the declination can exceed 20 degrees."""
    if (_text(gps.get(GPS.GPSImgDirectionRef)) or "?")[0].upper() != TRUE_NORTH:
        return None
    try:
        heading_deg = float(gps[GPS.GPSImgDirection])
    except (KeyError, TypeError, ValueError):
        return None
    return round(heading_deg % 360, 6) if 0 <= heading_deg <= 360 else None


def _captured_at(details: Tags) -> str | None:
    for tag, offset_tag in TIMES:
        found = TIME.match(_text(details.get(tag)) or "")
        if found is None:
            continue
        try:
            moment = datetime(*map(int, found.groups()))  # type: ignore[arg-type]  # six numbers, no time zone
        except ValueError:  # 0000:00:00, from clocks that were never set
            continue
        offset = _text(details.get(offset_tag)) or ""
        return moment.isoformat() + (offset if OFFSET.fullmatch(offset) else "")
    return None


def _text(value: Any) -> str | None:
    """Return the printable part of a text; EXIF specifies ASCII and cameras write UTF-8."""
    if not isinstance(value, str):
        return None
    with contextlib.suppress(UnicodeError):
        value = value.encode("latin-1").decode()
    printed = "".join(letter if letter.isprintable() else " " for letter in value)
    return " ".join(printed.split())[:LONGEST] or None
