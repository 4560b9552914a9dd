"""Pictures for the report: guesses to look at, and what the network sees."""

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from tasks.training.tables import headings
from waymark.images.batches import Batch
from waymark.images.decode import jpeg_bytes
from waymark.images.shards import Shards
from waymark.models.heads import CellHead
from waymark.models.inspection import class_activation, feature_maps, first_layer_filters
from waymark.models.locator import Locator


def inside(locator: Locator, record_id: str | None, batch: Batch | None) -> dict[str, Any]:
    """Show what the network looks for, and what it sees in one record.

    Args:
        locator: the network.
        record_id: of the record, None for none.
        batch: its pictures, and nothing else.

    Returns:
        `filters` and `feature_maps`, as labels and PNG.
    """
    shown: list[tuple[str, NDArray[np.uint8]]] = []
    if batch is not None:
        views, present = batch.views[0], batch.present[0]
        shown = feature_maps(locator, views, present)
        if isinstance(locator.place_head, CellHead):
            shown.append(class_activation(locator, views, present))
        if locator.landmark_head is not None:
            shown.append(class_activation(locator, views, present, landmark=True))
    return {
        "filters": _png("filters of the first layer", first_layer_filters(locator)),
        "feature_maps": [_png(f"{record_id}, {name}", pixels) for name, pixels in shown],
    }


def _png(label: str, pixels: NDArray[np.uint8]) -> dict[str, str]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return {"label": label, "png": base64.b64encode(file.getvalue()).decode()}


def gallery_of(predictions: pd.DataFrame, table: pd.DataFrame, shards: Shards, count: int) -> dict[str, list[Any]]:
    """Choose the best and the worst test guesses, with the pictures that the model saw."""
    ranked = predictions[(predictions["split"] == "test") & predictions["distance_km"].notna()]
    ranked = ranked.sort_values(["distance_km", "record_id"])
    views = table.set_index("record_id")["views"]
    columns = ["record_id", "distance_km", "latitude", "longitude", "predicted_latitude", "predicted_longitude"]
    chosen = {"best": ranked.head(count), "worst": ranked.iloc[::-1].head(count)}
    return {
        kind: [
            {
                **{name: row[name] for name in columns},
                "radius_90_km": None if np.isnan(row["radius_90_km"]) else row["radius_90_km"],
                "pictures": pictures_of(row["record_id"], views[row["record_id"]], shards),
            }
            for row in rows.to_dict("records")
        ]
        for kind, rows in chosen.items()
    }


def pictures_of(record_id: str, views: Any, shards: Shards) -> list[dict[str, Any]]:
    """Give the pictures of a record as the model saw them: `heading_deg` and `jpeg` in base64."""
    return [
        {"heading_deg": heading, "jpeg": base64.b64encode(jpeg_bytes(shards[record_id, view])).decode()}
        for view, heading in enumerate(headings(views))
        if (record_id, view) in shards
    ]
