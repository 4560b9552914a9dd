"""Which records stay: each rule names the records that it drops and why."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from waymark.data.names import one_form
from waymark.errors import CoordinateError
from waymark.geo.crs import project, resolve_crs
from waymark.geo.regions import region_lat_lon
from waymark.options.kinds import AtLeastOne, PositiveFraction, Seed, ShoreKm, Text
from waymark.options.named import STRICT

Dropped = dict[str, str]  # record_id -> "reason: detail"

NULL_ISLAND_DEG = 0.01  # about 1 km around 0, 0: nobody lives there, unset GPS does
SWAPPED_SHARE = 0.5

Digests = Callable[[pa.Table], Mapping[str, str]]  # records -> hash of the content of each picture, by its path


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Rules:
    """Which records are worth learning from.

    Args:
        shore_km: how far off the coarse outline of the region a record may lie.
        min_images: landmarks with fewer records are dropped, first of all.
        max_images: of a landmark with more records, this many are kept, last of all.
        largest: how many landmarks are kept, the largest first, by all of their records.
        fraction: share of the records for quick experiments.
        seed: of `fraction` and `max_images`.
        exclude: ids of records, or landmarks, to leave out.
    """

    shore_km: ShoreKm = 5.0
    min_images: AtLeastOne | None = None
    max_images: AtLeastOne | None = None
    largest: AtLeastOne | None = None
    fraction: PositiveFraction = 1.0
    seed: Seed = 1
    exclude: Annotated[tuple[Text, ...], Field(strict=False)] = ()


def select(records: pa.Table, rules: Rules, region: GeoDataFrame | None, digests: Digests) -> tuple[pa.Table, Dropped]:
    """Keep the records that are worth learning from, and give the reason of each other one.

    The rules go one after the other, and each sees what the ones before it left.

    Args:
        records: a table of `waymark.data.records.RECORD_SCHEMA`.
        rules: what to drop.
        region: polygons in EPSG:4326 that records must lie in; None takes every place.
        digests: hashes the pictures of records; asked once, for those that no rule about places has dropped.

    Returns:
        The records that stay, and the reason of each other one.

    Raises:
        CoordinateError: most records lie in the region once latitude and longitude are exchanged.
    """
    dropped: Dropped = {}
    kept = records
    for rule in _in_order(rules, region, digests):
        found = rule(kept)
        dropped |= found
        kept = kept.filter(pc.invert(pc.is_in(kept["record_id"], pa.array(list(found), pa.string()))))
    return kept, dropped


def _in_order(rules: Rules, region: GeoDataFrame | None, digests: Digests) -> Iterator[Callable[[pa.Table], Dropped]]:
    yield lambda kept: excluded(kept, rules.exclude)
    yield bad_coordinates
    if region is not None:
        yield lambda kept: outside_region(kept, region, tolerance_km=rules.shore_km)
    yield lambda kept: exact_duplicates(kept, digests(kept))
    if rules.fraction < 1:
        yield lambda kept: beyond_fraction(kept, rules.fraction, rules.seed)
    yield lambda kept: by_landmark(
        kept,
        min_images=rules.min_images,
        max_images=rules.max_images,
        largest=rules.largest,
        seed=rules.seed,
    )


def count_reasons(dropped: Dropped) -> Counter[str]:
    """Count the reasons, without the detail that differs from record to record.

    >>> count_reasons({"a": "null island: 0, 0", "b": "null island: 0, 0", "c": "excluded by name"}).most_common()
    [('null island', 2), ('excluded by name', 1)]
    """
    return Counter(reason.split(": ")[0] for reason in dropped.values())


def hash_share(text: str, seed: int) -> float:
    """Map a text to a number in [0, 1) that never changes and looks random.

    >>> hash_share("place-00001", 1) == hash_share("place-00001", 1) != hash_share("place-00001", 2)
    True
    """
    digest = hashlib.sha256(f"{seed}:{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def coordinates(records: pa.Table) -> NDArray[np.float64]:
    """Compute `(N, 2)` latitude, longitude in degrees, NaN where a record has none."""
    columns = [pc.fill_null(records[name], np.nan).to_numpy() for name in ("latitude", "longitude")]
    return np.stack(columns, axis=1)


def excluded(records: pa.Table, names: Sequence[str]) -> Dropped:
    """Drop records that are named, by their id or by a landmark of theirs."""
    unwanted = pa.array([one_form(name) for name in names], pa.string())
    shown = pc.list_parent_indices(records["landmarks"]).filter(
        pc.is_in(pc.list_flatten(records["landmarks"]), unwanted)
    )
    rows = {*np.flatnonzero(pc.is_in(records["record_id"], unwanted)).tolist(), *shown.to_pylist()}
    return dict.fromkeys(records["record_id"].take(pa.array(sorted(rows), pa.int64())).to_pylist(), "excluded by name")


def bad_coordinates(records: pa.Table) -> Dropped:
    """Drop records whose coordinates are no place: halves, NaN, out of range, null island."""
    dropped: Dropped = {}
    given = records.filter(pc.or_(pc.is_valid(records["latitude"]), pc.is_valid(records["longitude"])))
    columns = (given[name].to_pylist() for name in ("record_id", "latitude", "longitude"))
    for record_id, latitude, longitude in zip(*columns, strict=True):
        if latitude is None or longitude is None or latitude != latitude or longitude != longitude:
            dropped[record_id] = "unreadable coordinates"
        elif not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
            dropped[record_id] = f"unreadable coordinates: {latitude}, {longitude} is no place on Earth"
        elif abs(latitude) < NULL_ISLAND_DEG and abs(longitude) < NULL_ISLAND_DEG:
            dropped[record_id] = "null island: 0, 0 is what a device writes that knows no place"
    return dropped


def outside_region(records: pa.Table, region: GeoDataFrame, *, tolerance_km: float) -> Dropped:
    """Drop records that lie off the region by more than a tolerance for its coarse shore.

    Args:
        records: with coordinates that are places, or none.
        region: polygons in EPSG:4326.
        tolerance_km: distance up to which a record off the outline stays.

    Raises:
        CoordinateError: most records lie outside, and inside once latitude and longitude are exchanged.
    """
    lat_lon = coordinates(records)
    known = np.flatnonzero(~np.isnan(lat_lon[:, 0]))
    distance_km = off_region_km(lat_lon[known], region)
    out = distance_km > tolerance_km
    if out.sum() > SWAPPED_SHARE * max(1, len(known)):
        _refuse_swapped(lat_lon[known], region, tolerance_km)
    ids = records["record_id"].to_pylist()
    return {
        ids[row]: "outside the region: " + (f"by {km:.0f} km" if np.isfinite(km) else "by far")
        for row, km in zip(known[out], distance_km[out], strict=True)
    }


def off_region_km(lat_lon: NDArray[np.float64], region: GeoDataFrame) -> NDArray[np.float64]:
    """Measure how far `(N, 2)` places lie off a region: 0 inside, infinite beyond 5 degrees from its bounds."""
    west, south, east, north = region.total_bounds
    margin_deg = 5.0
    near = (
        (lat_lon[:, 0] >= south - margin_deg)
        & (lat_lon[:, 0] <= north + margin_deg)
        & (lat_lon[:, 1] >= west - margin_deg)
        & (lat_lon[:, 1] <= east + margin_deg)
    )
    crs = resolve_crs("auto", region_lat_lon(region))
    outline = shapely.union_all(region.to_crs(crs).geometry.to_numpy())
    shapely.prepare(outline)
    distance_km = np.where(near, 0.0, np.inf)
    points = shapely.points(lat_lon[near][:, ::-1])
    outside = ~shapely.intersects(shapely.union_all(region.geometry.to_numpy()), points)
    rows = np.flatnonzero(near)[outside]
    distance_m = shapely.distance(outline, shapely.points(project(lat_lon[rows], crs, anywhere=True)))
    distance_km[rows] = np.round(distance_m / 1000, 6)
    return distance_km


def _refuse_swapped(lat_lon: NDArray[np.float64], region: GeoDataFrame, tolerance_km: float) -> None:
    exchanged = lat_lon[:, ::-1]
    possible = exchanged[np.abs(exchanged[:, 0]) <= 90]
    inside = int((off_region_km(possible, region) <= tolerance_km).sum())
    if inside > SWAPPED_SHARE * len(lat_lon):
        raise CoordinateError(
            f"latitude and longitude look swapped: {inside} of {len(lat_lon)} records lie in the region once they"
            " are exchanged; exchange the two columns in the source"
        )


def exact_duplicates(records: pa.Table, digests: Mapping[str, str]) -> Dropped:
    """Drop records all of whose views are byte for byte those of an earlier record.

    Args:
        records: in the order of `record_id`.
        digests: hash of the content of each picture, by its path.
    """
    first: dict[tuple[str, ...], str] = {}
    dropped: Dropped = {}
    paths = pc.struct_field(pc.list_flatten(records["views"]), "path").to_pylist()
    contents = [digests.get(path, f"missing {path}") for path in paths]
    start = 0
    lengths = pc.list_value_length(records["views"]).to_pylist()
    for record_id, views in zip(records["record_id"].to_pylist(), lengths, strict=True):
        content = tuple(contents[start : start + views])
        start += views
        if content in first:
            dropped[record_id] = f"exact duplicate: of {first[content]}"
        else:
            first[content] = record_id
    return dropped


def beyond_fraction(records: pa.Table, fraction: float, seed: int) -> Dropped:
    """Keep a share of the records, chosen by a hash of their group, the same ones every time.

    The hash is another one than that of the splits, which would else find every record that
    stays in training where both have the same seed.
    """
    rows = zip(records["record_id"].to_pylist(), records["group"].to_pylist(), strict=True)
    return {
        record_id: f"not in the fraction: of {fraction:g}"
        for record_id, group in rows
        if hash_share(f"fraction {group or record_id}", seed) >= fraction
    }


def by_landmark(
    records: pa.Table, *, min_images: int | None, max_images: int | None, largest: int | None, seed: int
) -> Dropped:
    """Drop landmarks with too few pictures, keep the largest, and cap those with too many, in this order.

    What `min_images` and `largest` look at is how many records a landmark has before it is capped: with `min_images:
    250, largest: 27, max_images: 500` the 27 largest of those with at least 250 stay, with 500 records each at most.
    The first landmark of a record counts. Records without a landmark stay.

    Args:
        records: what the other rules left.
        min_images: landmarks with fewer records are dropped.
        max_images: of a landmark with more, this many are kept, chosen by hash.
        largest: how many landmarks are kept, the largest first, ties by name.
        seed: of the choice under `max_images`.
    """
    label = first_landmarks(records)
    counts = Counter(label.values())
    ranked = sorted(counts, key=lambda landmark: (-counts[landmark], landmark))
    enough = [landmark for landmark in ranked if counts[landmark] >= (min_images or 0)]
    kept = set(enough[:largest])
    why = {landmark: _why(landmark, counts[landmark], min_images) for landmark in ranked if landmark not in kept}
    dropped = {record_id: why[landmark] for record_id, landmark in label.items() if landmark in why}
    if max_images is not None:
        large = {landmark for landmark in kept if counts[landmark] > max_images}
        dropped |= _above_cap(
            {record_id: landmark for record_id, landmark in label.items() if landmark in large}, max_images, seed
        )
    return dropped


def first_landmarks(records: pa.Table) -> dict[str, str]:
    """Return the first landmark of each record that has any, by record id."""
    rows, first = np.unique(pc.list_parent_indices(records["landmarks"]).to_numpy(), return_index=True)
    landmarks = pc.list_flatten(records["landmarks"]).take(pa.array(first))
    return dict(zip(records["record_id"].take(pa.array(rows)).to_pylist(), landmarks.to_pylist(), strict=True))


def _why(landmark: str, count: int, min_images: int | None) -> str:
    kind = "too few images" if min_images is not None and count < min_images else "not among the largest"
    return f"{kind}: landmark {landmark} has {count}"


def _above_cap(label: Mapping[str, str], max_images: int, seed: int) -> Dropped:
    taken: Counter[str] = Counter()
    dropped: Dropped = {}
    for record_id in sorted(label, key=lambda record_id: (hash_share(f"cap {record_id}", seed), record_id)):
        taken[label[record_id]] += 1
        if taken[label[record_id]] > max_images:
            dropped[record_id] = f"above max_images: landmark {label[record_id]} has more than {max_images}"
    return dropped
