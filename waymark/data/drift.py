"""How far new data lie from those that a model was trained on: counts, landmarks, places, pictures."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import ks_2samp
from sklearn.neighbors import BallTree

from waymark.geo.sphere import EARTH_RADIUS_KM, nearest_km, unit_vectors

STEADY, DRIFT, TOO_FEW = "steady", "drift", "too few"
COLOURS = ("red", "green", "blue")

FEWEST = 20  # records on either side below which nothing is said of a distribution
P_VALUE = 0.01  # of a difference that chance would bring about so seldom
RECORDS_SHARE = 0.2  # of the records that may come or go
GONE_SHARE = 0.05  # of the records that may be missing
LANDMARK_SHARE = 0.1  # of the records that would need another landmark for the shares to agree
FAR_SHARE = 0.05  # of the records that may lie far from all that was trained on
FAR_QUANTILE = 0.99  # of the distances between a training place and the next: beyond is far
PLACES_H = 0.02  # coefficient of inhomogeneity
PICTURES_D = 0.1  # Kolmogorov-Smirnov distance

MOST_PLACES, PERMUTATIONS, SEED = 1000, 199, 1
NAMED = 5  # landmarks that are named before "and so on"


class Row(NamedTuple):
    """One thing that was compared."""

    what: str
    before: str
    now: str
    measure: str
    threshold: str
    verdict: str


def compare(before: pd.DataFrame, now: pd.DataFrame) -> list[Row]:
    """Compare data with those that a model was trained on.

    Args:
        before: a row for each training record: `record_id`, `latitude`, `longitude` (degrees or null), `landmark` (or
            null), `red`, `green`, `blue` (means of its pictures, 0 to 255, or null).
        now: likewise, what a model would be trained on now.

    Returns:
        A row for each thing that can be compared.
    """
    return [
        *_counts(before, now),
        *_landmarks(before["landmark"].dropna(), now["landmark"].dropna()),
        *_places(_lat_lon(before), _lat_lon(now)),
        *(row for colour in COLOURS for row in _pictures(colour, before[colour], now[colour])),
    ]


def _counts(before: pd.DataFrame, now: pd.DataFrame) -> list[Row]:
    change = (len(now) - len(before)) / max(1, len(before))
    gone = 1 - float(before["record_id"].isin(now["record_id"]).mean()) if len(before) else 0.0
    new = int((~now["record_id"].isin(before["record_id"])).sum())
    moved = Row(
        "records", f"{len(before):,}", f"{len(now):,}", f"{change:+.1%}", f"±{RECORDS_SHARE:.0%}",
        DRIFT if abs(change) > RECORDS_SHARE else STEADY,
    )  # fmt: skip
    left = Row(
        "records that went", "", f"{new:,} new", f"{gone:.1%} gone", f"{GONE_SHARE:.0%}",
        DRIFT if gone > GONE_SHARE else STEADY,
    )  # fmt: skip
    return [moved, left]


def _landmarks(before: "pd.Series[str]", now: "pd.Series[str]") -> list[Row]:
    if before.empty and now.empty:
        return []
    shares = [
        {str(name): share for name, share in values.value_counts(normalize=True).items()} for values in (before, now)
    ]
    known, found = (set(share) for share in shares)
    rows = [
        Row("new landmarks", "", f"{len(found - known):,}", _names(found - known), "none", _any(found - known)),
        Row("vanished landmarks", f"{len(known - found):,}", "", _names(known - found), "none", _any(known - found)),
    ]
    if not before.empty and not now.empty:
        moved = (shares[0].get(name, 0.0) - shares[1].get(name, 0.0) for name in known | found)
        distance = sum(map(abs, sorted(moved))) / 2  # total variation
        verdict = _distribution(len(before), len(now), distance > LANDMARK_SHARE)
        shown = (f"{len(known):,} landmarks", f"{len(found):,} landmarks")
        rows.append(Row("shares of landmarks", *shown, f"{distance:.1%} moved", f"{LANDMARK_SHARE:.0%}", verdict))
    return rows


def _any(names: set[str]) -> str:
    return DRIFT if names else STEADY


def _names(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join([*ordered[:NAMED], *(["…"] if len(ordered) > NAMED else [])])


def _distribution(before: int, now: int, differs: bool) -> str:
    if min(before, now) < FEWEST:
        return TOO_FEW
    return DRIFT if differs else STEADY


def _lat_lon(table: pd.DataFrame) -> NDArray[np.float64]:
    """Compute the `(N, 2)` latitude, longitude in degrees of the records that have them."""
    return table[["latitude", "longitude"]].dropna().to_numpy(dtype=np.float64)


def _places(before: NDArray[np.float64], now: NDArray[np.float64]) -> list[Row]:
    if not len(before) or not len(now):
        return []
    far_km = _far_km(before)
    share = float((nearest_km(now, before) > far_km).mean())
    far = Row(
        f"places farther than {far_km:.3g} km from all", "1.0%", f"{share:.1%}", "share", f"{FAR_SHARE:.0%}",
        _distribution(len(before), len(now), share > FAR_SHARE),
    )  # fmt: skip
    h, p = inhomogeneity(before, now)
    old, new = (f"{places.mean(axis=0)[0]:.2f}, {places.mean(axis=0)[1]:.2f}" for places in (before, now))
    spread = Row(
        "where the places lie (mean)", old, new, f"H {h:.3f}, p {p:.2g}", f"H {PLACES_H:g}, p {P_VALUE:g}",
        _distribution(len(before), len(now), h > PLACES_H and p < P_VALUE),
    )  # fmt: skip
    return [far, spread]


def _far_km(places: NDArray[np.float64]) -> float:
    """Compute the distance from which on a place would be unusually far from the next."""
    if len(places) < 2:
        return 0.0
    tree = BallTree(np.radians(places), metric="haversine")
    next_km = tree.query(np.radians(places), k=2)[0][:, 1] * EARTH_RADIUS_KM
    return float(np.quantile(next_km, FAR_QUANTILE))


def inhomogeneity(before: NDArray[np.float64], now: NDArray[np.float64]) -> tuple[float, float]:
    """Measure how differently two sets of places lie: 0 for equal distributions, 1 for places far apart.

    The coefficient of inhomogeneity is the energy distance over twice the mean distance between the sets (Székely and
    Rizzo 2013, section 3), here with chords through the globe, which are of negative type as it asks. The p-value is
    that of a permutation test. Of more than a thousand places a seeded sample counts.

    Args:
        before: `(N, 2)` latitude, longitude in degrees.
        now: `(M, 2)` likewise.

    Returns:
        The coefficient and the p-value.

    >>> inhomogeneity(np.array([[45.0, 16.0], [46.0, 17.0]]), np.array([[45.0, 16.0], [46.0, 17.0]]))
    (0.0, 1.0)
    """
    generator = np.random.default_rng(SEED)
    one, other = (_sample(places, generator) for places in (before, now))
    both = unit_vectors(np.concatenate([one, other]))
    distance = cdist(both, both)
    is_one = np.arange(len(both)) < len(one)
    measured = _coefficient(distance, is_one)
    drawn = [_coefficient(distance, generator.permutation(is_one)) for _ in range(PERMUTATIONS)]
    as_far = sum(h >= measured - 1e-12 for h in drawn)
    return measured, (1 + as_far) / (1 + PERMUTATIONS)


def _sample(places: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    if len(places) <= MOST_PLACES:
        return places
    return places[np.sort(generator.choice(len(places), MOST_PLACES, replace=False))]


def _coefficient(distance: NDArray[np.float64], is_one: NDArray[np.bool_]) -> float:
    one, other = is_one / is_one.sum(), ~is_one / (~is_one).sum()
    across, within = one @ distance @ other, one @ distance @ one + other @ distance @ other
    return max(0.0, round(float(1 - within / (2 * across)), 9)) if across > 0 else 0.0


def _pictures(colour: str, before: "pd.Series[float]", now: "pd.Series[float]") -> list[Row]:
    before, now = before.dropna(), now.dropna()
    if before.empty or now.empty:
        return []
    found = ks_2samp(before, now)
    differs = bool(found.statistic > PICTURES_D and found.pvalue < P_VALUE)
    medians = float(before.median()), float(now.median())
    way = ("darker" if medians[1] < medians[0] else "brighter" if medians[1] > medians[0] else "other") + ", "
    measure = f"{way if differs else ''}D {found.statistic:.3f}, p {found.pvalue:.2g}"
    threshold = f"D {PICTURES_D:g}, p {P_VALUE:g}"
    old, new = (f"{median:.1f}" for median in medians)
    verdict = _distribution(len(before), len(now), differs)
    return [Row(f"{colour} of pictures (median)", old, new, measure, threshold, verdict)]


def markdown(rows: Iterable[Row]) -> str:
    """Write rows as a table, with a sentence that names what drifts."""
    rows = list(rows)
    drifting = [row.what for row in rows if row.verdict == DRIFT]
    words = f"**Drift** in {', '.join(drifting)}." if drifting else "No drift."
    lines = ["| what | trained on | now | measure | drift beyond | |", "|---|---:|---:|---|---|---|"]
    lines += [f"| {' | '.join(_cell(part) for part in row)} |" for row in rows]
    return words + "\n\n" + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
