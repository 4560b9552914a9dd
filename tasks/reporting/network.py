"""Pictures of what a network looks for, and of what it sees in one record."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.common.outputs import file_digest
from tasks.reporting.pictures import Pictures
from tasks.training.predictions import batches_of
from waymark.errors import ModelError
from waymark.models.heads import CellHead
from waymark.models.locator import Locator, load_locator
from waymark.report.content import Picture
from waymark.report.network import class_activation, feature_maps, first_layer_filters, token_attention

TRAINED = Path("trained")


def network_pictures(
    model: str, sha256: str, record_id: str | None, pictures: Pictures
) -> tuple[Picture, list[Picture]]:
    """Draw the filters of a network, its feature maps and its Grad-CAM; of a transformer its attention.

    Args:
        model: name of its entry.
        sha256: of the checkpoint that was evaluated.
        record_id: of the record that it looks at, None for none.
        pictures: of the records.

    Raises:
        ModelError: another checkpoint lies there than the one that was evaluated.
    """
    checkpoint = TRAINED / model / "model.ckpt"
    if file_digest(checkpoint) != sha256:
        raise ModelError(f"{checkpoint} is not the network that was evaluated; run dvc repro")
    locator = load_locator(checkpoint)
    seen = [] if record_id is None else _seen(locator, record_id, pictures)
    filters = _picture("filters of the first layer", first_layer_filters(locator))
    return filters, [_picture(f"{record_id}, {name}", pixels) for name, pixels in seen]


def _seen(locator: Locator, record_id: str, pictures: Pictures) -> list[tuple[str, NDArray[np.uint8]]]:
    table = pictures.table[pictures.table["record_id"] == record_id]
    batch = next(iter(batches_of(locator, table, pictures.shards, 1)))
    views, present = batch.views[0], batch.present[0]
    if not locator.backbone.has_maps:
        drawn = token_attention(locator, views, present)
        return [drawn] if drawn else []
    shown = feature_maps(locator, views, present)
    if isinstance(locator.place_head, CellHead):
        shown.append(class_activation(locator, views, present))
    if locator.landmark_head is not None:
        shown.append(class_activation(locator, views, present, landmark=True))
    return shown


def _picture(label: str, pixels: NDArray[np.uint8]) -> Picture:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return Picture(file.getvalue(), label)
