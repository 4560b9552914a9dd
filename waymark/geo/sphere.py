"""Distances on the sphere for NumPy; `waymark.metrics.functional` has the same for tensors, with gradients."""

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
