import os
import time

import numpy as np
import pytest
from PIL import Image

from waymark.images import resizing
from waymark.images.decode import read_picture
from waymark.images.resizing import channel_figures, perceptual_hash, read_pictures

PLENTY = 10**9

# Every Python that starts with this on its path has a picture format whose decoder is hostile.
HOSTILE = """
import os, signal, time
from PIL import Image, ImageFile

class Hostile(ImageFile.ImageFile):
    format = "HOSTILE"
    def _open(self):
        what = self.fp.read(8)
        if what == b"HOSTEXIT":
            os._exit(1)
        if what == b"HOSTSEGV":
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == b"HOSTFILL":
            self.kept = bytearray(300 * 2**20)
        if what == b"HOSTHANG":
            time.sleep(600)

Image.register_open("HOSTILE", Hostile, lambda prefix: prefix.startswith(b"HOST"))
"""


# Of the processes that multiprocessing starts, the first few end before they have done anything.
DYING = """
import os, pathlib, sys
if "--multiprocessing-fork" in sys.orig_argv:
    folder = pathlib.Path(__file__).parent
    if len(list(folder.glob("*.dead"))) < {deaths}:
        (folder / f"{{os.getpid()}}.dead").touch()
        os._exit(1)
"""


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    folder = tmp_path / "hostile"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOSTILE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))


def paint(folder, count):
    """Pictures each of a colour of its own."""
    paths = []
    for number in range(count):
        paths.append(folder / f"{number:03}.png")
        Image.new("RGB", (20, 20), (number, 255 - number, 7)).save(paths[-1])
    return paths


def read(paths, workers=1):
    return list(read_pictures(paths, 16, max_pixels=PLENTY, workers=workers))


def colours(pictures):
    return [None if picture.pixels is None else int(picture.pixels[3, 3, 0]) for picture in pictures]


def test_pictures_come_in_order_and_as_they_would_alone(tmp_path):
    paths = paint(tmp_path, 75)  # more than two chunks
    paths[40] = tmp_path / "gone.png"
    pictures = read(paths, workers=2)
    assert colours(pictures) == [*range(40), None, *range(41, 75)]
    assert pictures[40].status == "missing"
    for path, picture in zip(paths[::9], pictures[::9], strict=True):
        np.testing.assert_array_equal(picture.pixels, read_picture(path, 16, max_pixels=PLENTY).pixels)


def test_no_pictures_are_no_trouble():
    assert read([]) == []


def test_a_picture_that_kills_its_decoder_costs_only_itself(tmp_path, monkeypatch, hostile, caplog):
    monkeypatch.setattr(resizing, "CHUNK", 4)
    paths = paint(tmp_path, 12)
    paths[1].write_bytes(b"HOSTEXIT")
    paths[6].write_bytes(b"HOSTSEGV")
    paths[9].write_text("no picture")
    pictures = read(paths)
    assert [picture.status for picture in pictures] == [
        *["ok", "crashed", "ok", "ok"],
        *["ok", "ok", "crashed", "ok"],
        *["ok", "unreadable", "ok", "ok"],
    ]
    assert colours(pictures) == [0, None, 2, 3, 4, 5, None, 7, 8, None, 10, 11]
    assert "crashed its decoder" in pictures[1].reason
    assert [record.getMessage().split()[0] for record in caplog.records] == ["001.png", "006.png"]


def test_a_picture_that_hangs_its_decoder_costs_only_itself(tmp_path, monkeypatch, hostile):
    monkeypatch.setattr(resizing, "CHUNK", 3)
    monkeypatch.setattr(resizing, "TIMEOUT_S", 0.7)
    paths = paint(tmp_path, 6)
    paths[1].write_bytes(b"HOSTHANG")
    start = time.perf_counter()
    pictures = read(paths)
    assert time.perf_counter() - start < 30
    assert [picture.status for picture in pictures] == ["ok", "crashed", "ok", "ok", "ok", "ok"]
    assert colours(pictures) == [0, None, 2, 3, 4, 5]


def test_a_picture_that_takes_too_much_memory_costs_only_itself(tmp_path, hostile):
    paths = paint(tmp_path, 5)
    paths[2].write_bytes(b"HOSTFILL")
    pictures = list(read_pictures(paths, 16, max_pixels=10**6, workers=1))
    assert colours(pictures) == [0, 1, None, 3, 4]
    assert pictures[2].status == "giant"
    assert "MemoryError" in pictures[2].reason


def dying(folder, monkeypatch, deaths):
    (folder / "dying").mkdir()
    (folder / "dying" / "sitecustomize.py").write_text(DYING.format(deaths=deaths))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(folder / "dying"), os.environ.get("PYTHONPATH")]))
    )


def test_when_all_workers_die_others_go_on(tmp_path, monkeypatch):
    dying(tmp_path, monkeypatch, deaths=4)
    assert colours(read(paint(tmp_path, 40), workers=2)) == list(range(40))


def test_where_no_worker_lives_every_picture_has_a_status(tmp_path, monkeypatch, caplog):
    dying(tmp_path, monkeypatch, deaths=10**6)
    pictures = read(paint(tmp_path, 70), workers=2)
    assert [picture.status for picture in pictures] == ["crashed"] * 70
    assert "All workers expired" in pictures[0].reason
    assert pictures[69].reason == pictures[0].reason
    assert len(list((tmp_path / "dying").glob("*.dead"))) < 40  # it gives up


def test_the_perceptual_hash_compares_neighbours():
    """Of 9 x 8 grey pixels, which need no scaling, each bit says whether the right neighbour is lighter."""
    grey = np.random.default_rng(2).integers(0, 256, (8, 9), dtype=np.uint8)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    assert perceptual_hash(np.repeat(grey[..., None], 3, axis=2)) == bits.tobytes().hex()


def test_the_perceptual_hash_weighs_colours_as_the_eye_does():
    pixels = np.random.default_rng(3).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    grey = (pixels @ np.array([19595, 38470, 7471]) + 2**15) >> 16  # ITU-R 601-2 luma in fixed point
    assert perceptual_hash(pixels) == np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()


def test_the_perceptual_hash_survives_scaling_and_compression_but_not_another_picture(tmp_path):
    draws = np.random.default_rng(4)
    one, other = (draws.integers(0, 256, (6, 6, 3), dtype=np.uint8) for _ in range(2))
    hashes = []
    for coarse, size in ((one, 256), (one, 200), (other, 256)):
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(tmp_path / "p.jpg", quality=80)
        hashes.append(int(perceptual_hash(read_picture(tmp_path / "p.jpg", 64, max_pixels=PLENTY).pixels), 16))
    assert (hashes[0] ^ hashes[1]).bit_count() <= 6
    assert (hashes[0] ^ hashes[2]).bit_count() >= 16


def test_channel_figures_are_exact():
    pixels = np.random.default_rng(5).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    pixels[..., 2] = 255
    figures = channel_figures(pixels)
    for channel in range(3):
        values = [int(value) for value in pixels[..., channel].ravel()]
        assert figures["channel_sum"][channel] == sum(values)
        assert figures["channel_sum_squares"][channel] == sum(value * value for value in values)
        assert figures["channel_min"][channel] == min(values)
        assert figures["channel_max"][channel] == max(values)
    assert all(type(value) is int for values in figures.values() for value in values)
