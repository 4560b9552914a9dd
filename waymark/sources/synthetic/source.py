"""The source itself: places and landmark photos that nobody has ever taken."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import shapely
from pydantic import Field
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from waymark.data.records import records_table
from waymark.geo.regions import load_land, load_region
from waymark.options.kinds import Made, MadeOrNone, Seed
from waymark.options.named import STRICT
from waymark.sources.adapter import Fetched, SourceOptions
from waymark.sources.synthetic.camera import HEIGHT_PX, WIDTH_PX
from waymark.sources.synthetic.landmarks import Landmark, build, subjects
from waymark.sources.synthetic.making import Sitting, make_all
from waymark.sources.synthetic.places import Place, outlooks, scatter

COUNTRY = "HRV"  # the only one that `world` describes
SURROUNDINGS = (11.5, 41.0, 21.5, 48.0)  # west, south, east, north in degrees: beyond the last ray
LICENCE = "CC0-1.0"
DESCRIPTION = (
    "Made-up pictures: places inside the outline of Croatia, drawn by a seeded program in four headings, "
    "and made-up landmarks. No photo, no real building, nothing to be learnt about the real Croatia."
)


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Synthetic(SourceOptions):
    """Options of the source `synthetic`: how much the generator makes.

    Args:
        places: number of places, four views each, with coordinates.
        landmarks: number of landmarks, with a long tail of pictures; 0 leaves the photos out.
        photos: number of photos, one view each, without coordinates; one in ten shows no landmark.
        seed: another seed is another country's worth of pictures.
    """

    name: ClassVar[str] = "synthetic"

    places: Made = 3000
    landmarks: MadeOrNone = 24
    photos: MadeOrNone = 400
    seed: Seed = 1

    def build(self, path: Path, *, work: Path, mirrored: Path | None = None) -> "SyntheticSource":
        """Build the source, which reads nothing."""
        return SyntheticSource(**self.given())


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SyntheticSource(Synthetic):
    """A seeded generator of places in Croatia and of landmark photos.

    Args:
        workers: processes that draw; by default one for each core. They change nothing but the time.
    """

    workers: Annotated[int, Field(ge=1, le=1000)] | None = None

    def fetch(self, folder: Path) -> Fetched:
        """Draw all pictures into `folder` and list them.

        Returns:
            The records in the order of their ids; the paths of views are relative to `folder`.
        """
        around = shapely.clip_by_rect(load_land().geometry.to_numpy(), *SURROUNDINGS)  # before the union: seconds less
        land = shapely.union_all(around)
        shapely.prepare(land)
        outline = shapely.union_all(load_region(COUNTRY).geometry.to_numpy())
        places = scatter(outline, self.places, self.seed)
        known = build(self.landmarks, self.seed)
        stops = [Sitting(place.record_id, self.seed, tuple(outlooks(place, land))) for place in places]
        shots = list(self._shots(known))
        made = make_all([*shots, *stops], folder, self.workers)
        for _ in tqdm(made, total=len(shots) + len(stops), unit="record", desc="draw", disable=None):
            pass
        rows = [*map(_photo_row, shots), *map(_place_row, places, stops)]
        return Fetched(
            records=records_table(rows),
            landmark_names={landmark.label: landmark.name for landmark in known},
            origin={
                "name": "synthetic",
                "made_up": True,
                "description": DESCRIPTION,
                "licence": LICENCE,
                "seed": self.seed,
                "outline": f"{COUNTRY}, Natural Earth 1:10 million",
            },
        )

    def _shots(self, known: list[Landmark]) -> Iterator[Sitting]:
        photos = self.photos if known else 0
        for number, subject in enumerate(subjects(len(known), photos, self.seed)):
            landmark = None if subject is None else known[subject]
            yield Sitting(f"photo-{number:05d}", self.seed, landmark=landmark)


def _row(sitting: Sitting, headings: list[float | None]) -> dict[str, Any]:
    return {
        "record_id": sitting.record_id,
        "views": [
            {"path": path, "heading_deg": heading} for path, heading in zip(sitting.paths(), headings, strict=True)
        ],
        "width": WIDTH_PX,
        "height": HEIGHT_PX,
        "author": "Waymark synthetic",
        "licence": LICENCE,
    }


def _photo_row(sitting: Sitting) -> dict[str, Any]:
    landmarks = [sitting.landmark.label] if sitting.landmark else []
    return {**_row(sitting, [None]), "landmarks": landmarks}


def _place_row(place: Place, sitting: Sitting) -> dict[str, Any]:
    position = {"latitude": place.latitude, "longitude": place.longitude, "group": place.group}
    return {**_row(sitting, [float(outlook.heading) for outlook in sitting.outlooks]), **position}
