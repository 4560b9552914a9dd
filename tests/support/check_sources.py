"""A source of small made pictures, with every fault that `waymark check` knows planted once."""

from pathlib import Path

import numpy as np
from PIL import Image

from waymark.check.survey import Survey, Views
from waymark.data.duplicates import Looks
from waymark.data.filters import coordinates
from waymark.data.records import records_table, write_table

HEADINGS = (0, 90, 180, 270)
HOSTILE = "<script>document.title='hacked'</script>"
SIZE = (300, 240)


def scene(seed, colours=None):
    """A smooth picture unlike any of another seed; `colours` are two between which it varies."""
    draws = np.random.default_rng(seed)
    if colours is None:
        fields = draws.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    else:
        share = draws.random((9, 9, 1))
        fields = (np.array(colours[0]) * share + np.array(colours[1]) * (1 - share)).astype(np.uint8)
    return Image.fromarray(fields).resize(SIZE, Image.Resampling.BICUBIC)


def notice():
    """What stands in the place of a picture that a service does not have."""
    picture = np.full((SIZE[1], SIZE[0], 3), 228, np.uint8)
    picture[60:180:30, 30:270] = 90
    picture[60:180, 30:270:40] = 90
    return Image.fromarray(picture)


class Maker:
    """Collects records and writes their pictures into a folder such as the stage download writes."""

    def __init__(self, folder):
        self.folder, self.rows, self.seed = folder, [], 0

    def next_scene(self, colours=None):
        self.seed += 1
        return scene(self.seed, colours)

    def photo(self, record_id, picture=None, quality=92, name="view.jpg", **fields):
        path = f"images/{record_id}/{name}"
        self.save(picture or self.next_scene(), path, quality)
        row = {"record_id": record_id, "views": [{"path": path, "heading_deg": None}], "width": 300, "height": 240}
        self.rows.append(row | fields)
        return self.rows[-1]

    def quad(self, record_id, headings=HEADINGS, pictures=None, **fields):
        views = []
        for heading in headings:
            views.append({"path": f"images/{record_id}/{heading}.jpg", "heading_deg": float(heading)})
            self.save((pictures or {}).get(heading) or self.next_scene(), views[-1]["path"])
        self.rows.append({"record_id": record_id, "views": views, "width": 300, "height": 240} | fields)
        return self.rows[-1]

    def save(self, picture, path, quality=92):
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        picture.save(self.folder / path, quality=quality)

    def write(self):
        write_table(records_table(self.rows), self.folder / "records.parquet")
        return self.folder


def at(number):
    """One place of many in Croatia, all further inland than any shore."""
    return {"latitude": 45.42 + 0.004 * (number % 20), "longitude": 17.0 + 0.02 * number}


def clean(folder):
    """Quadruplets, photos and two landmarks, without any fault."""
    return _clean(folder).write()


def _clean(folder):
    maker = Maker(folder)
    for number in range(12):
        maker.quad(f"place-{number:02}", **at(number))
    for number in range(8):
        maker.photo(f"lake-{number}", maker.next_scene(((20, 60, 120), (90, 180, 230))), landmarks=["lake"])
        maker.photo(f"roof-{number}", maker.next_scene(((120, 30, 10), (250, 170, 120))), landmarks=["roof"])
    return maker


def faulty(folder):
    """A clean source, and one or a few records of each fault; `tests` name them by their ids."""
    maker = _clean(folder)
    spot = at(5)
    maker.photo("swapped", latitude=17.5, longitude=45.45)
    maker.photo("unreadable-half", latitude=45.5)
    maker.photo("unreadable-nan", latitude=float("nan"), longitude=17.0)
    maker.photo("unreadable-far", latitude=95.0, longitude=10.0)
    maker.photo("null-island", latitude=0.0, longitude=0.001)
    maker.photo("outside", latitude=48.85, longitude=2.35)
    for number in range(6):
        maker.quad(f"notice-{number}", pictures={90: notice()}, **at(10 + 8 * number))
    maker.photo("even", Image.new("RGB", SIZE, (9, 9, 12)), **spot)
    broken = folder / maker.photo("broken", **spot)["views"][0]["path"]
    broken.write_bytes(b"GIF89a is what it says")
    cut = folder / maker.photo("cut", **spot)["views"][0]["path"]
    cut.write_bytes(cut.read_bytes()[:2000])
    (folder / maker.photo("gone", **spot)["views"][0]["path"]).unlink()
    maker.quad("three-views", headings=(0, 90, 180), **spot)
    shared = maker.next_scene()
    maker.photo("two-places-1", shared, latitude=45.4, longitude=17.1, group="tour")
    maker.photo("two-places-2", shared, quality=70, latitude=45.4, longitude=17.9, group="tour")
    shared = maker.next_scene()
    maker.photo("two-names-1", shared, landmarks=["lake"], group="walk")
    maker.photo("two-names-2", shared, quality=70, landmarks=["roof"], group="walk")
    shared = maker.next_scene()
    maker.photo("leak-1", shared, group="one", **spot)
    maker.photo("leak-2", shared, quality=70, group="other", **spot)
    shared = maker.next_scene()
    maker.photo("near-1", shared, group="series", **spot)
    maker.photo("near-2", shared, quality=60, group="series", **spot)
    shared = maker.next_scene()
    maker.photo("copy-1", shared, group="copies", **spot)
    maker.photo("copy-2", shared, group="copies", **spot)
    shared = maker.next_scene()
    maker.quad("twice", pictures={0: shared, 180: shared}, **spot)
    maker.photo("trained", group="clip", split="train", **spot)
    maker.photo("tested", group="clip", split="test", **spot)
    maker.photo("small", width=150, height=100, **spot)
    maker.photo("lone", landmarks=[HOSTILE])
    maker.photo("lunch", maker.next_scene(((20, 60, 120), (90, 180, 230))), landmarks=["roof"])
    return maker.write()


def unseen(lat_lon):
    """A survey of records with coordinates and without pictures."""
    rows = [
        {"record_id": f"r{number:03}", "views": [{"path": "none.jpg", "heading_deg": None}],
         "latitude": latitude, "longitude": longitude}
        for number, (latitude, longitude) in enumerate(lat_lon)
    ]  # fmt: skip
    records = records_table(rows)
    nothing = np.zeros(0)
    looks = Looks(np.zeros((0, 1), np.uint64), np.zeros((0, 1), bool), np.zeros((0, 1, 3)), np.zeros((0, 1, 3)))
    views = Views(np.zeros(0, np.int64), [], nothing, [], [], [], looks, nothing, nothing, [])
    ids = records["record_id"].to_pylist()
    return Survey(records, Path(), views, ids, coordinates(records), [None] * len(ids), ids)
