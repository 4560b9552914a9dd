"""From a server to records: nothing lost, nothing taken twice, no bad byte in."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from closure import ROOT
from gldv2_server import Server, author, image_id, licence, link, make_dataset, make_tar, member_name
from PIL import Image

from waymark.data.records import RECORD_SCHEMA, write_table
from waymark.errors import SourceError
from waymark.images.tars import read_bytes
from waymark.sources import Gldv2Source
from waymark.sources.gldv2 import fetching
from waymark.sources.gldv2 import source as gldv2_source

pytestmark = pytest.mark.slow

TRAIN = {"train": (0, 1, 2)}
BOTH = {"train": (0, 1, 2), "test": (0, 1)}
CLEAN, ATTRIBUTION = "metadata/train_clean.csv", "metadata/train_attribution.csv"
TAR, MD5 = "train/images_001.tar", "md5sum/train/md5.images_001.txt"
REAL = ROOT.parent / "shared/data/gldv2"  # thirteen pictures of the dataset, where they are at hand


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(fetching, "BACKOFF_S", 0.001)


@pytest.fixture
def dataset():
    return make_dataset()


@pytest.fixture
def server(dataset):
    with Server(dataset.files) as running:
        yield running


def source(server, tmp_path, tars=TRAIN, **settings):
    plain = {"timeout_s": 5.0, "retries": 3, "at_once": 2, **settings}
    return Gldv2Source(work=tmp_path / "work", tars=tars, base_url=server.url, **plain)


def fetch(its_source, tmp_path, name="raw"):
    folder = tmp_path / name
    folder.mkdir()
    return its_source.fetch(folder), folder


def rows(fetched):
    return {row["record_id"]: row for row in fetched.records.to_pylist()}


def check_pictures(fetched, folder, dataset, expected):
    """Every wanted picture is there to the byte, and no other."""
    held = {its: read_bytes(folder, row["views"][0]["path"]) for its, row in rows(fetched).items()}
    assert held == {its: dataset.pictures[its] for its in expected}


def tables_and_tars(dataset, tars=TRAIN):
    taken = {CLEAN, ATTRIBUTION, "metadata/train_label_to_category.csv"}
    taken.add("metadata/train_label_to_hierarchical.csv")  # it names the landmark that has no category
    for split, numbers in tars.items():
        for number in numbers:
            taken |= {f"{split}/images_{number:03d}.tar", f"md5sum/{split}/md5.images_{number:03d}.txt"}
    return taken


def test_records_tell_what_the_tables_tell(server, dataset, tmp_path):
    fetched, folder = fetch(source(server, tmp_path, BOTH), tmp_path)
    assert fetched.records.schema.equals(RECORD_SCHEMA)
    write_table(fetched.records, tmp_path / "records.parquet")
    assert pq.read_table(tmp_path / "records.parquet").equals(fetched.records)
    expected = dataset.clean | {its for its, at in dataset.where.items() if at[0] == "test"}
    check_pictures(fetched, folder, dataset, expected)
    found = rows(fetched)
    assert list(found) == sorted(expected)
    for its, row in found.items():
        split = dataset.where[its][0]
        with Image.open(io.BytesIO(dataset.pictures[its])) as image:
            dimensions = image.size[::-1] if image.getexif().get(0x0112) == 6 else image.size
        assert row["landmarks"] == dataset.landmarks[its]
        assert (row["width"], row["height"]) == dimensions
        assert row["split"] == split
        assert row["author"] == (author(its) if split == "train" else None)
        assert row["licence"] == (licence(its) if split == "train" else "CC0 or public domain")
        assert row["source_url"] == (f"http://page/{its}" if split == "train" else None)
        assert [row[name] for name in ("latitude", "longitude", "group", "captured_at")] == [None] * 4
        assert row["views"][0]["path"].startswith("images/shard-0000")
        assert row["views"][0]["heading_deg"] is None
    assert sorted(len(row["landmarks"]) for row in found.values() if row["split"] == "test") == [0, 0, 1, 2]
    assert fetched.landmark_names == {"10": "Stari Most (Mostar)", "203": "Pula Arena", "27": "Crkva svetog Đorđa"}
    licences = fetched.origin["licences"]
    assert licences["CC0 or public domain"] == 4
    assert sum(licences.values()) == len(expected)
    assert fetched.counts == {"pictures": 13, "tars": 5, "missing": 0, "duplicates": 0, "refused_members": 0}


@pytest.mark.parametrize(
    ("choice", "landmarks"),
    [
        ({"subset": "full"}, {"10", "27", "203"}),
        ({"subset": "full", "min_images": 4}, {"10", "27"}),
        ({"min_images": 4}, {"10"}),
        ({"largest": 2}, {"10", "27"}),
        ({"landmarks": (27, 203)}, {"27", "203"}),
    ],
)
def test_only_what_is_asked_for_is_taken_out(server, dataset, tmp_path, choice, landmarks):
    fetched, folder = fetch(source(server, tmp_path, **choice), tmp_path)
    train = {its for its, at in dataset.where.items() if at[0] == "train"}
    pool = train if choice.get("subset") == "full" else dataset.clean
    expected = {its for its in pool if dataset.landmarks[its][0] in landmarks}
    check_pictures(fetched, folder, dataset, expected)
    assert set(fetched.landmark_names) == landmarks
    held = sum(path.read_bytes().count(b"ustar") for path in folder.rglob("*.tar"))
    assert held == len(expected)


def test_some_tars_bring_their_own_pictures(server, dataset, tmp_path):
    fetched, folder = fetch(source(server, tmp_path, {"train": (1,)}), tmp_path)
    check_pictures(fetched, folder, dataset, {its for its in dataset.clean if dataset.where[its] == ("train", 1)})
    assert not server.count("train/images_000.tar")
    elsewhere = source(server, tmp_path, {"train": (0,)}, landmarks=(203,))
    with pytest.raises(SourceError, match=r"none of the wanted images is in these tars; .*download\.gldv2\.tars"):
        fetch(elsewhere, tmp_path, "none")


def test_the_index_has_landmarks_of_its_own(server, dataset, tmp_path, caplog):
    ids = [image_id("index", number) for number in range(2)]
    fetched, folder = fetch(source(server, tmp_path, {"index": (0,)}), tmp_path)
    check_pictures(fetched, folder, dataset, ids)
    assert "stays without landmarks" in caplog.text
    server.files["metadata/index_image_to_landmark.csv"] = f"id,landmark_id\n{ids[0]},10\n{ids[1]},7\n".encode()
    server.files["metadata/index_label_to_category.csv"] = (
        b"landmark_id,category\n10,http://c/wiki/Category:Elsewhere\n"
    )
    fetched, _ = fetch(source(server, tmp_path, {"index": (0,)}), tmp_path, "named")
    found = rows(fetched)
    assert [(found[its]["landmarks"], found[its]["split"]) for its in ids] == [
        (["index-10"], None),
        (["index-7"], None),
    ]
    assert fetched.landmark_names == {"index-10": "Elsewhere"}
    assert not server.count(CLEAN)


def test_bytes_do_not_depend_on_the_order_of_downloads(server, tmp_path):
    written = []
    for at_once, slow in ((1, 0), (3, 0), (3, 2)):
        server.faults[f"train/images_00{slow}.tar"] = [500, 500, 500]  # the others come first
        place = tmp_path / f"{at_once} {slow}"
        place.mkdir()
        fetched, folder = fetch(source(server, place, BOTH, at_once=at_once), place)
        write_table(fetched.records, folder / "records.parquet")
        written.append({path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()})
        assert len(written[-1]) == 6
    assert written[0] == written[1] == written[2]


def test_several_are_downloaded_at_once_and_not_more(server, tmp_path):
    server.bytes_per_s = 50_000
    fetch(source(server, tmp_path, BOTH, at_once=3), tmp_path)
    assert server.busiest == 3


OTHER_TAR = make_tar({member_name("ab" * 8): b"of somebody else"})
MISBEHAVIOUR = {
    "500s": {TAR: [500, 503, 500], CLEAN: [500], MD5: [502]},
    "cut": {TAR: [("cut", 3000), ("cut", 10)], ATTRIBUTION: [("cut", 100)]},
    "cut, no ranges": {TAR: [("cut", 3000), "no range"]},
    "cut, wrong range": {TAR: [("cut", 3000), "wrong range"]},
    "wrong tar": {TAR: [("bytes", OTHER_TAR)]},
    "wrong MD5": {MD5: [("bytes", b"0" * 32 + b"  images_001.tar\n")]},
    "no MD5": {MD5: [("bytes", b"sorry\n")]},
    "page": {TAR: ["page"], CLEAN: ["page"], MD5: ["page"]},
    "page as tar": {TAR: ["page as tar"], CLEAN: ["page as tar"]},
    "lengthless": {TAR: ["lengthless"], CLEAN: ["lengthless"]},
    "hang": {TAR: ["hang"]},
}


@pytest.mark.parametrize("kind", MISBEHAVIOUR)
def test_a_server_that_misbehaves_changes_nothing(server, dataset, tmp_path, kind):
    expected, _ = fetch(source(server, tmp_path / "calm"), tmp_path, "calm")
    server.forget()
    server.faults.update({path: list(faults) for path, faults in MISBEHAVIOUR[kind].items()})
    fetched, folder = fetch(source(server, tmp_path, timeout_s=0.5 if kind == "hang" else 5.0), tmp_path)
    assert fetched.records.equals(expected.records)
    check_pictures(fetched, folder, dataset, dataset.clean)
    assert not any(server.faults.values())  # all of it happened
    for path in (tmp_path / "calm/images").iterdir():
        assert (folder / "images" / path.name).read_bytes() == path.read_bytes()
    untouched = tables_and_tars(dataset) - MISBEHAVIOUR[kind].keys() - {MD5}
    assert server.count(MD5) <= 2  # where a tar does not fit its MD5, either may be wrong
    assert [server.count(path) for path in sorted(untouched)] == [1] * len(untouched)


@pytest.mark.parametrize(
    ("path", "fault", "said"),
    [
        (TAR, ("bytes", OTHER_TAR), r"train/images_001\.tar: its MD5 is not the one .*3 times"),
        (TAR, "page as tar", r"train/images_001\.tar: its MD5 is not the one"),
        (TAR, "page", r"train/images_001\.tar: .*with a page"),
        (TAR, 500, r"train/images_001\.tar: the server answers 500"),
        (MD5, ("bytes", b"0" * 32), r"train/images_001\.tar: its MD5 is not"),
        (MD5, "page as tar", r"md5sum/train/md5\.images_001\.txt: it holds no MD5"),
        (CLEAN, "page as tar", r"train_clean\.csv: it is no table with a column landmark_id"),
        (ATTRIBUTION, 404, r"train_attribution\.csv: the server answers 404"),
    ],
)
def test_what_stays_wrong_is_named_and_never_used(server, tmp_path, path, fault, said):
    server.faults[path] = [fault, ...]
    with pytest.raises(SourceError, match=said):
        fetch(source(server, tmp_path), tmp_path)
    assert not list((tmp_path / "raw").iterdir())
    assert not list((tmp_path / "work/extracted").glob("*/001*"))
    server.faults.clear()
    server.forget()
    fetch(source(server, tmp_path), tmp_path, "later")  # and what was right is not taken again
    assert server.count(CLEAN) == (path == CLEAN)


def test_a_hostile_tar_brings_its_good_pictures_alone(server, dataset, tmp_path):
    wanted = sorted(its for its in dataset.clean if dataset.where[its] == ("train", 1))
    stolen = sorted(its for its in dataset.clean if dataset.where[its] == ("train", 2))[0]
    members = {
        "../../outside.jpg": b"bad",
        "1": link(member_name(stolen), "/etc/passwd"),
        "2": link(f"0/0/0/{'0' * 16}.jpg", "../../../../etc/passwd"),
        **dataset.tar_members("train", 1),
    }
    dataset.put_tar("train", 1, make_tar(members))
    server.files.update(dataset.files)
    fetched, folder = fetch(source(server, tmp_path), tmp_path)
    check_pictures(fetched, folder, dataset, dataset.clean)
    assert fetched.counts["refused_members"] == 3
    assert wanted
    assert not list(tmp_path.parent.rglob("outside.jpg"))


def test_an_image_that_stands_twice_is_taken_once(server, dataset, tmp_path):
    its = sorted(its for its in dataset.clean if dataset.where[its] == ("train", 0))[0]
    dataset.put_tar("train", 2, make_tar({member_name(its): b"another", **dataset.tar_members("train", 2)}))
    server.files.update(dataset.files)
    fetched, folder = fetch(source(server, tmp_path), tmp_path)
    check_pictures(fetched, folder, dataset, dataset.clean)
    assert fetched.counts["duplicates"] == 1


def test_images_that_no_tar_has_are_counted(server, dataset, tmp_path, monkeypatch, caplog):
    sizes = {split: size._replace(tars={"train": 3}.get(split, 0)) for split, size in gldv2_source.layout.SIZES.items()}
    monkeypatch.setattr("waymark.sources.gldv2.layout.SIZES", sizes)
    gone = sorted(dataset.clean)[0]
    split, number = dataset.where.pop(gone)
    dataset.put_tar(split, number, make_tar(dataset.tar_members(split, number)))
    server.files.update(dataset.files)
    fetched, folder = fetch(source(server, tmp_path, {"train": None}), tmp_path)
    check_pictures(fetched, folder, dataset, dataset.clean - {gone})
    assert fetched.counts["missing"] == 1
    assert "1 images that the tables list are in no tar" in caplog.text


def test_a_second_start_takes_nothing_that_came(server, dataset, tmp_path):
    server.faults["train/images_002.tar"] = [404, ...]
    with pytest.raises(SourceError, match="404"):
        fetch(source(server, tmp_path, at_once=1), tmp_path)
    server.faults.clear()
    server.forget()
    fetched, folder = fetch(source(server, tmp_path), tmp_path, "again")
    check_pictures(fetched, folder, dataset, dataset.clean)
    assert sorted(path for path, _, _ in server.requests) == [
        "md5sum/train/md5.images_002.txt",
        "metadata/train_label_to_category.csv",
        "metadata/train_label_to_hierarchical.csv",
        "train/images_002.tar",
    ]


def test_what_one_choice_left_unfinished_is_not_taken_for_another(server, dataset, tmp_path):
    fetch(source(server, tmp_path, landmarks=(10,)), tmp_path, "killed before it was tidied")
    fetched, folder = fetch(source(server, tmp_path), tmp_path)
    check_pictures(fetched, folder, dataset, dataset.clean)


def test_another_choice_is_extracted_anew_and_kept_tars_are_not_downloaded_again(server, dataset, tmp_path):
    for tars_kept in (True, False):
        place = tmp_path / str(tars_kept)
        place.mkdir()
        first = source(server, place, keep_tars=tars_kept, landmarks=(10,))
        fetch(first, place, "first")
        first.tidy()
        assert (place / "work").exists() == tars_kept
        server.forget()
        fetched, folder = fetch(source(server, place, keep_tars=tars_kept), place, "second")
        check_pictures(fetched, folder, dataset, dataset.clean)
        assert sum(path.endswith(".tar") for path, _, _ in server.requests) == (0 if tars_kept else 3)


def test_the_preview_reads_the_labels_alone(server, tmp_path):
    told = source(server, tmp_path, BOTH, min_images=3).preview()
    assert (told.images, told.landmarks, told.tars) == (5 + 3 + 117_577, 2, 5)
    assert [path for path, _, _ in server.requests] == [CLEAN]
    server.forget()
    fetch(source(server, tmp_path), tmp_path)
    assert not server.count(CLEAN)  # and the download does not take them again


def test_a_full_disk_is_said_in_words(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gldv2_source, "extract", full)
    with pytest.raises(SourceError, match=r"the disk is full; make room .*keeps what came"):
        fetch(source(server, tmp_path), tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="the pictures of the dataset are not at hand")
def test_real_pictures_come_through_to_the_byte(tmp_path):
    photos = [path.read_bytes() for path in sorted(REAL.glob("*.jpg"))]
    made = make_dataset(photos=photos[:12])
    with Server(made.files) as running:
        fetched, folder = fetch(source(running, tmp_path, subset="full"), tmp_path)
    assert fetched.records.num_rows == 12
    check_pictures(fetched, folder, made, [its for its, at in made.where.items() if at[0] == "train"])
    for row in rows(fetched).values():
        data = read_bytes(folder, row["views"][0]["path"])
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert np.prod(image.size) == row["width"] * row["height"]
