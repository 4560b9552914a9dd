"""Decode many pictures in worker processes that a hostile one may crash."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from waymark.images.decode import Fit, Picture, decoding_bytes, read_picture
from waymark.system.workers import Lost, in_processes

logger = logging.getLogger(__name__)

CHUNK = 32  # pictures a worker takes at once
CHUNK_BYTES = 16 * 2**20  # or fewer, where what comes of them is large
TIMEOUT_S = 60.0  # a picture, on a busy machine; a decoder that hangs is ended

T = TypeVar("T")
R = TypeVar("R")


def read_pictures(
    paths: Sequence[Path], size_px: int, *, max_pixels: int, fit: Fit = "crop", workers: int | None = None
) -> Iterator[Picture]:
    """Decode files in processes of their own, in order.

    A file that crashes or hangs its decoder comes out with the status `crashed`.

    Args:
        paths: files, in the order wanted.
        size_px: side of the squares.
        max_pixels: width times height beyond which a picture is not decoded.
        fit: how a picture becomes a square, see `square_pixels`.
        workers: number of processes; as many as there are CPUs, and memory for as many, by default.
    """
    read = partial(read_picture, size_px=size_px, max_pixels=max_pixels, fit=fit)
    chunk = max(1, min(CHUNK, CHUNK_BYTES // (size_px * size_px * 3)))
    found = look_at(paths, read, max_pixels=max_pixels, chunk=chunk, workers=workers)
    for path, picture in zip(paths, found, strict=True):
        if isinstance(picture, Lost):
            logger.warning("%s ended its decoder: %s", path.name, picture.reason)
            yield Picture("crashed", crash(picture), None)
        else:
            yield picture


def crash(lost: Lost) -> str:
    """Word why a picture has the status `crashed`."""
    return f"ended its decoder: {lost.reason}"


def look_at(
    pictures: Sequence[T],
    look: Callable[[T], R],
    *,
    max_pixels: int,
    chunk: int | None = None,
    workers: int | None = None,
) -> Iterator[R | Lost]:
    """Decode pictures in processes of their own, in order, and hand on what is seen in them.

    Args:
        pictures: in the order wanted.
        look: decodes one with the same `max_pixels`.
        max_pixels: width times height of the largest picture, which says how much memory a process may take.
        chunk: pictures that a process takes at once; 32 by default.
        workers: number of processes; as many as there are CPUs, and memory for as many, by default.
    """
    return in_processes(
        look,
        pictures,
        chunk=chunk or CHUNK,
        timeout_s=TIMEOUT_S,
        workers=workers,
        memory_bytes=decoding_bytes(max_pixels),
    )


def perceptual_hash(pixels: NDArray[np.uint8]) -> str:
    """Hash what a picture shows, so that near-duplicates come near each other.

    The gradient hash (64 bits) compares integers only and is the same on every CPU, which
    the hashes that go through a cosine transform do not promise.

    Args:
        pixels: `(H, W, 3)` RGB.
    """
    return str(imagehash.dhash(Image.fromarray(pixels)))


def channel_figures(pixels: NDArray[np.uint8]) -> dict[str, list[int]]:
    """Sum up the channels of `(H, W, 3)` pixels in integers, which add up exactly."""
    flat = pixels.reshape(-1, 3).astype(np.int64)
    return {
        "channel_sum": flat.sum(axis=0).tolist(),
        "channel_sum_squares": (flat * flat).sum(axis=0).tolist(),
        "channel_min": flat.min(axis=0).tolist(),
        "channel_max": flat.max(axis=0).tolist(),
    }
