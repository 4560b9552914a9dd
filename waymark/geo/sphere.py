"""The sphere for NumPy: distances, nearest places and unit vectors.

`waymark.metrics.functional` measures distances of tensors, with gradients.
"""

import numpy as np
from numpy.typing import NDArray

EARTH_RADIUS_KM = 6371.0088  # mean radius R1, IUGG (Moritz 2000)


def great_circle_km(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measure great-circle distances on a sphere of radius 6371.0088 km, by the haversine formula (Sinnott 1984).

    Args:
        one: `(..., 2)` latitude, longitude in degrees.
        other: `(..., 2)` latitude, longitude in degrees.

    Returns:
        `(...)` kilometres; NaN where a coordinate is.

    >>> great_circle_km(np.array([45.815, 15.982]), np.array([43.508, 16.440])).round(1).item()
    259.1
    """
    one, other = np.radians(one), np.radians(other)
    half = (other - one) / 2
    cosines = np.cos(one[..., 0]) * np.cos(other[..., 0])
    h = np.sin(half[..., 0]) ** 2 + cosines * np.sin(half[..., 1]) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(h, 0, 1))))


def unit_vectors(lat_lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn `(..., 2)` latitude, longitude in degrees into `(..., 3)` unit vectors.

    >>> unit_vectors(np.array([0.0, 90.0])).round(9).tolist()
    [0.0, 1.0, 0.0]
    """
    latitude, longitude = np.radians(lat_lon[..., 0]), np.radians(lat_lon[..., 1])
    level = np.cos(latitude)
    return np.stack([level * np.cos(longitude), level * np.sin(longitude), np.sin(latitude)], axis=-1)


def to_degrees(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn `(..., 3)` vectors of any length into `(..., 2)` latitude, longitude in degrees.

    >>> to_degrees(np.array([0.0, 0.0, -3.0])).tolist()
    [-90.0, 0.0]
    """
    x, y, z = np.moveaxis(vectors, -1, 0)
    lat_lon: NDArray[np.float64] = np.degrees(np.stack([np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)], axis=-1))
    return lat_lon


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
    from sklearn.neighbors import BallTree  # late: it takes a second, which most who measure distances need not wait

    found = np.full(len(lat_lon), np.nan)
    known, trained = (~np.isnan(degrees).any(axis=1) for degrees in (lat_lon, training))
    places = training[trained]
    if known.any() and len(places):
        tree = BallTree(np.radians(places), metric="haversine")
        found[known] = tree.query(np.radians(lat_lon[known]))[0][:, 0] * EARTH_RADIUS_KM
    return found
