"""No picture takes more memory than it may: each is decoded in a process that may have so much and no more."""

import io
import struct
import sys

import numpy as np
import pytest
from closure import ROOT
from PIL import Image

from waymark.images.decode import decoding_bytes, read_picture
from waymark.system.processes import run_command

pytestmark = pytest.mark.slow

SIDE = 6000  # 36 megapixels: a second each
DECODE = """
import sys
from pathlib import Path
from waymark.images.decode import read_picture
from waymark.system.memory import limit_memory
limit_memory(int(sys.argv[2]))
picture = read_picture(Path(sys.argv[1]), 32, max_pixels=10**9, fit=sys.argv[3])
print(picture.status, picture.reason)
"""


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize(
    ("mode", "form", "bytes_per_pixel", "options"),
    [
        ("RGB", "PNG", 4, {}),
        ("L", "PNG", 5, {}),
        ("P", "GIF", 5, {}),
        ("RGBA", "PNG", 8, {}),
        ("I;16", "PNG", 8, {}),
        ("CMYK", "TIFF", 8, {}),
        ("RGB", "TIFF", 4, {}),  # the file alone has three
        ("RGB", "PNG", 8, {"exif": exif(6)}),
        ("RGB", "JPEG", 7, {"progressive": True, "subsampling": 0}),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_memory_of_decoding_is_bounded(tmp_path, mode, form, bytes_per_pixel, options, fit):
    options = {"compress_level": 1, **options} if form == "PNG" else options
    Image.new(mode, (SIDE, SIDE)).save(tmp_path / "picture", form, **options)
    may = bytes_per_pixel * SIDE * SIDE + decoding_bytes(0)
    assert may <= decoding_bytes(SIDE * SIDE)
    command = [sys.executable, "-c", DECODE, str(tmp_path / "picture"), str(may), fit]
    done = run_command(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "ok \n", done.stdout + done.stderr


def test_what_takes_more_memory_is_a_status(tmp_path):
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "picture", "PNG", compress_level=1)
    command = [sys.executable, "-c", DECODE, str(tmp_path / "picture"), str(2 * SIDE * SIDE), "crop"]
    done = run_command(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("giant needs more memory than a picture of max_pixels")


@pytest.mark.parametrize(("form", "part"), [("WEBP", 2), ("AVIF", 2), ("JPEG2000", 3), ("PNG", 1)])
def test_formats_whose_decoders_take_more_memory_have_fewer_pixels(tmp_path, form, part):
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "picture", form)
    assert read_picture(tmp_path / "picture", 8, max_pixels=part * 2000).status == "ok"
    picture = read_picture(tmp_path / "picture", 8, max_pixels=part * 2000 - 1)
    assert picture.status == "giant"
    assert picture.reason.startswith("50 x 40 pixels")
    assert picture.reason.endswith("more than 1999")


def tiled(width, height, tile):
    """A TIFF of which one tile is larger than the whole."""
    tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1), (322, tile), (323, tile)]
    tags += [(324, 8), (325, 4)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 12) + b"\0\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"


def test_a_tile_counts_as_large_as_it_is(tmp_path):
    (tmp_path / "picture").write_bytes(tiled(16, 16, 60_000))
    picture = read_picture(tmp_path / "picture", 8, max_pixels=10**9)
    assert picture == ("giant", "16 x 16 pixels in tiles of 60000 x 60000, more than 1000000000", None)


def test_a_side_that_the_kernel_of_scaling_could_not_hold_is_a_giant(tmp_path):
    Image.new("L", (1, 300_001)).save(tmp_path / "picture", "PNG")
    assert read_picture(tmp_path / "picture", 8, max_pixels=10**9).status == "giant"
    Image.new("L", (2, 300_000)).save(tmp_path / "picture", "PNG")
    assert read_picture(tmp_path / "picture", 8, max_pixels=10**9, fit="stretch").status == "ok"


@pytest.mark.parametrize("form", ["ICO", "EPS", "ICNS"])
def test_files_that_hold_files_or_run_programs_are_no_pictures(tmp_path, form):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, form)
    (tmp_path / "picture.png").write_bytes(buffer.getvalue())
    picture = read_picture(tmp_path / "picture.png", 8, max_pixels=10**9)
    assert picture == ("unreadable", "no known picture format", None)
