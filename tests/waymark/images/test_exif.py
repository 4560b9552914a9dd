"""EXIF written here byte by byte, so that nothing but the standard stands between it and the reader."""

import io
import math
import struct
import zlib
from fractions import Fraction

import pillow_heif
import pytest
from PIL import Image

from waymark.images.decode import exif_of, upright_dimensions
from waymark.images.exif import PhotoFacts, angle_deg, read_facts

ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 2, 3, 4, 5, 7
ORIENTATION, ARTIST, COPYRIGHT, EXIF_IFD, GPS_IFD = 0x0112, 0x013B, 0x8298, 0x8769, 0x8825
ORIGINAL, DIGITIZED, OFFSET_ORIGINAL = 0x9003, 0x9004, 0x9011
LATITUDE_REF, LATITUDE, LONGITUDE_REF, LONGITUDE, DIRECTION_REF, DIRECTION = 1, 2, 3, 4, 16, 17

SPLIT_PARTS = [(43, 1), (30, 1), (29_16, 100)], [(16, 1), (26, 1), (24_144, 1000)]
SPLIT = {LATITUDE_REF: "N", LATITUDE: SPLIT_PARTS[0], LONGITUDE_REF: "E", LONGITUDE: SPLIT_PARTS[1]}
ALONE = PhotoFacts(dimensions=(24, 16))


def pack(value, order):
    """Give type, count and bytes of a tag by its Python value."""
    if isinstance(value, str):
        content = value.encode() + b"\0"
        return ASCII, len(content), content
    if isinstance(value, bytes):
        return UNDEFINED, len(value), value
    if isinstance(value, int):
        return SHORT, 1, struct.pack(f"{order}H", value)
    return RATIONAL, len(value), b"".join(struct.pack(f"{order}II", *part) for part in value)


def directory(tags, start, order):
    """Write an image file directory whose values follow it."""
    entries, behind = b"", b""
    free = start + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        kind, count, content = value if isinstance(value, tuple) else pack(value, order)
        if len(content) > 4:
            content, behind = (
                struct.pack(f"{order}I", free + len(behind)),
                behind + content + b"\0" * (len(content) % 2),
            )
        entries += struct.pack(f"{order}HHI", tag, kind, count) + content.ljust(4, b"\0")
    return struct.pack(f"{order}H", len(tags)) + entries + b"\0\0\0\0" + behind


def exif(main=(), details=(), gps=(), order="<"):
    """Write EXIF with its three directories."""
    main = {**dict(main), EXIF_IFD: (LONG, 1, b"\0" * 4), GPS_IFD: (LONG, 1, b"\0" * 4)}
    at_details = 8 + len(directory(main, 8, order))
    first = directory(dict(details), at_details, order)
    main[EXIF_IFD] = (LONG, 1, struct.pack(f"{order}I", at_details))
    main[GPS_IFD] = (LONG, 1, struct.pack(f"{order}I", at_details + len(first)))
    second = directory(dict(gps), at_details + len(first), order)
    head = {"<": b"II*\0\x08\0\0\0", ">": b"MM\0*\0\0\0\x08"}[order]
    return b"Exif\0\0" + head + directory(main, 8, order) + first + second


def photo(path, data, form="JPEG", size=(24, 16)):
    Image.new("RGB", size, (200, 30, 90)).save(path, form, exif=data)
    return path


def facts(tmp_path, **directories):
    return read_facts(photo(tmp_path / "photo.jpg", exif(**directories)))


def degrees(parts):
    return float(sum(Fraction(*part) / 60**power for power, part in enumerate(parts)))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("north", "east"), [("N", "E"), ("S", "W"), ("s\0", " w"), ("North", "East")])
def test_coordinates_are_signed_degrees(tmp_path, order, north, east):
    seen = facts(tmp_path, gps={**SPLIT, LATITUDE_REF: north, LONGITUDE_REF: east}, order=order)
    signs = [-1 if side.strip("\0 ").upper().startswith(("S", "W")) else 1 for side in (north, east)]
    assert seen.latitude == pytest.approx(signs[0] * degrees(SPLIT_PARTS[0]), abs=1e-9)
    assert seen.longitude == pytest.approx(signs[1] * degrees(SPLIT_PARTS[1]), abs=1e-9)


@pytest.mark.parametrize("form", ["JPEG", "MPO", "PNG", "WEBP", "TIFF", "HEIF"])
def test_every_format_tells_its_place(tmp_path, form):
    data = exif(gps=SPLIT, main={ARTIST: "Ana"}, details={ORIGINAL: "2024:07:03 19:05:59"})
    path = tmp_path / f"photo.{form.lower()}"
    if form == "MPO":
        second = Image.new("RGB", (24, 16))
        Image.new("RGB", (24, 16)).save(path, "MPO", save_all=True, append_images=[second], exif=data)
    elif form == "HEIF":
        pillow_heif.from_pillow(Image.new("RGB", (24, 16))).save(path, exif=data)
    elif form == "TIFF":  # its own directory is the EXIF
        tags = Image.Exif()
        tags.load(data)
        for kind in (EXIF_IFD, GPS_IFD):
            tags.get_ifd(kind)
        Image.new("RGB", (24, 16)).save(path, "TIFF", exif=tags)
    else:
        photo(path, data, form)
    with Image.open(path) as image:
        assert image.format == form
    seen = read_facts(path)
    assert seen.latitude == pytest.approx(degrees(SPLIT_PARTS[0]), abs=1e-9)
    assert seen.longitude == pytest.approx(degrees(SPLIT_PARTS[1]), abs=1e-9)
    assert (seen.dimensions, seen.author, seen.captured_at) == ((24, 16), "Ana", "2024-07-03T19:05:59")


@pytest.mark.parametrize(
    ("value", "reference", "expected"),
    [
        (None, "N", None),  # nothing is written
        ((math.nan,) * 3, "N", None),  # 0/0: a receiver without a fix
        ((math.nan,) * 3, "\0", None),
        ((45.5, math.nan, math.nan), "N", 45.5),
        ((45.0, 30.0, math.nan), "S", -45.5),
        ((45.0, 30.0), "N", 45.5),
        ((45.5,), "N", 45.5),
        (45.5, "N", 45.5),
        ((0.0, 0.0, 0.0), "S", 0.0),  # for the filter to name
        ((95.0, 0.0, 0.0), "N", 95.0),
        ((45.0, 60.0, 0.0), "N", 46.0),  # rounded up by the device
    ],
)
def test_what_is_written_as_an_angle(value, reference, expected):
    assert str(angle_deg(value, reference, "NS")) == str(expected)  # and no -0.0


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        ((45.0, 75.0, 0.0), "N"),
        ((45.0, 30.0, 2345.0), "N"),
        ((-45.0, 30.0, 0.0), "N"),
        ((45.0, math.nan, 12.0), "N"),
        ((45.0, 30.0, 0.0, 0.0), "N"),
        ((45.0, 30.0, 0.0), None),
        ((45.0, 30.0, 0.0), ""),
        ((45.0, 30.0, 0.0), "E"),
        ((45.0, 30.0, 0.0), 7),
        ("north of here", "N"),
        (b"\xff\x00", "N"),
        (("45", "x", "y"), "N"),
        ((None, None, None), "N"),
    ],
)
def test_what_is_no_angle_is_nan(value, reference):
    assert math.isnan(angle_deg(value, reference, "NS"))


def test_broken_gps_takes_nothing_else_along(tmp_path):
    half = facts(tmp_path, gps={LATITUDE_REF: "N", LATITUDE: SPLIT_PARTS[0]}, main={ARTIST: "Ana"})
    assert half.latitude == pytest.approx(degrees(SPLIT_PARTS[0]))
    assert (half.longitude, half.author) == (None, "Ana")
    text = facts(tmp_path, gps={**SPLIT, LATITUDE: "forty-three"}, main={ARTIST: "Ana"})
    assert math.isnan(text.latitude)
    assert text.author == "Ana"
    unset = facts(tmp_path, gps={**SPLIT, LATITUDE: [(0, 0)] * 3, LONGITUDE: [(0, 0)] * 3}, main={ORIENTATION: 6})
    assert unset == PhotoFacts(dimensions=(16, 24))
    lost = exif(main={ARTIST: "Ana"}, gps=SPLIT)
    where = lost.index(struct.pack("<HHI", GPS_IFD, LONG, 1)) + 8
    nowhere = lost[:where] + struct.pack("<I", 2**31) + lost[where + 4 :]
    seen = read_facts(photo(tmp_path / "nowhere.jpg", nowhere))
    assert (seen.latitude, seen.dimensions, seen.author) == (None, (24, 16), "Ana")


@pytest.mark.parametrize(
    ("gps", "expected"),
    [
        ({DIRECTION_REF: "T", DIRECTION: [(27_125, 100)]}, 271.25),
        ({DIRECTION_REF: "T", DIRECTION: [(360, 1)]}, 0.0),
        ({DIRECTION_REF: "M", DIRECTION: [(90, 1)]}, None),
        ({DIRECTION: [(90, 1)]}, None),
        ({DIRECTION_REF: "T"}, None),
        ({DIRECTION_REF: "T", DIRECTION: [(0, 0)]}, None),
        ({DIRECTION_REF: "T", DIRECTION: [(400, 1)]}, None),
        ({DIRECTION_REF: "T", DIRECTION: "north"}, None),
    ],
)
def test_only_true_north_makes_a_heading(tmp_path, gps, expected):
    assert facts(tmp_path, gps=gps) == ALONE._replace(heading_deg=expected)


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({ORIGINAL: "2024:07:03 19:05:59"}, "2024-07-03T19:05:59"),
        ({ORIGINAL: "2024:07:03 19:05:59", OFFSET_ORIGINAL: "+02:00"}, "2024-07-03T19:05:59+02:00"),
        ({ORIGINAL: "2024:07:03 19:05:59", OFFSET_ORIGINAL: "   :  "}, "2024-07-03T19:05:59"),
        ({ORIGINAL: "2024:07:03 19:05:59", OFFSET_ORIGINAL: "+99:00"}, "2024-07-03T19:05:59"),
        ({ORIGINAL: "2024-07-03T19:05:59", DIGITIZED: "2025:01:01 00:00:00"}, "2024-07-03T19:05:59"),
        ({ORIGINAL: "    :  :     :  :  ", DIGITIZED: "2025:01:01 00:00:00"}, "2025-01-01T00:00:00"),
        ({ORIGINAL: "0000:00:00 00:00:00"}, None),
        ({ORIGINAL: "2024:02:30 10:00:00"}, None),
        ({ORIGINAL: b"2024:07:03 19:05:59"}, None),
        ({}, None),
    ],
)
def test_the_time_is_that_of_the_place_with_its_offset(tmp_path, details, expected):
    assert facts(tmp_path, details=details) == ALONE._replace(captured_at=expected)


def test_author_and_copyright_are_clean_text(tmp_path):
    seen = facts(tmp_path, main={ARTIST: "  Đurđa\0 Šimić\n\x07", COPYRIGHT: "(c) 2024" + "x" * 5000})
    assert seen.author == "Đurđa Šimić"
    assert seen.copyright == "(c) 2024" + "x" * 292
    latin = facts(tmp_path, main={ARTIST: (ASCII, 6, b"Ren\xe9e\0"), COPYRIGHT: "   \0"})
    assert (latin.author, latin.copyright) == ("Renée", None)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_dimensions_are_those_of_the_upright_picture(tmp_path, orientation):
    expected = (16, 24) if orientation >= 5 else (24, 16)
    for form in ("JPEG", "PNG", "WEBP"):
        path = photo(tmp_path / "photo", exif(main={ORIENTATION: orientation}), form)
        assert read_facts(path).dimensions == upright_dimensions(path) == expected


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, *behind):
    """A PNG whose pixels are no pixels: whoever decodes it fails."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", b"not a single pixel"), *behind, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_the_pixels_of_a_png_are_not_decoded_for_its_exif(tmp_path):
    path = tmp_path / "giant.png"
    path.write_bytes(png(50_000, 40_000))
    assert read_facts(path) == PhotoFacts(dimensions=(50_000, 40_000))
    assert upright_dimensions(path) == (50_000, 40_000)
    behind = exif(gps=SPLIT, main={ORIENTATION: 6})[len(b"Exif\0\0") :]
    path.write_bytes(png(50_000, 40_000, chunk(b"tEXt", b"a\0b"), chunk(b"eXIf", behind)))
    assert read_facts(path).latitude == pytest.approx(degrees(SPLIT_PARTS[0]))
    assert upright_dimensions(path) == (40_000, 50_000)


def test_exif_behind_the_pixels_leaves_them_readable(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), (200, 30, 90)).save(buffer, "PNG")
    whole = buffer.getvalue()
    end = whole.index(b"IEND") - 4
    path = tmp_path / "late.png"
    path.write_bytes(whole[:end] + chunk(b"eXIf", exif(gps=SPLIT)[6:]) + whole[end:])
    assert read_facts(path).longitude == pytest.approx(degrees(SPLIT_PARTS[1]))
    with Image.open(path) as image:
        here = image.fp.tell()
        assert GPS_IFD in exif_of(image)
        assert image.fp.tell() == here
        assert image.convert("RGB").getpixel((23, 15)) == (200, 30, 90)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8\xff", b"<svg/>", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR", b"\0" * 999]
)
def test_what_is_no_picture_says_nothing(tmp_path, content):
    (tmp_path / "notes.jpg").write_bytes(content)
    assert read_facts(tmp_path / "notes.jpg") == PhotoFacts()
    assert read_facts(tmp_path / "nowhere.jpg") == PhotoFacts()


def test_no_byte_of_the_exif_can_stop_the_reader(tmp_path):
    """Each byte in turn is made the largest and the smallest; the facts may be lost, not the run."""
    data = exif(gps=SPLIT, main={ARTIST: "Ana", ORIENTATION: 6}, details={ORIGINAL: "2024:07:03 19:05:59"})
    whole = photo(tmp_path / "photo.jpg", data).read_bytes()
    start = whole.index(b"Exif\0\0")
    lost = 0
    for at in range(start, start + len(data)):
        for byte in (0xFF, 0):
            (tmp_path / "hostile.jpg").write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
            seen = read_facts(tmp_path / "hostile.jpg")
            assert isinstance(seen, PhotoFacts)
            lost += seen != read_facts(tmp_path / "photo.jpg")
    assert lost > len(data) / 4
