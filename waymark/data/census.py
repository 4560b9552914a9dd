"""What a collection is like before anything is learnt: pictures per landmark, sizes and orientation of pictures."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

MOST_LANDMARKS = 100
MOST_SIZES = 10
QUANTILES = {"q10": 0.1, "q50": 0.5, "q90": 0.9}


def landmark_figures(landmarks: pa.Table) -> dict[str, Any]:
    """Count the pictures of the landmarks.

    Args:
        landmarks: a table of `waymark.data.records.LANDMARK_SCHEMA`.

    Returns:
        `images_per_landmark`, the 100 largest landmarks with `landmark`, `name` and `images`, ties by landmark; and
        `share_over_10` and `share_over_100`, the shares of the landmarks with more than 10 and 100 images, None where
        there are no landmarks.
    """
    images = landmarks["images"].to_numpy()
    largest = landmarks.sort_by([("images", "descending"), ("landmark", "ascending")]).slice(0, MOST_LANDMARKS)
    return {
        "images_per_landmark": largest.to_pylist(),
        **{f"share_over_{few}": float((images > few).mean()) if len(images) else None for few in (10, 100)},
    }


def dimension_figures(records: pa.Table) -> dict[str, Any]:
    """Measure the first pictures of records, and count their orientations.

    Args:
        records: a table of `waymark.data.records.RECORD_SCHEMA`.

    Returns:
        `orientations`, the number of records that are `portrait`, `landscape`, `square` or `unknown` (either side is
        null); `sizes`, the ten commonest with `width`, `height` in pixels and `records`, ties by width and height; and
        quantiles `q10`, `q50`, `q90` of `width`, `height` and `megapixels`, None where no size is known.
    """
    known = records.select(["width", "height"]).drop_null().to_pandas()
    width, height = known["width"], known["height"]
    counts = known.value_counts().rename("records").reset_index()
    commonest = counts.sort_values(["records", "width", "height"], ascending=[False, True, True]).head(MOST_SIZES)
    return {
        "orientations": {
            "portrait": int((width < height).sum()),
            "landscape": int((width > height).sum()),
            "square": int((width == height).sum()),
            "unknown": records.num_rows - len(known),
        },
        "sizes": commonest.to_dict("records"),
        "width": _quantiles(width),
        "height": _quantiles(height),
        "megapixels": _quantiles(width.astype(np.int64) * height / 1e6),
    }


def _quantiles(values: "pd.Series[Any]") -> dict[str, float | None]:
    return {name: float(values.quantile(share)) if len(values) else None for name, share in QUANTILES.items()}
