"""Features of pictures, computed once, in one memory-mapped file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

FEATURES, INDEX, ABOUT = "features.npy", "index.parquet", "backbone.json"
INDEX_SCHEMA = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("view", pa.int32(), nullable=False),
        pa.field("mirrored", pa.bool_(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("pixels_sha256", pa.binary(32), nullable=False),
    ]
)


class Embeddings:
    """Features of a folder of `data/embeddings`, by record and view.

    Args:
        folder: with `features.npy` (float16, `(rows, width)`), `index.parquet` and `backbone.json`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about: dict[str, Any] = json.loads((folder / ABOUT).read_text())
        self.width = int(self.about["width"])
        index = pq.read_table(folder / INDEX)
        columns = [index[name].to_pylist() for name in ("record_id", "view", "mirrored", "row")]
        places = {(record, view, mirrored): row for record, view, mirrored, row in zip(*columns, strict=True)}
        self._place = {key[:2]: row for key, row in places.items() if not key[2]}
        self._mirrored = {key[:2]: row for key, row in places.items() if key[2]}
        self._features: NDArray[np.float16] | None = None

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._place

    def __getitem__(self, key: tuple[str, int]) -> NDArray[np.float16]:
        """Return the `(width,)` features of a view.

        Raises:
            KeyError: the view has no pixels.
        """
        return self._read(self._place[key])

    def mirrored(self, key: tuple[str, int]) -> NDArray[np.float16] | None:
        """Return the `(width,)` features of a mirrored view, None where they were not computed."""
        row = self._mirrored.get(key)
        return None if row is None else self._read(row)

    def _read(self, row: int) -> NDArray[np.float16]:
        if self._features is None:
            self._features = np.load(self.folder / FEATURES, mmap_mode="r")
        features: NDArray[np.float16] = self._features[row]
        return features

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_features": None}  # workers map the file themselves
