"""What val and test share with training: places, groups and pictures that make a test too easy."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.neighbors import BallTree

from waymark.metrics.functional import EARTH_RADIUS_KM
from waymark.metrics.nearness import nearness_quantiles

HELD_OUT = ("val", "test")
NEAR_M = (10, 100, 1000)
HASH_BITS = 64
MOST_BITS = 4  # that the hashes of near-duplicates differ in; pictures at random differ in 32
EXAMPLES = 20

# Above these shares of a split the audit calls it a leak.
NEAR_SHARE = 0.1  # of records within 100 m of a training place
COPY_SHARE = 0.01  # of records that show a picture of training

_COMPARED_AT_ONCE = 20_000_000  # hashes, about 200 MB

OK, WATCH, LEAK = "ok", "watch", "leak"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `ok`, `watch` or `leak`, what was found, and what to do about it."""

    verdict: str
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Leakage:
    """What val and test share with training.

    Attributes:
        splits: figures by split: `records`, `places`, `nearest_train_km` (quantiles), `within_10m`, `_100m`,
            `_1000m` (shares of places), `same_place` (records with coordinates of training), `grouped` (records with
            a group), `shared_groups` (of those that another split holds, too), `in_shared_groups` (records),
            `near_duplicates` (records that show a picture of training), `pictures`, `flat_pictures` (not compared).
        copies: the first near-duplicates: `record_id`, `split`, `train_record_id`, `bits` that the hashes differ in.
        findings: what it means.
    """

    splits: dict[str, dict[str, Any]]
    copies: list[dict[str, Any]]
    findings: list[Finding]

    @property
    def verdict(self) -> str:
        """The worst of the findings."""
        return max((finding.verdict for finding in self.findings), key=(OK, WATCH, LEAK).index, default=OK)

    def document(self) -> dict[str, Any]:
        """Give the audit as JSON."""
        return {"verdict": self.verdict, **asdict(self)}


def nearest_km(lat_lon: NDArray[np.float64], training: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure the great-circle distance to the nearest training place.

    Args:
        lat_lon: `(N, 2)` latitude, longitude in degrees, NaN where unknown.
        training: `(M, 2)` latitude, longitude in degrees, NaN where unknown.

    Returns:
        `(N,)` kilometres, NaN where a place is unknown or there is no training place.

    >>> nearest_km(np.array([[45.0, 16.0]]), np.array([[46.0, 16.0], [45.0, 17.0]])).round(1).tolist()
    [78.6]
    """
    found = np.full(len(lat_lon), np.nan)
    known, places = _known(lat_lon), training[_known(training)]
    if known.any() and len(places):
        tree = BallTree(np.radians(places), metric="haversine")
        found[known] = tree.query(np.radians(lat_lon[known]))[0][:, 0] * EARTH_RADIUS_KM
    return found


def near_duplicates(
    hashes: NDArray[np.uint64], training: NDArray[np.uint64], *, most_bits: int = MOST_BITS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the training picture whose perceptual hash differs least (Hamming distance).

    Every pair is compared, by a XOR and a count of bits: 2,400 against 9,600 pictures in a tenth of a second, 100,000
    against 400,000 in some minutes.

    Args:
        hashes: `(N,)` hashes of 64 bits.
        training: `(M,)` hashes of 64 bits.
        most_bits: beyond this distance pictures are no near-duplicates.

    Returns:
        `(N,)` row of the nearest training hash, -1 where none is within `most_bits`; the first of equals. And `(N,)`
        bits that the two differ in, -1 where none.
    """
    row, bits = np.full(len(hashes), -1, dtype=np.int64), np.full(len(hashes), -1, dtype=np.int64)
    step = max(1, _COMPARED_AT_ONCE // max(1, len(training)))
    for start in range(0, len(hashes) if len(training) else 0, step):
        chunk = slice(start, start + step)
        differing = np.bitwise_count(hashes[chunk, None] ^ training[None, :])  # (step, M)
        nearest = differing.argmin(axis=1)
        least = np.take_along_axis(differing, nearest[:, None], axis=1)[:, 0].astype(np.int64)
        near = least <= most_bits
        row[chunk] = np.where(near, nearest, -1)
        bits[chunk] = np.where(near, least, -1)
    return row, bits


def audit(records: pd.DataFrame, pictures: pd.DataFrame) -> Leakage:
    """Look for what val and test share with training.

    Args:
        records: columns `record_id`, `split`, `latitude`, `longitude` (degrees or null), `group` (or null).
        pictures: columns `record_id`, `perceptual_hash` (16 hexadecimal digits), one row for each usable picture.
    """
    train = records[records["split"] == "train"]
    known = pictures.merge(records[["record_id", "split"]], on="record_id")
    known["hash"] = [int(digits, 16) for digits in known["perceptual_hash"]]
    known["flat"] = _flat(known["hash"].to_numpy(dtype=np.uint64))
    copies = _copies(known)
    splits = {
        split: {
            **_of_places(records[records["split"] == split], train),
            **_of_groups(records, split),
            **_of_pictures(known[known["split"] == split], copies),
        }
        for split in HELD_OUT
    }
    names = ["record_id", "split", "train_record_id", "bits"]
    shown = [dict(zip(names, row, strict=True)) for row in copies[names].head(EXAMPLES).to_numpy().tolist()]
    return Leakage(splits, shown, _findings(splits))


def _known(lat_lon: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(lat_lon).all(axis=1))


def _degrees(records: pd.DataFrame) -> NDArray[np.float64]:
    return records[["latitude", "longitude"]].to_numpy(dtype=np.float64)


def _of_places(records: pd.DataFrame, train: pd.DataFrame) -> dict[str, Any]:
    distance_km = nearest_km(_degrees(records), _degrees(train))
    places = distance_km[np.isfinite(distance_km)]
    taken = set(map(tuple, _degrees(train)[_known(_degrees(train))]))
    return {
        "records": len(records),
        "places": len(places),
        "nearest_train_km": nearness_quantiles(pd.Series(places)),
        **{f"within_{m}m": float((places * 1000 <= m).mean()) if len(places) else None for m in NEAR_M},
        "same_place": sum(tuple(place) in taken for place in _degrees(records)[_known(_degrees(records))]),
    }


def _of_groups(records: pd.DataFrame, split: str) -> dict[str, Any]:
    groups = records.loc[records["split"] == split, "group"].dropna()
    others = records.loc[records["split"].isin({"train", *HELD_OUT} - {split}), "group"].dropna()
    shared = groups[groups.isin(others)]
    return {"grouped": len(groups), "shared_groups": int(shared.nunique()), "in_shared_groups": len(shared)}


def _of_pictures(pictures: pd.DataFrame, copies: pd.DataFrame) -> dict[str, Any]:
    return {
        "pictures": len(pictures),
        "flat_pictures": int(pictures["flat"].sum()),
        "near_duplicates": int(copies["record_id"].isin(pictures["record_id"]).sum()),
    }


def _copies(pictures: pd.DataFrame) -> pd.DataFrame:
    """List the held-out records that show a picture of training, each with the one that is most alike."""
    telling = pictures[~pictures["flat"]]
    train, held_out = telling[telling["split"] == "train"], telling[telling["split"].isin(HELD_OUT)]
    row, bits = near_duplicates(*(its["hash"].to_numpy(dtype=np.uint64) for its in (held_out, train)))
    near = row >= 0
    found = held_out.loc[near, ["record_id", "split"]].assign(
        train_record_id=train["record_id"].to_numpy()[row[near]], bits=bits[near]
    )
    return found.sort_values(["bits", "record_id", "train_record_id"], ignore_index=True).drop_duplicates("record_id")


def _flat(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Find the hashes that say nothing: pictures without structure are alike whatever they show."""
    ones = np.bitwise_count(hashes)
    flat: NDArray[np.bool_] = (ones <= MOST_BITS) | (ones >= HASH_BITS - MOST_BITS)
    return flat


def _findings(splits: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    return [_on_groups(splits), _on_copies(splits), _on_same_places(splits), _on_nearness(splits)]


def _on_groups(splits: Mapping[str, Mapping[str, Any]]) -> Finding:
    shared = {split: figures["in_shared_groups"] for split, figures in splits.items()}
    if not any(figures["grouped"] for figures in splits.values()):
        return Finding(
            OK,
            "No held-out record names a group, so that none can be shared.",
            "If several records come from one panorama, sequence or author, let the source name their group.",
        )
    if any(shared.values()):
        return Finding(
            LEAK,
            f"Groups are split apart: {_counts(shared)} belong to a group that another split holds, too.",
            "Use split.by: hash or blocks, which never split a group apart.",
        )
    return Finding(OK, "No group is split apart.")


def _on_copies(splits: Mapping[str, Mapping[str, Any]]) -> Finding:
    copies = {split: figures["near_duplicates"] for split, figures in splits.items()}
    if not any(copies.values()):
        return Finding(OK, f"No held-out picture is within {MOST_BITS} of {HASH_BITS} bits of a training picture.")
    much = any(copies[split] > COPY_SHARE * figures["records"] for split, figures in splits.items())
    return Finding(
        LEAK if much else WATCH,
        f"Near-duplicate pictures stand on both sides: {_counts(copies)} show one of training.",
        "Look at the pairs; give records of one scene the same group, or use split.by: blocks.",
    )


def _on_same_places(splits: Mapping[str, Mapping[str, Any]]) -> Finding:
    same = {split: figures["same_place"] for split, figures in splits.items()}
    if not any(same.values()):
        return Finding(OK, "No held-out record has exactly the coordinates of a training record.")
    much = any(same[split] > COPY_SHARE * figures["records"] for split, figures in splits.items())
    return Finding(
        LEAK if much else WATCH,
        f"Exactly the same coordinates stand on both sides: {_counts(same)}.",
        "Give records of one place the same group, or use split.by: blocks.",
    )


def _on_nearness(splits: Mapping[str, Mapping[str, Any]]) -> Finding:
    near = {split: figures["within_100m"] for split, figures in splits.items() if figures["within_100m"] is not None}
    if not near:
        return Finding(OK, "No held-out record has a place, so that none is near to training.")
    shares = " and ".join(f"{share:.1%} of {split}" for split, share in near.items())
    if max(near.values()) > NEAR_SHARE:
        return Finding(
            LEAK,
            f"{shares} lie within 100 m of a training place: such a test asks for memory.",
            "Use split.by: blocks, or add the model to the section gap and read what a block split says.",
        )
    return Finding(OK, f"{shares} lie within 100 m of a training place.")


def _counts(records: Mapping[str, int]) -> str:
    return " and ".join(
        f"{count:,} {split} {'record' if count == 1 else 'records'}" for split, count in records.items()
    )
