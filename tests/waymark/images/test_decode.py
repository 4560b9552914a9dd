import io
import resource
import struct
import time
import zlib

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from waymark.errors import ImageError
from waymark.images import decode
from waymark.images.decode import read_picture, square_pixels, upright_dimensions

PLENTY = 10**9
GIANT_SIDE = 50_000


def smooth(height, width, seed=0):
    """A picture without any symmetry that survives JPEG: a coarse random one, scaled up."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def noise(height, width, channels=3):
    return np.random.default_rng(1).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encode(image, form="PNG", **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, form, **options)
    return buffer.getvalue()


def stored(upright, orientation):
    """What a camera stores with this EXIF orientation, by the standard: where row 0 and column 0 lie in the scene."""
    turned = upright.transpose(1, 0, 2) if orientation >= 5 else upright
    flip_rows = orientation in (3, 4, 6, 7)  # row 0 is the bottom or, of a turned picture, the right side
    flip_columns = orientation in (2, 3, 7, 8)  # column 0 is the right side or, of a turned picture, the bottom
    return np.ascontiguousarray(turned[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def lanczos_weights(length, start, stop, wanted):
    """Weights of each of `length` pixels in each of `wanted`, over the stretch from start to stop."""
    scale = (stop - start) / wanted
    stretch = max(scale, 1.0)
    centre = start + (np.arange(wanted)[:, None] + 0.5) * scale
    distance = (np.arange(length)[None] + 0.5 - centre) / stretch
    weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    return weights / weights.sum(axis=1, keepdims=True)


def reference(pixels, size_px):
    """The centred square by Lanczos's kernel with three lobes, in float64."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    rows = lanczos_weights(height, top, top + side, size_px)
    columns = lanczos_weights(width, left, left + side, size_px)
    return np.einsum("yh,xw,hwc->yxc", rows, columns, pixels.astype(float), optimize=True)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 64), (65, 40), (40, 41)])
def test_the_square_is_cut_from_the_middle(height, width):
    pixels = noise(height, width)
    top, left = (height - 40) // 2, (width - 40) // 2
    got = square_pixels(encode(pixels), 40, max_pixels=PLENTY)
    np.testing.assert_array_equal(got, pixels[top : top + 40, left : left + 40])
    assert got.dtype == np.uint8


@pytest.mark.parametrize(("height", "width"), [(24, 60), (60, 24)])
def test_stretch_keeps_what_crop_leaves_out(height, width):
    """The ends of a long picture are red: the centred square does not see them, the whole picture does."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    long = pixels if height > width else pixels.swapaxes(0, 1)
    long[:12] = long[-12:] = (255, 0, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    cropped = square_pixels(buffer.getvalue(), 20, max_pixels=10**6)
    stretched = square_pixels(buffer.getvalue(), 20, max_pixels=10**6, fit="stretch")
    assert cropped.shape == stretched.shape == (20, 20, 3)
    assert cropped[..., 0].mean() < 20
    assert stretched[..., 0].mean() == pytest.approx(255 * 24 / 60, rel=0.05)


@pytest.mark.parametrize(("height", "width", "size_px"), [(200, 300, 32), (301, 117, 48), (33, 20, 64), (64, 64, 24)])
def test_scaling_is_lanczos(height, width, size_px):
    pixels = noise(height, width) // 2 + 64  # far from black and white, where Pillow cuts off between the passes
    got = square_pixels(encode(pixels), size_px, max_pixels=PLENTY)
    assert got.shape == (size_px, size_px, 3)
    assert np.abs(got - reference(pixels, size_px)).max() <= 1.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(orientation):
    upright = smooth(96, 64)
    plain = square_pixels(encode(upright), 32, max_pixels=PLENTY)
    turned = encode(stored(upright, orientation), exif=exif(orientation))
    np.testing.assert_array_equal(square_pixels(turned, 32, max_pixels=PLENTY), plain)
    photo = encode(stored(upright, orientation), "JPEG", quality=95, exif=exif(orientation))
    difference = np.abs(square_pixels(photo, 32, max_pixels=PLENTY).astype(int) - plain)
    assert difference.mean() < 2
    assert difference.max() < 16


@pytest.mark.parametrize("orientation", range(1, 9))
def test_dimensions_are_those_of_the_upright_picture(tmp_path, orientation):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(stored(smooth(96, 64), orientation), "JPEG", exif=exif(orientation)))
    assert upright_dimensions(path) == (64, 96)


def test_dimensions_are_none_where_there_is_no_header(tmp_path):
    assert upright_dimensions(tmp_path / "nowhere.jpg") is None
    (tmp_path / "notes.jpg").write_text("no picture")
    assert upright_dimensions(tmp_path / "notes.jpg") is None


def test_the_upright_picture_of_a_shrunk_jpeg_is_upright_too():
    upright = smooth(1200, 800)
    plain = square_pixels(encode(upright), 32, max_pixels=PLENTY).astype(int)
    for orientation in (1, 6, 7):
        photo = encode(stored(upright, orientation), "JPEG", quality=95, exif=exif(orientation))
        assert np.abs(square_pixels(photo, 32, max_pixels=PLENTY) - plain).mean() < 2


@pytest.mark.parametrize("size_px", [32, 64, 100, 128, 200, 300])
@pytest.mark.parametrize("shape", [(601, 999), (999, 601), (257, 2000), (90, 70)])
def test_draft_mode_never_yields_less_than_twice_the_size(monkeypatch, shape, size_px):
    decoded = []

    def convert(image):
        decoded.append(image.size)
        return image.convert("RGB")

    monkeypatch.setattr(decode, "_in_colour", convert)
    square_pixels(encode(smooth(*shape), "JPEG"), size_px, max_pixels=PLENTY)
    assert min(decoded[0]) >= min(2 * size_px, *shape)
    if min(shape) >= 4 * size_px:
        assert max(decoded[0]) < max(shape)  # it is worth its name


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    image = Image.fromarray(smooth(40, 40)).convert(mode)
    got = square_pixels(encode(image, "TIFF" if mode == "CMYK" else "PNG"), 40, max_pixels=PLENTY)
    np.testing.assert_array_equal(got, np.asarray(image.convert("RGB")))
    assert got.std() > 10


def test_a_cmyk_jpeg_keeps_its_colours():
    pixels = np.zeros((32, 32, 3), dtype=np.uint8) + np.array([200, 60, 20], dtype=np.uint8)
    got = square_pixels(encode(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=95), 32, max_pixels=PLENTY)
    assert np.abs(got.astype(int) - pixels).max() <= 6


def test_transparency_is_left_out():
    pixels = noise(40, 40, 4)
    np.testing.assert_array_equal(square_pixels(encode(pixels), 40, max_pixels=PLENTY), pixels[..., :3])


@pytest.mark.parametrize(("form", "order"), [("PNG", "="), ("TIFF", "<"), ("TIFF", ">")])
def test_sixteen_bits_keep_their_upper_eight_rather_than_turning_white(form, order):
    grey = np.linspace(0, 65_535, 40 * 40).astype(np.uint16).reshape(40, 40)
    image = Image.fromarray(grey)
    if order == ">":
        image = Image.frombytes("I;16B", (40, 40), grey.astype(">u2").tobytes())
    got = square_pixels(encode(image, form), 40, max_pixels=PLENTY)
    np.testing.assert_array_equal(got, np.repeat((grey // 256).astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_numbers_without_a_white_are_a_status_not_a_black_square(tmp_path, dtype):
    path = tmp_path / "heights.tif"
    path.write_bytes(encode(np.linspace(0, 1e6, 1600).astype(dtype).reshape(40, 40), "TIFF"))
    picture = read_picture(path, 40, max_pixels=PLENTY)
    assert picture.status == "unreadable"
    assert "white" in picture.reason


def test_of_several_frames_the_first_is_taken():
    first, second = smooth(40, 40, 1), smooth(40, 40, 2)
    photo = encode(first, "MPO", quality=95, save_all=True, append_images=[Image.fromarray(second)])
    with Image.open(io.BytesIO(photo)) as image:
        assert image.format == "MPO"
    assert np.abs(second.astype(int) - first).mean() > 40
    assert np.abs(square_pixels(photo, 40, max_pixels=PLENTY).astype(int) - first).mean() < 5
    pages = encode(first, "TIFF", save_all=True, append_images=[Image.fromarray(second)])
    np.testing.assert_array_equal(square_pixels(pages, 40, max_pixels=PLENTY), first)


def test_heic_is_read(tmp_path):
    upright = smooth(96, 64)
    pillow_heif.from_pillow(Image.fromarray(upright)).save(tmp_path / "photo.heic", quality=90)
    picture = read_picture(tmp_path / "photo.heic", 32, max_pixels=PLENTY)
    assert picture.status == "ok"
    plain = square_pixels(encode(upright), 32, max_pixels=PLENTY)
    assert np.abs(picture.pixels.astype(int) - plain).mean() < 4
    assert upright_dimensions(tmp_path / "photo.heic") == (64, 96)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "BMP", "GIF"])
def test_a_file_that_was_cut_off_is_truncated(tmp_path, form):
    whole = encode(noise(100, 100), form)
    for share in (0.2, 0.5, 0.9):
        (tmp_path / "cut").write_bytes(whole[: int(len(whole) * share)])
        picture = read_picture(tmp_path / "cut", 32, max_pixels=PLENTY)
        assert (picture.status, picture.pixels) == ("truncated", None)
        assert picture.reason


def test_a_file_cut_off_in_its_header_is_truncated(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(encode(noise(100, 100), "JPEG")[:300])
    assert read_picture(tmp_path / "cut.jpg", 32, max_pixels=PLENTY).status == "truncated"


def test_a_heic_that_was_cut_off_is_truncated(tmp_path):
    pillow_heif.from_pillow(Image.fromarray(noise(100, 100))).save(tmp_path / "photo.heic")
    (tmp_path / "cut.heic").write_bytes((tmp_path / "photo.heic").read_bytes()[:-500])
    assert read_picture(tmp_path / "cut.heic", 32, max_pixels=PLENTY).status == "truncated"


@pytest.mark.parametrize("content", [b"", b"path,latitude\n", b"\xff\xd8\xff", b"<svg/>", b"\x00" * 5000])
def test_what_is_no_picture_is_unreadable(tmp_path, content):
    (tmp_path / "notes.jpg").write_bytes(content)
    picture = read_picture(tmp_path / "notes.jpg", 32, max_pixels=PLENTY)
    assert (picture.status, picture.reason, picture.pixels) == ("unreadable", "no known picture format", None)


def test_a_folder_is_unreadable_and_nothing_is_missing(tmp_path):
    assert read_picture(tmp_path, 32, max_pixels=PLENTY).status == "unreadable"
    assert read_picture(tmp_path / "gone.jpg", 32, max_pixels=PLENTY) == ("missing", "no such file", None)


def giant_png():
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", GIANT_SIDE, GIANT_SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def giant_jpeg():
    data = bytearray(encode(noise(16, 16), "JPEG"))
    frame = data.index(b"\xff\xc0") + 5  # start of frame: length, precision, then height and width
    data[frame : frame + 4] = struct.pack(">HH", GIANT_SIDE, GIANT_SIDE)
    return bytes(data)


@pytest.mark.parametrize("make", [giant_png, giant_jpeg])
def test_a_giant_is_not_decoded(tmp_path, make):
    (tmp_path / "giant").write_bytes(make())
    memory_kb, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    picture = read_picture(tmp_path / "giant", 64, max_pixels=200_000_000)
    assert time.perf_counter() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_kb < 100_000
    assert picture == ("giant", "50000 x 50000 pixels, more than 200000000", None)


def test_max_pixels_is_the_most_that_is_decoded():
    data = encode(noise(10, 20))
    assert square_pixels(data, 8, max_pixels=200).shape == (8, 8, 3)
    with pytest.raises(ImageError, match="20 x 10 pixels, more than 199"):
        square_pixels(data, 8, max_pixels=199)


def test_a_single_row_of_pixels_is_a_picture():
    pixels = noise(1, 9) // 2 + 64
    got = square_pixels(encode(pixels), 4, max_pixels=PLENTY)
    assert np.abs(got - reference(pixels, 4)).max() <= 1.5


def test_broken_exif_does_not_cost_the_picture(tmp_path):
    pixels = smooth(40, 40)
    (tmp_path / "photo.jpg").write_bytes(
        encode(pixels, "JPEG", quality=95, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    )
    assert read_picture(tmp_path / "photo.jpg", 40, max_pixels=PLENTY).status == "ok"
    assert upright_dimensions(tmp_path / "photo.jpg") == (40, 40)
