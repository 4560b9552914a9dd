"""What is taken from a tar, and what is refused."""

import gzip
import tarfile
from functools import partial

import pyarrow as pa
import pytest
from gldv2_server import image_id, link, make_tar, member_name, picture

from waymark.errors import SourceError
from waymark.images.tars import TarWriter, read_bytes
from waymark.sources.gldv2 import extracting
from waymark.sources.gldv2.extracting import extract, finished

IDS = [image_id("train", number) for number in range(6)]
PICTURES = {its: picture(number, 20 + number, 10, 6 if number == 2 else None) for number, its in enumerate(IDS)}
DIMENSIONS = [(10, 22) if number == 2 else (20 + number, 10) for number in range(6)]


def take(tmp_path, content, wanted=IDS):
    archive = tmp_path / "images_000.tar"
    archive.write_bytes(content)
    stem = tmp_path / "out" / "000"
    stem.parent.mkdir(exist_ok=True)
    extract(archive, pa.array(wanted, pa.string()), stem)
    return finished(stem)


def members(path):
    with tarfile.open(path) as opened:
        return opened.getmembers()


def held(part):
    return {row["id"]: read_bytes(part.pieces[row["piece"]], f"{row['id']}.jpg") for row in part.pictures.to_pylist()}


def test_the_wanted_pictures_are_taken_in_the_order_of_the_tar(tmp_path):
    content = make_tar({"0": None, **{member_name(its): PICTURES[its] for its in IDS[::-1]}})
    wanted = [IDS[0], IDS[2], IDS[5], image_id("train", 99)]
    part = take(tmp_path, content, wanted)
    rows = part.pictures.to_pylist()
    assert [row["id"] for row in rows] == [IDS[5], IDS[2], IDS[0]]
    assert [(row["width"], row["height"]) for row in rows] == [DIMENSIONS[number] for number in (5, 2, 0)]
    assert held(part) == {its: PICTURES[its] for its in (IDS[0], IDS[2], IDS[5])}
    assert part.refused == 0
    assert [member.name for member in members(part.pieces[0])] == [f"{row['id']}.jpg" for row in rows]


def test_pieces_keep_to_their_length(tmp_path, monkeypatch):
    monkeypatch.setattr(extracting, "TarWriter", partial(TarWriter, shard_bytes=24_000))
    part = take(tmp_path, make_tar({member_name(its): PICTURES[its] for its in IDS}))
    assert len(part.pieces) > 1
    assert held(part) == PICTURES


HOSTILE = {
    "outside": {"../../../outside.jpg": b"bad", f"../{member_name(IDS[1])}": b"bad"},
    "absolute": {"/tmp/gldv2-absolute.jpg": b"bad", "/" + member_name(IDS[1]): b"bad"},
    "symlink": {"1": link(member_name(IDS[1]), "/etc/passwd"), "2": link("0/0", "/tmp")},
    "hardlink": {"1": link(member_name(IDS[1]), "../../../../etc/passwd", tarfile.LNKTYPE)},
    "hardlink inside": {"1": link(member_name(IDS[1]), member_name(IDS[0]), tarfile.LNKTYPE)},
    "device": {
        "1": link(member_name(IDS[1]), "", tarfile.CHRTYPE),
        "2": link(member_name(IDS[2]), "", tarfile.FIFOTYPE),
    },
    "other folder": {f"f/f/f/{IDS[1] if not IDS[1].startswith('fff') else IDS[2]}.jpg": b"bad"},
    "other names": {"a.jpg": b"bad", f"{IDS[1]}.jpg": b"bad", member_name(IDS[1]) + "\n": b"bad", "._0/0/0": b""},
    "upper case": {member_name(IDS[1].upper()): b"bad"},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_picture_of_the_dataset_is_refused_and_counted(tmp_path, kind, caplog):
    good = {member_name(IDS[0]): PICTURES[IDS[0]]}
    part = take(tmp_path, make_tar({**good, **HOSTILE[kind], member_name(IDS[3]): PICTURES[IDS[3]]}))
    assert held(part) == {IDS[0]: PICTURES[IDS[0]], IDS[3]: PICTURES[IDS[3]]}
    assert part.refused == len(HOSTILE[kind])
    assert "is no picture of the dataset" in caplog.text
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert written == ["images_000.tar", "out", "out/000-00.tar", "out/000.parquet"]
    assert all(member.isreg() for member in members(part.pieces[0]))


def test_a_sparse_member_cannot_fill_the_memory(tmp_path):
    member = tarfile.TarInfo(member_name(IDS[1]))
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**50)}
    member.pax_headers["GNU.sparse.name"] = member_name(IDS[1])
    content = bytearray()
    member.size = 512
    content += member.tobuf(tarfile.PAX_FORMAT) + b"0\n".ljust(512, b"\0") + bytes(1024)
    part = take(tmp_path, bytes(content))
    assert (part.pictures.num_rows, part.refused) == (0, 1)


def broken_sparse_tar(**headers):
    """A tar whose pax headers say of its member what is no number."""
    member = tarfile.TarInfo(member_name(IDS[1]))
    member.size = 512
    member.pax_headers = {f"GNU.sparse.{name}": value for name, value in headers.items()}
    return member.tobuf(tarfile.PAX_FORMAT) + b"no number\n".ljust(512, b"\0") + bytes(1024)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>no tar</html>" * 100,
        make_tar({"0/a": b"x" * 5000})[:3000],
        broken_sparse_tar(major="1", minor="0", realsize="512"),
        broken_sparse_tar(major="1", minor="0", realsize="x"),
        broken_sparse_tar(map="1,x,3", size="512"),
    ],
)
def test_what_is_no_tar_is_an_error_and_leaves_no_marker(tmp_path, content):
    archive = tmp_path / "images_000.tar"
    with pytest.raises(SourceError, match=rf"{archive} has the right MD5 but is no tar"):
        take(tmp_path, content)
    assert finished(tmp_path / "out" / "000") is None


def test_a_compressed_tar_is_refused(tmp_path):
    with pytest.raises(SourceError, match="is no tar"):
        take(tmp_path, gzip.compress(make_tar({member_name(IDS[0]): PICTURES[IDS[0]]})))


def test_nothing_wanted_is_nothing_written(tmp_path):
    part = take(tmp_path, make_tar({member_name(IDS[0]): PICTURES[IDS[0]]}), wanted=[IDS[1]])
    assert (part.pictures.num_rows, part.pieces, part.refused) == (0, [], 0)
    assert not list((tmp_path / "out").glob("*.tar"))
