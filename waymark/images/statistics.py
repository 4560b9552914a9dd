"""Statistics of training pixels by channel."""

import math
from typing import Any

import numpy as np
import pandas as pd


def channel_statistics(index: pd.DataFrame, record_ids: "pd.Series[str]", size_px: int) -> dict[str, Any]:
    """Compute the statistics of the pixels of records, from integer sums.

    Args:
        index: of the shards, with the sums of each picture.
        record_ids: records to include.
        size_px: side of the pictures.

    Returns:
        Number of pictures, and for red, green and blue mean, std, min and max from 0 to 255.
    """
    usable = index[(index["status"] == "ok") & index["record_id"].isin(record_ids)]
    pixels = len(usable) * size_px * size_px
    total = [sum(int(row[channel]) for row in usable["channel_sum"]) for channel in range(3)]
    squares = [sum(int(row[channel]) for row in usable["channel_sum_squares"]) for channel in range(3)]
    return {
        "pictures": len(usable),
        "mean": [sum_ / pixels for sum_ in total],
        "std": [
            math.sqrt((pixels * square - sum_ * sum_) / (pixels * pixels))
            for sum_, square in zip(total, squares, strict=True)
        ],
        "min": [int(np.min([row[channel] for row in usable["channel_min"]])) for channel in range(3)],
        "max": [int(np.max([row[channel] for row in usable["channel_max"]])) for channel in range(3)],
    }
