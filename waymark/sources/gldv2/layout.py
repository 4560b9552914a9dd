"""Where the files of the dataset lie below its base URL, and how large it is."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Split = Literal["train", "index", "test"]
Subset = Literal["clean", "full"]

BASE_URL = "https://s3.amazonaws.com/google-landmark"


class Size(NamedTuple):
    """Size of a split as github.com/cvdfoundation/google-landmark (version 2.1) tells it."""

    tars: int
    images: int
    tar_bytes: int  # of each, about


SIZES: dict[Split, Size] = {
    "train": Size(500, 4_132_914, 1_000_000_000),
    "index": Size(100, 761_757, 850_000_000),
    "test": Size(20, 117_577, 500_000_000),
}

TRAIN = "metadata/train.csv"
TRAIN_CLEAN = "metadata/train_clean.csv"
ATTRIBUTION = "metadata/train_attribution.csv"
CATEGORIES = "metadata/{split}_label_to_category.csv"
HIERARCHY = "metadata/{split}_label_to_hierarchical.csv"
INDEX = "metadata/index.csv"
INDEX_LANDMARKS = "metadata/index_image_to_landmark.csv"
SOLUTION = "ground_truth/recognition_solution_v2.1.csv"

COLUMNS: dict[str, tuple[str, ...]] = {
    TRAIN: ("id", "landmark_id"),
    TRAIN_CLEAN: ("landmark_id", "images"),
    ATTRIBUTION: ("id", "url", "author", "license"),
    CATEGORIES.format(split="train"): ("landmark_id", "category"),
    CATEGORIES.format(split="index"): ("landmark_id", "category"),
    HIERARCHY.format(split="train"): ("landmark_id", "category"),
    HIERARCHY.format(split="index"): ("landmark_id", "category"),
    INDEX: ("id",),
    INDEX_LANDMARKS: ("id", "landmark_id"),
    SOLUTION: ("id", "landmarks"),
}

Tars = Mapping[Split, Sequence[int] | None]


def tar_numbers(tars: Tars) -> list[tuple[Split, int]]:
    """List the tars of a choice, train before index before test; null stands for all of a split.

    >>> tar_numbers({"test": [4, 1], "train": [0]})
    [('train', 0), ('test', 1), ('test', 4)]
    """
    chosen = {split: tars[split] for split in SIZES if split in tars}
    return [
        (split, number)
        for split, numbers in chosen.items()
        for number in (range(SIZES[split].tars) if numbers is None else sorted(numbers))
    ]


def tar_path(split: Split, number: int) -> str:
    """Locate a tar.

    >>> tar_path("train", 7)
    'train/images_007.tar'
    """
    return f"{split}/images_{number:03d}.tar"


def md5_path(split: Split, number: int) -> str:
    """Locate the MD5 of a tar.

    >>> md5_path("train", 7)
    'md5sum/train/md5.images_007.txt'
    """
    return f"md5sum/{split}/md5.images_{number:03d}.txt"
