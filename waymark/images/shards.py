"""Pixels of many pictures in few memory-mapped files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from waymark.errors import ModelError

SHARD_BYTES = 64 * 2**20
CHANNELS = pa.list_(pa.int64())  # red, green, blue; Parquet cannot read nulls among lists of fixed length

INDEX_SCHEMA = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("view", pa.int32(), nullable=False),
        ("shard", pa.int32()),
        ("row", pa.int32()),
        pa.field("status", pa.string(), nullable=False),
        ("perceptual_hash", pa.string()),
        ("channel_sum", CHANNELS),
        ("channel_sum_squares", CHANNELS),
        ("channel_min", CHANNELS),
        ("channel_max", CHANNELS),
    ]
)


def check_size(shard_px: int, size_px: int) -> None:
    """Refuse a model that would see larger pictures than the shards have.

    Raises:
        ModelError: pictures would have to be enlarged.
    """
    if size_px > shard_px:
        raise ModelError(
            f"size_px of the model is {size_px}, and the shards have {shard_px} px;"
            f" set resize.size_px to {size_px} or more, or the model's size_px to {shard_px} or less"
        )


def shard_rows(size_px: int) -> int:
    """Return the number of pictures in a full shard."""
    return max(1, SHARD_BYTES // (size_px * size_px * 3))


def shard_name(shard: int) -> str:
    """Return the file name of a shard.

    >>> shard_name(7)
    'shard-00007.arrow'
    """
    return f"shard-{shard:05d}.arrow"


def write_shard(pictures: Sequence[NDArray[np.uint8]], size_px: int, path: Path) -> None:
    """Write `(size_px, size_px, 3)` pictures as one uncompressed Arrow file."""
    schema = pa.schema([("pixels", pa.binary(size_px * size_px * 3))], metadata={"size_px": str(size_px)})
    column = pa.array([picture.tobytes() for picture in pictures], type=schema.field("pixels").type)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([column], schema=schema))


class Shards:
    """Pictures of a folder of shards, by record and view, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = pq.read_table(folder / "index.parquet")
        columns = [self.index[name].to_pylist() for name in ("record_id", "view", "shard", "row", "status")]
        self._place = {
            (record_id, view): (shard, row)
            for record_id, view, shard, row, status in zip(*columns, strict=True)
            if status == "ok"
        }
        self._shards: dict[int, NDArray[np.uint8]] = {}
        self.size_px = int(self.index.schema.metadata[b"size_px"])
        self.fit = self.index.schema.metadata.get(b"fit", b"crop").decode()  # how a picture became square

    def _open(self, shard: int) -> NDArray[np.uint8]:
        """Map a shard as `(rows, size_px, size_px, 3)`."""
        if shard not in self._shards:
            table = pa.ipc.open_file(pa.memory_map(str(self.folder / shard_name(shard)))).read_all()
            pixels = table["pixels"].chunk(0).buffers()[1]
            shape = (table.num_rows, self.size_px, self.size_px, 3)
            self._shards[shard] = np.frombuffer(pixels, dtype=np.uint8).reshape(shape)
        return self._shards[shard]

    def __contains__(self, key: tuple[str, int]) -> bool:
        return key in self._place

    def __getitem__(self, key: tuple[str, int]) -> NDArray[np.uint8]:
        """Return the `(size_px, size_px, 3)` pixels of a view, without copying.

        Raises:
            KeyError: the view has no pixels (it is quarantined, or unknown).
        """
        shard, row = self._place[key]
        pixels: NDArray[np.uint8] = self._open(shard)[row]
        return pixels

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_shards": {}}  # workers map the files themselves
