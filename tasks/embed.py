"""Send every picture through a frozen backbone once; models learn from what comes out."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from tasks.common.outputs import whole_file, whole_folder, work_folder, write_json
from tasks.common.stage import Stage
from waymark.data.records import write_table
from waymark.errors import ModelError
from waymark.images.embeddings import ABOUT, FEATURES, INDEX, INDEX_SCHEMA
from waymark.images.shards import Shards, check_size
from waymark.models.backbones import check_backbone
from waymark.models.embedding import Embedder, EmbeddingOptions, mirrored
from waymark.models.weights import ANOTHER, NONE

logger = logging.getLogger(__name__)

SHARDS = Path("data/shards")
EMBEDDINGS = Path("data/embeddings")
PART = 512  # pictures whose features are kept at once: so many are lost by a kill


def check_entry(options: EmbeddingOptions) -> None:
    """Refuse a backbone that is unknown, or that knows nothing.

    Raises:
        ModelError: it is.
    """
    check_backbone(options.backbone)
    if options.weights == NONE:
        raise ModelError(f"embeddings of a network that has learnt nothing are of no use; {ANOTHER}")


STAGE = Stage("embed", EmbeddingOptions, section="embeddings.{entry}", each="embeddings", check=check_entry)


class View(NamedTuple):
    """A picture to be embedded."""

    record_id: str
    view: int
    mirrored: bool
    digest: bytes  # of its pixels


def embed(name: str, options: EmbeddingOptions) -> None:
    """Send every picture through a frozen backbone once; models learn from what comes out."""
    shards = Shards(SHARDS)
    check_size(shards.size_px, options.size_px or shards.size_px)
    views = list(_views(shards, options.flip))
    if not views:
        raise ModelError("there is no picture to embed: all are quarantined; see data/shards/quarantine.parquet")
    embedder = Embedder(options, shards.size_px)
    about = {**embedder.describe(), "fit": shards.fit}
    # It stays after success: pictures that are new tomorrow cost their own pass only.
    kept = work_folder("embed", {**asdict(options), **about}, [])
    _complete(kept, views, shards, embedder, name)
    known = _read(kept)
    with whole_folder(EMBEDDINGS / name) as folder:
        features = np.stack([known[view.digest] for view in views])
        np.save(folder / FEATURES, features)
        write_table(_index(views), folder / INDEX)
        write_json(about, folder / ABOUT)
    logger.info("%s: %d pictures to %d features each", name, len(views), embedder.width)


def _views(shards: Shards, flip: bool) -> Iterator[View]:
    """List the pictures in the order of the shards' index, each before its mirrored one."""
    index = shards.index.filter(pa.compute.equal(shards.index["status"], "ok"))
    for record_id, view in zip(index["record_id"].to_pylist(), index["view"].to_pylist(), strict=True):
        pixels = shards[record_id, view]
        yield View(record_id, view, False, hashlib.sha256(pixels.tobytes()).digest())
        if flip:
            yield View(record_id, view, True, hashlib.sha256(mirrored(pixels).tobytes()).digest())


def _complete(kept: Path, views: list[View], shards: Shards, embedder: Embedder, name: str) -> None:
    """Embed what no earlier run has, part by part."""
    known = _read(kept)
    waiting = {view.digest: view for view in views if view.digest not in known}
    pictures = embedder.embed(_pixels(view, shards) for view in waiting.values())
    left = iter(waiting)
    with tqdm(total=len(views), initial=len(views) - len(waiting), unit="picture", desc=name, disable=None) as progress:
        while digests := list(islice(left, PART)):
            features = np.stack(list(islice(pictures, len(digests))))
            with whole_file(kept / f"{digests[0].hex()}.npz") as path, path.open("wb") as file:
                np.savez(file, digests=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32), features=features)
            progress.update(len(digests))


def _pixels(view: View, shards: Shards) -> NDArray[np.uint8]:
    pixels = shards[view.record_id, view.view]
    return mirrored(pixels) if view.mirrored else pixels


def _read(kept: Path) -> dict[bytes, NDArray[np.float16]]:
    """Read the features that are known, by the digest of their pixels."""
    known: dict[bytes, Any] = {}
    for path in sorted(kept.glob("*.npz")):
        with np.load(path) as part:
            known.update(zip((digest.tobytes() for digest in part["digests"]), part["features"], strict=True))
    return known


def _index(views: list[View]) -> pa.Table:
    columns: list[Any] = [*zip(*views, strict=True)]
    rows = list(range(len(views)))
    return pa.table([*columns[:3], rows, columns[3]], schema=INDEX_SCHEMA)


if __name__ == "__main__":
    STAGE.main(embed)
