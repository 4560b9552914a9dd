"""What a near-duplicate is: the one rule by which splits, audits and checks call two records the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import faiss
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

HASH_BITS = 64
MOST_BITS = 4  # that the hashes of near-duplicates differ in; pictures at random differ in 32
OF_CONTRAST = 0.25  # of the standard deviation of their levels, so much their colours may differ: bare walls look alike
FAINTEST, STRONGEST = (
    3.0,
    14.0,
)  # levels of 255 between which that stays; the first is what JPEG at another quality does

_PAIRS_AT_ONCE = 50_000_000  # found by one search at most, 12 bytes each


@dataclass(frozen=True)
class Looks:
    """How N records look, view by view; a record with fewer than V views has nothing in the others.

    Two pictures show the same if at most 4 of the 64 bits of their gradient hashes differ, and if neither the mean
    nor the standard deviation of a channel differs by more than a quarter of the fainter one's contrast, at least 3
    and at most 14 of 255 levels. A picture without structure, whose hash has at most 4 bits of either kind, says
    nothing: it is alike to others whatever they show.

    Two records are near-duplicates if *each* view that both have and that says something shows the same, and there is
    such a view. Views are held against each other by their place in the record. One alike view of four is not enough:
    a notice that stands in for a missing view, a wall or a sky would make copies of places that differ.

    Attributes:
        hashes: `(N, V)` gradient hashes of 64 bits.
        seen: `(N, V)` whether there is a picture.
        mean: `(N, V, 3)` of each channel, in levels of 255.
        std: `(N, V, 3)` standard deviation of each channel.
    """

    hashes: NDArray[np.uint64]
    seen: NDArray[np.bool_]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def pictured(self) -> NDArray[np.bool_]:
        """`(N,)` whether a record has a picture at all."""
        return np.asarray(self.seen.any(axis=1))

    @property
    def telling(self) -> NDArray[np.bool_]:
        """`(N, V)` whether there is a picture with enough structure to be compared."""
        ones = np.bitwise_count(self.hashes)
        return np.asarray(self.seen & (ones > MOST_BITS) & (ones < HASH_BITS - MOST_BITS))


class Pairs(NamedTuple):
    """P near-duplicates: `(P,)` rows of the one record, of the other, and the most bits that two views differ in."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    bits: NDArray[np.int64]


class Copies(NamedTuple):
    """Near-duplicates of records among others.

    Attributes:
        nearest: each record that has any, once and in ascending order, as the left, with the one that differs in the
            fewest bits; the first of the equally near.
        copied: `(others,)` whether one of the records is a near-duplicate of it.
    """

    nearest: Pairs
    copied: NDArray[np.bool_]


def looks_of(index: pa.Table, record_ids: Sequence[str]) -> Looks:
    """Read from the index of the shards how records look.

    Args:
        index: table of `waymark.images.shards.INDEX_SCHEMA` with its metadata, of these records and maybe others.
        record_ids: N records, each once; one that the index does not know has no picture.
    """
    pixels = int(index.schema.metadata[b"size_px"]) ** 2
    index = index.filter(pc.equal(index["status"], "ok"))
    rows = pd.Index(record_ids).get_indexer(pd.Index(index["record_id"].to_pandas()))
    index, rows = index.filter(pa.array(rows >= 0)), rows[rows >= 0]
    views = index["view"].to_numpy()
    shape = (len(record_ids), int(views.max(initial=0)) + 1)
    hashes, seen = np.zeros(shape, np.uint64), np.zeros(shape, bool)
    mean, std = np.zeros((*shape, 3)), np.zeros((*shape, 3))
    hashes[rows, views] = hash_numbers(index["perceptual_hash"].to_pylist())
    seen[rows, views] = True
    mean[rows, views] = average = _channels(index["channel_sum"]) / pixels
    squares = _channels(index["channel_sum_squares"]) / pixels
    std[rows, views] = np.sqrt(np.maximum(squares - average * average, 0))
    return Looks(hashes, seen, mean, std)


def hash_numbers(digits: Sequence[str]) -> NDArray[np.uint64]:
    """Read `(N,)` hashes of 64 bits from their 16 hexadecimal digits.

    >>> hash_numbers(["00000000000000ff", "8000000000000000"]).tolist()
    [255, 9223372036854775808]
    """
    return np.frombuffer(bytes.fromhex("".join(digits)), dtype=">u8").astype(np.uint64)


def _channels(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Turn a column of lists of three into `(N, 3)`."""
    channels: NDArray[np.int64] = pc.list_flatten(column).to_numpy().reshape(-1, 3)
    return channels


def near_pairs(looks: Looks, left: NDArray[np.int64], right: NDArray[np.int64]) -> Iterator[Pairs]:
    """Find the near-duplicates among two sets of records.

    Every picture is held against every other at its place, by faiss: exact, no slower where many are alike, and
    100,000 against 400,000 pictures in some 13 seconds of one core.

    Args:
        looks: of N records.
        left: rows of records, each once.
        right: rows of others, each once; a row that stands on both sides is no pair with itself.

    Yields:
        Some pairs at a time, each once, in no promised order.
    """
    telling = looks.telling
    for view in range(telling.shape[1]):
        ones, others = (rows[telling[rows, view]] for rows in (left, right))
        for found in _alike_views(looks, view, ones, others):
            # A pair that is alike in several views is taken at the first that both have.
            earlier = telling[found.left, :view] & telling[found.right, :view]
            first = Pairs(*(part[~earlier.any(axis=1)] for part in found))
            yield _alike_throughout(looks, telling, view + 1, first)


def _alike_views(looks: Looks, view: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> Iterator[Pairs]:
    search = faiss.IndexBinaryFlat(HASH_BITS)
    search.add(_bytes(looks.hashes[right, view]))
    step = max(1, _PAIRS_AT_ONCE // max(1, len(right)))
    for start in range(0, len(left) if len(right) else 0, step):
        chunk = left[start : start + step]
        ends, bits, found = search.range_search(_bytes(looks.hashes[chunk, view]), MOST_BITS + 1)  # strictly below
        counts = (ends[1:] - ends[:-1]).astype(np.int64)
        pairs = Pairs(np.repeat(chunk, counts), right[found], bits.astype(np.int64))
        distinct = pairs.left != pairs.right
        alike = distinct & same_colours(looks, view, pairs.left, pairs.right)
        yield Pairs(*(part[alike] for part in pairs))


def _alike_throughout(looks: Looks, telling: NDArray[np.bool_], first: int, pairs: Pairs) -> Pairs:
    """Keep the pairs whose views from `first` on are alike, too."""
    left, right, bits = pairs
    for view in range(first, telling.shape[1]):
        differing = np.bitwise_count(looks.hashes[left, view] ^ looks.hashes[right, view]).astype(np.int64)
        both = telling[left, view] & telling[right, view]
        kept = ~both | ((differing <= MOST_BITS) & same_colours(looks, view, left, right))
        bits = np.where(both, np.maximum(bits, differing), bits)[kept]
        left, right = left[kept], right[kept]
    return Pairs(left, right, bits)


def same_colours(looks: Looks, view: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Check which of P pairs of records have pictures at a place with nearly the same colours, `(P,)`."""
    contrast = np.minimum(looks.std[left, view].max(axis=1), looks.std[right, view].max(axis=1))
    allowed = np.clip(OF_CONTRAST * contrast, FAINTEST, STRONGEST)[:, None]
    means = np.abs(looks.mean[left, view] - looks.mean[right, view]) <= allowed
    spreads = np.abs(looks.std[left, view] - looks.std[right, view]) <= allowed
    return np.asarray((means & spreads).all(axis=1))


def _bytes(hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Compute `(N,)` hashes as the `(N, 8)` bytes that faiss reads."""
    return np.ascontiguousarray(hashes).view(np.uint8).reshape(-1, 8)


def copies_between(looks: Looks, rows: NDArray[np.int64], others: NDArray[np.int64]) -> Copies:
    """Find the near-duplicates of records among others.

    Args:
        looks: of all records.
        rows: of the records that are asked about, such as those of test.
        others: rows of the others, such as those of training.
    """
    copied = np.zeros(len(looks), dtype=bool)
    nearest = [Pairs(*np.zeros((3, 0), np.int64))]
    for found in near_pairs(looks, rows, others):
        copied[found.right] = True
        nearest.append(_fewest_bits(found))
    together = Pairs(*(np.concatenate(parts) for parts in zip(*nearest, strict=True)))
    return Copies(_fewest_bits(together), copied[others])


def _fewest_bits(pairs: Pairs) -> Pairs:
    order = np.lexsort((pairs.right, pairs.bits, pairs.left))
    ordered = Pairs(*(part[order] for part in pairs))
    first = np.diff(ordered.left, prepend=-1) != 0
    return Pairs(*(part[first] for part in ordered))
