import hashlib
import logging
import unicodedata
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from waymark.data.splits import COLUMN_NAMES
from waymark.errors import SourceError
from waymark.images.views import heading_slots, place_views
from waymark.sources import QuadsSource
from waymark.sources.quad_folders import SPLIT_FOLDERS

HEADINGS = (0, 90, 180, 270)
NOTHING = {
    "folders": 1,
    "duplicates_by_uuid": 0,
    "duplicates_by_panorama": 0,
    "missing_views": 0,
    "incomplete_places": 0,
    "dropped_places": 0,
    "folders_without_row": 0,
}


def paint(path, seed=0, size=(12, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def paint_place(folder, headings=HEADINGS, suffix=".jpg"):
    for heading in headings:
        paint(folder / f"{heading}{suffix}", seed=crc32(f"{folder.name} {heading}".encode()))


def write_table(folder, *rows, header="uuid,latitude,longitude"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def quads(folder, *uuids, pictures="images", **columns):
    """Write a folder with places and their views."""
    names = ["uuid", "latitude", "longitude", *columns]
    rows = [
        ",".join([uuid, f"{45 + number / 10}", "16.5", *(values[number] for values in columns.values())])
        for number, uuid in enumerate(uuids)
    ]
    write_table(folder, *rows, header=",".join(names))
    for uuid in uuids:
        paint_place(folder / pictures / uuid)
    return folder


def fetch(path, tmp_path, **options):
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    return QuadsSource(path, **options).fetch(raw)


def by_id(fetched):
    return {row["record_id"]: row for row in fetched.records.to_pylist()}


def test_a_row_is_a_record_with_a_view_for_each_heading(tmp_path):
    own = quads(tmp_path / "own", "b", "a", panorama_id=["pB", ""], author=["Ana Đ", ""], date=["x", "y"])
    fetched = fetch(own, tmp_path)
    a, b = fetched.records.to_pylist()
    assert b["views"] == [{"path": f"images/b/{heading}.jpg", "heading_deg": heading} for heading in HEADINGS]
    assert (b["latitude"], b["longitude"], b["group"], b["author"]) == (45.0, 16.5, "pB", "Ana Đ")
    assert (a["latitude"], a["group"], a["author"], a["split"], a["landmarks"]) == (45.1, None, None, None, [])
    assert (a["width"], a["height"]) == (12, 8)
    assert fetched.counts == NOTHING
    for row in (a, b):
        for view in row["views"]:
            assert (tmp_path / "raw" / view["path"]).read_bytes() == (own / view["path"]).read_bytes()


def test_columns_without_a_field_are_named(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    own = quads(tmp_path / "own", "a", pano_id=["p"], altitude=["7"], elevation_m=["8"])
    assert fetch(own, tmp_path).records["group"].to_pylist() == ["p"]
    assert "no field for: altitude, elevation_m" in caplog.text


@pytest.mark.parametrize("pictures", ["images", "data", ""])
@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".PNG"])
def test_pictures_are_found_where_people_keep_them(tmp_path, pictures, suffix):
    write_table(tmp_path / "own", "a,45,16")
    paint_place(tmp_path / "own" / pictures / "a", suffix=suffix)
    (record,) = fetch(tmp_path / "own", tmp_path).records.to_pylist()
    assert [view["path"] for view in record["views"]] == [f"images/a/{h}{suffix.lower()}" for h in HEADINGS]
    assert record["width"] == 12


def test_no_original_is_touched(tmp_path):
    own = quads(tmp_path / "own", "a", "b")

    def snapshot():
        files = [path for path in sorted(own.rglob("*")) if path.is_file()]
        return [(path, path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]

    before = snapshot()
    fetch(own, tmp_path)
    (tmp_path / "raw/images/a/0.jpg").write_bytes(b"changed")  # the copy is no link to the original
    assert snapshot() == before


def incomplete(tmp_path):
    own = quads(tmp_path / "own", "whole", "three", "none", "gone")
    (own / "images/three/90.jpg").unlink()
    for heading in HEADINGS:
        (own / f"images/none/{heading}.jpg").rename(own / f"images/none/view{heading}.jpg")
        (own / f"images/gone/{heading}.jpg").unlink()
    (own / "images/gone").rmdir()
    return own


def test_a_missing_view_is_counted_and_its_slot_stays_free(tmp_path):
    fetched = fetch(incomplete(tmp_path), tmp_path)
    records = by_id(fetched)
    assert list(records) == ["three", "whole"]
    assert fetched.counts == {**NOTHING, "missing_views": 9, "incomplete_places": 3, "dropped_places": 2}
    headings = {uuid: [view["heading_deg"] for view in row["views"]] for uuid, row in records.items()}
    assert headings["three"] == [0, 180, 270]
    slots = heading_slots(headings.values())
    assert [slots[slot] for slot in place_views(headings["three"], slots)] == [0, 180, 270]


def test_a_place_that_lacks_a_view_is_dropped_where_that_is_wanted(tmp_path):
    fetched = fetch(incomplete(tmp_path), tmp_path, missing_views="drop")
    assert list(by_id(fetched)) == ["whole"]
    assert fetched.counts == {**NOTHING, "missing_views": 9, "incomplete_places": 3, "dropped_places": 3}
    assert not (tmp_path / "raw/images/three").exists()


def test_folders_of_views_without_a_row_are_counted(tmp_path):
    own = quads(tmp_path / "own", "a")
    paint_place(own / "images/stray", headings=(90,))
    paint_place(own / "images/other", headings=(91,))  # no view
    (own / "images/empty").mkdir()
    assert fetch(own, tmp_path).counts == {**NOTHING, "folders_without_row": 1}


def test_of_a_place_in_several_folders_the_first_stays(tmp_path):
    first = quads(tmp_path / "own/2023", "a", "b", panorama_id=["p1", "p2"])
    quads(tmp_path / "own/2024", "a", "c", "d", panorama_id=["p9", "p2", "p3"])
    fetched = fetch(tmp_path / "own", tmp_path)
    assert list(by_id(fetched)) == ["a", "b", "d"]
    assert fetched.counts == {**NOTHING, "folders": 2, "duplicates_by_uuid": 1, "duplicates_by_panorama": 1}
    assert (tmp_path / "raw/images/a/0.jpg").read_bytes() == (first / "images/a/0.jpg").read_bytes()
    assert by_id(fetched)["a"]["group"] == "p1"


def test_the_order_of_folders_is_the_one_that_is_named(tmp_path):
    quads(tmp_path / "own/2023", "a", panorama_id=["p1"])
    quads(tmp_path / "own/2024", "a", "c", panorama_id=["p9", "p1"])
    quads(tmp_path / "own/unfinished", "x")
    fetched = fetch(tmp_path / "own", tmp_path, folders=("2024", "2023"))
    assert {uuid: row["group"] for uuid, row in by_id(fetched).items()} == {"a": "p9", "c": "p1"}


def test_a_copy_that_has_its_views_counts_before_one_that_lacks_them(tmp_path):
    one = quads(tmp_path / "own/one", "a")
    quads(tmp_path / "own/two", "a")
    (one / "images/a/0.jpg").unlink()
    fetched = fetch(tmp_path / "own", tmp_path, missing_views="drop")
    assert len(by_id(fetched)["a"]["views"]) == 4
    assert fetched.counts["duplicates_by_uuid"] == 0


def test_within_a_folder_a_panorama_is_a_group_and_a_uuid_stands_once(tmp_path):
    own = quads(tmp_path / "own", "a", "b", "a", panorama_id=["p", "p", "q"])
    fetched = fetch(own, tmp_path)
    assert {uuid: row["group"] for uuid, row in by_id(fetched).items()} == {"a": "p", "b": "p"}
    assert fetched.counts == {**NOTHING, "duplicates_by_uuid": 1}


def test_places_without_a_panorama_are_no_duplicates(tmp_path):
    quads(tmp_path / "own/one", "a", panorama_id=[""])
    quads(tmp_path / "own/two", "b", panorama_id=[""])
    assert list(by_id(fetch(tmp_path / "own", tmp_path))) == ["a", "b"]


def test_names_of_splits_are_those_that_the_split_knows():
    assert set(SPLIT_FOLDERS) == set(COLUMN_NAMES)


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "TEST")])
def test_folders_that_are_divided_are_the_split(tmp_path, names):
    for number, name in enumerate(names):
        quads(tmp_path / "own" / name, f"u{number}")
    fetched = fetch(tmp_path / "own", tmp_path)
    assert [row["split"] for row in fetched.records.to_pylist()] == [name.lower() for name in names]


@pytest.mark.parametrize("layout", ["{split}/{uuid}", "images/{split}/{uuid}", "{split}/data/{uuid}"])
def test_one_table_for_pictures_that_are_divided(tmp_path, layout):
    splits = {"a": "train", "b": "val", "c": "test"}
    write_table(tmp_path / "own", *(f"{uuid},45,16,test" for uuid in splits), header="uuid,latitude,longitude,split")
    for uuid, split in splits.items():
        paint_place(tmp_path / "own" / layout.format(split=split, uuid=uuid))
    fetched = fetch(tmp_path / "own", tmp_path)
    assert {uuid: row["split"] for uuid, row in by_id(fetched).items()} == splits
    assert fetched.counts == NOTHING


def test_of_copies_in_one_table_the_one_to_train_on_yields_however_its_split_is_written(tmp_path):
    rows = ("a,45,16,Train,p1", "b,45,16,TEST,p1")
    write_table(tmp_path / "own", *rows, header="uuid,latitude,longitude,split,panorama_id")
    for uuid in "ab":
        paint_place(tmp_path / "own/images" / uuid)
    assert {uuid: row["split"] for uuid, row in by_id(fetch(tmp_path / "own", tmp_path)).items()} == {"b": "TEST"}


def test_of_two_copies_in_a_division_the_one_to_train_on_yields(tmp_path):
    quads(tmp_path / "own/train", "a", "b", "c", panorama_id=["p1", "p2", "p3"])
    quads(tmp_path / "own/val", "d", panorama_id=["p2"])
    quads(tmp_path / "own/test", "a", panorama_id=["p1"])
    fetched = fetch(tmp_path / "own", tmp_path)
    assert {uuid: row["split"] for uuid, row in by_id(fetched).items()} == {"a": "test", "c": "train", "d": "val"}
    assert (fetched.counts["duplicates_by_uuid"], fetched.counts["duplicates_by_panorama"]) == (1, 1)


def test_a_panorama_is_not_divided_by_one_table_either(tmp_path):
    own = quads(tmp_path / "own", "a", "b", "c", panorama_id=["p", "p", "p"], split=["train", "test", "test"])
    assert {uuid: row["split"] for uuid, row in by_id(fetch(own, tmp_path)).items()} == {"b": "test", "c": "test"}


def test_coordinates_may_be_unknown(tmp_path):
    own = quads(tmp_path / "own", "a", "b")
    write_table(own, "a,,16", "b,,")
    a, b = fetch(own, tmp_path).records.to_pylist()
    assert (a["latitude"], a["longitude"], b["latitude"], b["longitude"]) == (None, 16, None, None)


@pytest.mark.parametrize("of_table", ["NFC", "NFD"])
def test_uuids_and_folders_are_compared_in_one_form(tmp_path, of_table):
    of_folder = {"NFC": "NFD", "NFD": "NFC"}[of_table]
    folder = tmp_path / "own" / unicodedata.normalize(of_folder, "Café")
    quads(folder, "x")
    write_table(folder, unicodedata.normalize(of_table, "Đé,45,16"))
    (folder / "images/x").rename(folder / "images" / unicodedata.normalize(of_folder, "Đé"))
    fetched = fetch(tmp_path / "own", tmp_path, folders=(unicodedata.normalize(of_table, "Café"),))
    (record,) = fetched.records.to_pylist()
    assert record["record_id"] == unicodedata.normalize("NFC", "Đé")
    assert len(record["views"]) == 4
    assert all((tmp_path / "raw" / view["path"]).is_file() for view in record["views"])


@pytest.mark.parametrize("linked", ["data.csv", "images", "images/a", "images/a/0.jpg"])
def test_links_that_lead_out_of_the_folder_are_refused(tmp_path, linked):
    own = quads(tmp_path / "own", "a")
    (tmp_path / "elsewhere").mkdir()
    moved = (own / linked).rename(tmp_path / "elsewhere/moved")
    (own / linked).symlink_to(moved)
    with pytest.raises(SourceError, match=r"leads out of .*own by a link; copy"):
        fetch(own, tmp_path)
    (own / linked).unlink()
    (own / linked).symlink_to(moved.rename(own / "moved"))
    assert len(by_id(fetch(own, tmp_path))["a"]["views"]) == 4


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        (
            "name,latitude,longitude",
            "a,45,16",
            "no column uuid .*known: latitude, .*it needs uuid, latitude, longitude",
        ),
        ("uid,latitude,longitude", "a,45,16", r"no column uuid \(did you mean 'uid'\?\)"),
        ("uuid,lat,lng", "a,45,16", "has a column 'lat', which is not read; call it latitude"),
        ("UUID,latitude,longitude", "a,45,16", "has a column 'UUID', which is not read; call it uuid"),
        ("uuid,latitude", "a,45", "no column longitude"),
        ("uuid,latitude,longitude", '"a","45,5",16', "row 2: latitude '45,5' has a comma"),
        ("uuid,latitude,longitude", ",45,16", "row 2: uuid is empty"),
        ("uuid,latitude,longitude", "../secret,45,16", r"row 2: uuid '\.\./secret' leads out of the folder"),
        ("uuid,latitude,longitude", "..,45,16", r"row 2: uuid '\.\.' leads out"),
        ("uuid,latitude,longitude", "..\\secret,45,16", "row 2: uuid .* leads out"),
        ("uuid,latitude,longitude", "/etc,45,16", "row 2: uuid '/etc' leads out"),
        ("uuid,latitude,longitude", "a,45,16,1", "rows with more cells than its header"),
        ("uuid,latitude,longitude", "a,somewhere,16", "row 2: latitude is 'somewhere', no number"),
        ("uuid,latitude,longitude", "x" * 256 + ",45,16", "row 2: uuid 'x.* is too long; it names a folder"),
        ("uuid,latitude,longitude,UUID", "a,45,16,a", "columns 'uuid' and 'UUID', which differ in capitals alone"),
    ],
)
def test_a_table_that_is_wrong_gets_one_clear_line(tmp_path, header, row, said):
    own = quads(tmp_path / "own", "a")
    paint_place(tmp_path / "own/secret")
    write_table(own, row, header=header)
    with pytest.raises(SourceError, match=said) as raised:
        fetch(own, tmp_path)
    assert "\n" not in str(raised.value)


def test_folders_that_are_wrong_get_one_clear_line(tmp_path):
    with pytest.raises(SourceError, match=r"nowhere is no folder; set download\.path"):
        fetch(tmp_path / "nowhere", tmp_path)
    (tmp_path / "own/pictures").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"has no data\.csv, nor has a folder in it \(it holds pictures\)"):
        fetch(tmp_path / "own", tmp_path)
    quads(tmp_path / "own/2023", "a")
    with pytest.raises(SourceError, match=r"download.quads.folders: .*2032 has no data\.csv; did you mean '2023'\?"):
        fetch(tmp_path / "own", tmp_path, folders=("2032",))
    with pytest.raises(SourceError, match="leads out of"):
        fetch(tmp_path / "own", tmp_path, folders=("../own",))
    quads(tmp_path / "divided/train", "a")
    (tmp_path / "divided/test").mkdir()
    with pytest.raises(SourceError, match=r"divided/test has no data\.csv, as the folders next to it have"):
        fetch(tmp_path / "divided", tmp_path)


def test_a_table_none_of_whose_places_has_a_picture_is_refused(tmp_path):
    write_table(tmp_path / "own", "a,45,16")
    with pytest.raises(SourceError, match=r"no place of .* has its views .*dropped places: 1.*images/<uuid>/0\.jpg"):
        fetch(tmp_path / "own", tmp_path)
