import contextlib
import hashlib
import logging
import os
import unicodedata

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from waymark.errors import SourceError
from waymark.sources import PhotosSource

ORIENTATION, ARTIST, COPYRIGHT, EXIF_IFD, GPS_IFD = 0x0112, 0x013B, 0x8298, 0x8769, 0x8825
TAKEN, OFFSET = 0x9003, 0x9011


def exif(latitude=None, longitude=None, taken=None, heading=None, orientation=1, **tags):
    """EXIF of a photo; coordinates in whole thousandths of a minute."""
    made = Image.Exif()
    made[ORIENTATION] = orientation
    for name, value in tags.items():
        made[{"author": ARTIST, "copyright": COPYRIGHT}[name]] = value
    if taken is not None:
        made.get_ifd(EXIF_IFD)[TAKEN] = taken
    gps = made.get_ifd(GPS_IFD)
    for first, value, sides in ((1, latitude, "NS"), (3, longitude, "EW")):
        if value is not None:
            degrees, minutes = divmod(abs(value) * 60, 60)
            gps[first], gps[first + 1] = sides[value < 0], (degrees, round(minutes, 3), 0)
    if heading is not None:
        gps[16], gps[17] = "T", heading
    return made


def paint(path, seed=0, form=None, **tags):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    if path.suffix.lower() in (".heic", ".heif"):
        pillow_heif.from_pillow(Image.fromarray(pixels)).save(path, exif=exif(**tags).tobytes())
    else:
        Image.fromarray(pixels).save(path, form, exif=exif(**tags))
    return path


def fetch(path, tmp_path, **options):
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    return PhotosSource(path, **options).fetch(raw)


def by_id(fetched):
    return {row["record_id"]: row for row in fetched.records.to_pylist()}


@pytest.fixture
def own(tmp_path):
    """Photos of two trips and one beside them, with and without GPS."""
    folder = tmp_path / "own"
    split = {"latitude": 43.508, "longitude": 16.44}
    paint(
        folder / "Split/a.jpg", 1, **split, taken="2024:07:03 23:59:00", author="Ana", copyright="(c) Ana", heading=90
    )
    paint(folder / "Split/b.HEIC", 2, latitude=-43.5, longitude=-16.25, taken="2024:07:04 00:01:00")
    paint(folder / "2023/Split/c.png", 3, taken="2023:07:03 12:00:00")
    paint(folder / "d.webp", 4, orientation=6)
    return folder


def test_every_photo_is_a_record_with_what_its_exif_says(own, tmp_path):
    records = by_id(fetch(own, tmp_path))
    assert list(records) == ["2023/Split/c.png", "Split/a.jpg", "Split/b.HEIC", "d.webp"]
    a, b, d = records["Split/a.jpg"], records["Split/b.HEIC"], records["d.webp"]
    assert (a["latitude"], a["longitude"]) == (43.508, 16.44)
    assert (b["latitude"], b["longitude"]) == (-43.5, -16.25)
    assert (a["captured_at"], a["author"], a["licence"]) == ("2024-07-03T23:59:00", "Ana", "(c) Ana")
    assert (a["width"], a["height"], d["width"], d["height"]) == (24, 16, 16, 24)
    assert (d["latitude"], d["longitude"], d["captured_at"], d["author"]) == (None,) * 4
    assert a["views"] == [{"path": "images/Split/a.jpg", "heading_deg": None}]
    for name, record in records.items():
        assert (tmp_path / "raw" / record["views"][0]["path"]).read_bytes() == (own / name).read_bytes()


def test_the_direction_is_the_views_heading_only_where_asked(own, tmp_path):
    records = by_id(fetch(own, tmp_path, heading=True))
    assert [row["views"][0]["heading_deg"] for row in records.values()] == [None, 90.0, None, None]


def test_the_label_is_the_folder_where_that_is_wanted(own, tmp_path):
    assert fetch(own, tmp_path).records["landmarks"].to_pylist() == [[]] * 4
    labels = {name: row["landmarks"] for name, row in by_id(fetch(own, tmp_path, label="folder")).items()}
    assert labels == {"2023/Split/c.png": ["Split"], "Split/a.jpg": ["Split"], "Split/b.HEIC": ["Split"], "d.webp": []}


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("folder_day", ["2023/Split/2023-07-03", "Split/2024-07-03", "Split/2024-07-04", "/"]),
        ("folder", ["2023/Split/", "Split/", "Split/", "/"]),
        ("none", [None] * 4),
    ],
)
def test_groups(own, tmp_path, group, expected):
    assert fetch(own, tmp_path, group=group).records["group"].to_pylist() == expected


def test_names_that_differ_in_their_suffix_alone_stay_apart(tmp_path):
    for name in ("a.jpg", "a.heic", "a.JPG", "a.jpeg"):
        paint(tmp_path / "own" / name, seed=len(name), form=None if name == "a.heic" else "JPEG")
    fetched = fetch(tmp_path / "own", tmp_path)
    assert sorted(fetched.records["record_id"].to_pylist()) == ["a.JPG", "a.heic", "a.jpeg", "a.jpg"]
    assert len(list((tmp_path / "raw/images").iterdir())) == 4


def test_what_is_no_photo_is_counted_and_left(own, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for name in ("x.NEF", "x.dng", "x.mov", "x.xmp", "x.AAE", "README.md", "noname", ".DS_Store", "Split/._a.jpg"):
        (own / name).write_bytes(b"?")
    paint(own / ".thumbnails/a.jpg")
    paint(own / "@eaDir/b.jpg")
    fetched = fetch(own, tmp_path)
    assert fetched.counts == {
        "skipped_hidden": 4,
        "skipped_others": 2,
        "skipped_raw": 2,
        "skipped_sidecars": 2,
        "skipped_videos": 1,
        "with_gps": 2,
        "without_gps": 2,
    }
    lines = [line for line in caplog.messages if "with GPS" in line]
    assert lines == [
        "4 photos: 2 with GPS, 2 without, 0 with GPS that is no place;"
        " skipped 4 hidden, 2 others, 2 raw, 2 sidecars, 1 videos"
    ]
    assert fetched.records.num_rows == 4


def test_gps_that_is_no_place_is_counted_and_left_to_the_filter(tmp_path):
    half = paint(tmp_path / "own/half.jpg", latitude=45.0)
    paint(tmp_path / "own/island.jpg", latitude=0.0, longitude=0.0)
    broken = exif(latitude=45.0, longitude=16.0)
    broken.get_ifd(GPS_IFD)[4] = (16, 75, 0)
    with Image.open(half) as image:
        image.save(tmp_path / "own/minutes.jpg", exif=broken)
    fetched = fetch(tmp_path / "own", tmp_path)
    records = by_id(fetched)
    assert fetched.counts == {"unreadable_gps": 2, "with_gps": 1}
    assert (records["half.jpg"]["latitude"], records["half.jpg"]["longitude"]) == (45.0, None)
    assert (records["island.jpg"]["latitude"], records["island.jpg"]["longitude"]) == (0.0, 0.0)
    assert records["minutes.jpg"]["latitude"] == 45.0
    assert np.isnan(records["minutes.jpg"]["longitude"])


def test_a_file_that_is_no_picture_stays_a_record_for_resize_to_count(own, tmp_path):
    (own / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    record = by_id(fetch(own, tmp_path))["broken.jpg"]
    assert (record["width"], record["latitude"]) == (None, None)
    assert (tmp_path / "raw/images/broken.jpg").read_bytes() == b"\xff\xd8 no more"


def test_links_are_followed_to_photos_within_the_folder_only(own, tmp_path, caplog):
    elsewhere = paint(tmp_path / "elsewhere/e.jpg", 5, latitude=45.0, longitude=16.0)
    inside = own / "Split/a.jpg"
    (own / "linked.jpg").symlink_to("Split/a.jpg")
    (own / "out.jpg").symlink_to(elsewhere)
    (own / "passwd.jpg").symlink_to("/etc/passwd")
    (own / "zero.jpg").symlink_to("/dev/zero")
    (own / "self.jpg").symlink_to("self.jpg")
    (own / "trip").symlink_to(elsewhere.parent)
    (own / "Split/loop").symlink_to(own)
    (own / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(own / "pipe.jpg")  # whoever opens it waits for ever
    fetched = fetch(own, tmp_path)
    assert sorted(set(by_id(fetched)) - {"2023/Split/c.png", "Split/a.jpg", "Split/b.HEIC", "d.webp"}) == ["linked.jpg"]
    assert fetched.counts["skipped_linked_folders"] == 2
    assert fetched.counts["skipped_broken_links"] == 2
    assert fetched.counts["skipped_special_files"] == 2
    assert fetched.counts["skipped_links_out"] == 2
    assert "skipped_others" not in fetched.counts
    assert "links to folders are not followed; set download.path" in caplog.text
    assert "links that lead out of the folder are not followed; copy the files into it" in caplog.text
    assert not list(tmp_path.rglob("raw/**/passwd.jpg"))
    copy = tmp_path / "raw/images/linked.jpg"
    assert not copy.is_symlink()
    copy.write_bytes(b"changed")
    assert inside.read_bytes() != b"changed"


def test_no_original_is_touched(own, tmp_path):
    (own / "Split/a.jpg").chmod(0o400)

    def snapshot():
        paths = [own, *sorted(own.rglob("*"))]
        return [
            (path, path.stat().st_mtime_ns, path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest())
            for path in paths
        ]

    before = snapshot()
    fetch(own, tmp_path, label="folder", heading=True)
    (tmp_path / "raw/images/d.webp").write_bytes(b"changed")  # the copy is no link to the original
    assert snapshot() == before


def test_names_in_any_alphabet_and_in_none(tmp_path):
    paint(tmp_path / "own/Šibenik 東京/đ ž.jpg")
    with open(os.fsencode(tmp_path / "own") + b"/caf\xe9.jpg", "wb") as file:  # noqa: PTH123  # a name that is not UTF-8
        file.write((tmp_path / "own/Šibenik 東京/đ ž.jpg").read_bytes())
    fetched = fetch(tmp_path / "own", tmp_path, label="folder")
    records = by_id(fetched)
    assert list(records) == ["caf\\xe9.jpg", "Šibenik 東京/đ ž.jpg"]
    assert records["Šibenik 東京/đ ž.jpg"]["landmarks"] == ["Šibenik 東京"]
    for record in records.values():
        assert (tmp_path / "raw" / record["views"][0]["path"]).is_file()


def test_names_are_in_one_form_and_two_that_differ_in_it_are_refused(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Café/é.jpg") for form in ("NFC", "NFD"))
    paint(tmp_path / "mac" / decomposed)
    fetched = fetch(tmp_path / "mac", tmp_path, label="folder")
    (record,) = fetched.records.to_pylist()
    assert (record["record_id"], record["landmarks"], record["group"]) == (composed, ["Café"], "Café/")
    assert (tmp_path / "raw" / record["views"][0]["path"]).is_file()
    paint(tmp_path / "mac" / composed)
    with pytest.raises(
        SourceError, match=r"holds 'Café/é\.jpg' twice, in two Unicode forms: b'Caf.*' and b'Caf.*'; re"
    ):
        fetch(tmp_path / "mac", tmp_path)


def test_what_may_not_be_read_is_named(own, tmp_path, nobody):
    (own / "Split/a.jpg").chmod(0)
    with nobody(), pytest.raises(SourceError, match=r"Split/a\.jpg: permission denied"):
        fetch(own, tmp_path)
    (own / "Split").chmod(0)
    with nobody(), pytest.raises(SourceError, match=r"own/Split cannot be read: Permission denied"):
        fetch(own, tmp_path)
    (own / "Split").chmod(0o700)


@pytest.fixture
def nobody(tmp_path):
    """A user who owns nothing; whoever runs the tests as root may read all else."""

    @contextlib.contextmanager
    def other():
        user = os.geteuid()
        if user == 0:
            for folder in [tmp_path, *tmp_path.parents][:4]:
                folder.chmod(0o755)
            (tmp_path / "raw").mkdir(exist_ok=True)
            (tmp_path / "raw").chmod(0o777)
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(user)

    return other


def test_a_folder_that_holds_no_photo_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"nowhere is no folder; set download\.path to the folder of your photos"):
        fetch(tmp_path / "nowhere", tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/clip.MP4").write_bytes(b"?")
    with pytest.raises(SourceError, match=r"holds no photo \(skipped: 1 videos\); put some in"):
        fetch(tmp_path / "own", tmp_path)
