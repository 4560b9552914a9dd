"""Pictures in tars are written the same every time and read by name."""

import io
import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from waymark.images import tars
from waymark.images.decode import read_picture
from waymark.images.resizing import read_pictures
from waymark.images.tars import TarWriter, read_bytes


def contents(count, length=700):
    rng = np.random.default_rng(count)
    return {f"{number:03d}.jpg": rng.bytes(int(rng.integers(1, length))) for number in range(count)}


def write(folder, pictures, **options):
    folder.mkdir(exist_ok=True)
    with TarWriter(folder / "part", **options) as writer:
        pieces = [writer.add(name, data) for name, data in pictures.items()]
    return writer.paths, pieces


def members(path):
    with tarfile.open(path) as opened:
        return opened.getmembers()


def test_members_and_plain_files_are_read_alike(tmp_path):
    pictures = contents(40)
    (path,), _ = write(tmp_path / "images", pictures)
    for name, data in reversed(pictures.items()):
        assert read_bytes(tmp_path, f"images/{path.name}/{name}") == data
    (tmp_path / "plain.jpg").write_bytes(b"alone")
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "folder.tar" / "a.jpg").write_bytes(b"in a folder")
    assert read_bytes(tmp_path, "plain.jpg") == b"alone"
    assert read_bytes(tmp_path, "folder.tar/a.jpg") == b"in a folder"


@pytest.mark.parametrize(
    "path", ["images/part-00.tar/no.jpg", "images/part-00.tar/zzz.jpg", "images/x.tar/a.jpg", "a.jpg"]
)
def test_what_is_not_there_is_missing(tmp_path, path):
    write(tmp_path / "images", contents(3))
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path, path)
    assert read_picture(tmp_path / path, 8, max_pixels=10**6).status == "missing"


def test_what_is_no_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")  # whoever opens it waits for ever
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "zero.jpg", "folder.jpg"):
        with pytest.raises(OSError, match="not a file but a folder, pipe or device"):
            read_bytes(tmp_path, name)
        assert read_picture(tmp_path / name, 8, max_pixels=10**6).status == "unreadable"


def test_an_empty_tar_has_no_member(tmp_path):
    tarfile.open(tmp_path / "a.tar", "w").close()
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path, "a.tar/a.jpg")


def test_a_tar_is_listed_once_and_anew_when_replaced(tmp_path, monkeypatch):
    (path,), _ = write(tmp_path, {"a.jpg": b"first", "b.jpg": b"other"})
    listed = []
    real = tarfile.open
    monkeypatch.setattr(tars.tarfile, "open", lambda *given, **named: listed.append(given) or real(*given, **named))
    assert [read_bytes(tmp_path, f"{path.name}/{name}.jpg") for name in "aba"] == [b"first", b"other", b"first"]
    assert len(listed) == 1
    write(tmp_path / "new", {"b.jpg": b"moved!", "a.jpg": b"again"})
    (tmp_path / "new" / path.name).replace(path)
    assert read_bytes(tmp_path, f"{path.name}/a.jpg") == b"again"


def test_tars_keep_to_their_length_and_to_their_order(tmp_path):
    pictures = contents(200, 30_000)
    paths, pieces = write(tmp_path, pictures, shard_bytes=500_000)
    assert len(paths) > 4
    assert all(path.stat().st_size <= 500_000 for path in paths)
    assert sum(path.stat().st_size > 400_000 for path in paths) >= len(paths) - 1  # filled before the next one begins
    found = [(member.name, number) for number, path in enumerate(paths) for member in members(path)]
    assert found == list(zip(pictures, pieces, strict=True))


def test_a_picture_longer_than_a_tar_has_one_of_its_own(tmp_path):
    paths, pieces = write(tmp_path, {"a": b"1", "b": bytes(90_000), "c": b"2"}, shard_bytes=50_000)
    assert pieces == [0, 1, 2]
    assert read_bytes(tmp_path, f"{paths[1].name}/b") == bytes(90_000)


def test_bytes_depend_on_names_and_contents_alone(tmp_path):
    (one,), _ = write(tmp_path / "one", contents(20))
    (two,), _ = write(tmp_path / "two", contents(20))
    assert one.read_bytes() == two.read_bytes()
    member = members(one)[0]
    assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)
    assert one.read_bytes()[257:265] == b"ustar\x0000"  # and no extended headers


def test_pictures_are_decoded_from_tars_in_worker_processes(tmp_path):
    encoded = {}
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        encoded[f"{number}.png"] = buffer.getvalue()
        (tmp_path / f"{number}.png").write_bytes(buffer.getvalue())
    (path,), _ = write(tmp_path / "images", encoded)
    places = [place for name in encoded for place in (tmp_path / name, path / name)]
    pictures = list(read_pictures([*places, path / "gone.png"], 10, max_pixels=10**6, workers=1))
    assert [picture.status for picture in pictures] == ["ok"] * 6 + ["missing"]
    for plain, member in zip(pictures[0:6:2], pictures[1:6:2], strict=True):
        np.testing.assert_array_equal(plain.pixels, member.pixels)
