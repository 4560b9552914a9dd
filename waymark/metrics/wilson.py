"""The 95 % interval of a share of a count."""

import numpy as np
import numpy.typing as npt

Z = 1.959964  # of 95 %
Floats = npt.NDArray[np.float64]


def wilson_interval(share: Floats | float, count: Floats | float) -> tuple[Floats, Floats]:
    """Compute the score interval (Wilson, 1927, Probable Inference), which shares of exactly 0 and 1 have, too.

    Args:
        share: from 0 to 1.
        count: of which it is a share.

    Returns:
        The ends; 0 and 1 where nothing was counted.

    >>> low, high = wilson_interval(1.0, 16)
    >>> round(float(low), 3), round(float(high), 3)
    (0.806, 1.0)
    """
    n = np.maximum(count, 1e-9)
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n * n)) / (1 + Z**2 / n)
    return np.minimum(middle - half, share), np.maximum(middle + half, share)
