"""Which images a choice means, against a count by hand, and how much that is."""

from collections import Counter

import numpy as np
import pytest

from waymark.errors import SourceError
from waymark.sources.gldv2.choice import Choice, estimate
from waymark.sources.gldv2.layout import SIZES, tar_numbers
from waymark.sources.gldv2.metadata import LABELS


def labels(classes):
    rows = [{"id": f"{number:016x}", "landmarks": [str(landmark)]} for number, landmark in enumerate(classes)]
    return LABELS.empty_table().from_pylist(rows, schema=LABELS)


CLASSES = [int(landmark) for landmark in np.random.default_rng(1).zipf(1.6, 500).clip(max=40)]
COUNTS = Counter(CLASSES)
RANKED = sorted(COUNTS, key=lambda landmark: (-COUNTS[landmark], landmark))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({}, set(COUNTS)),
        ({"min_images": 5}, {landmark for landmark in COUNTS if COUNTS[landmark] >= 5}),
        ({"largest": 7}, set(RANKED[:7])),
        ({"landmarks": (3, 1)}, {1, 3}),
        ({"landmarks": tuple(RANKED[3:12]), "min_images": 4, "largest": 2}, set(RANKED[3:5])),
    ],
)
def test_the_wanted_images_are_those_of_the_wanted_landmarks(choice, expected):
    kept = Choice(**choice).choose(labels(CLASSES)).to_pylist()
    assert kept == [row for row in labels(CLASSES).to_pylist() if int(row["landmarks"][0]) in expected]
    assert {int(row["landmarks"][0]) for row in kept} == expected


def test_ties_go_to_the_smaller_number():
    kept = Choice(largest=2).choose(labels([10, 9, 100, 100])).to_pylist()
    assert [row["landmarks"] for row in kept] == [["9"], ["100"], ["100"]]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"landmarks": (1, 99999)}, r"landmark 99999 has no image .*download\.gldv2\.landmarks.*subset"),
        ({"min_images": 10_000}, r"no landmark has 10000 images; lower download\.gldv2\.min_images"),
    ],
)
def test_a_choice_of_nothing_is_refused(choice, said):
    with pytest.raises(SourceError, match=said):
        Choice(**choice).choose(labels(CLASSES))


def test_an_image_without_a_landmark_is_refused():
    table = LABELS.empty_table().from_pylist([{"id": "0" * 16, "landmarks": []}], schema=LABELS)
    with pytest.raises(SourceError, match="without one landmark id"):
        Choice().choose(table)


def test_the_whole_is_estimated_as_the_dataset_tells_it():
    whole = estimate({split: size.images for split, size in SIZES.items()}, 203_094, dict.fromkeys(SIZES))
    assert whole.images == whole.expected == 4_132_914 + 761_757 + 117_577
    assert whole.tars == 620
    assert whole.download_gb == pytest.approx(500 * 1 + 100 * 0.85 + 20 * 0.5)
    assert whole.kept_gb == pytest.approx(whole.download_gb)


def test_a_part_is_estimated_by_its_share():
    part = estimate({"train": 413_291}, 500, {"train": list(range(50))})
    assert (part.images, part.landmarks, part.tars, part.download_gb) == (413_291, 500, 50, 50.0)
    assert part.expected == pytest.approx(41_329, abs=1)  # a tenth of the images, in a tenth of the tars
    assert part.kept_gb == pytest.approx(5.0, rel=1e-3)
    assert str(part) == (
        "413,291 images of 500 landmarks, about 41,329 of them in the chosen tars;"
        " 50 tars, about 50.0 GB to download and 5.0 GB to keep"
    )


def test_tars_are_listed_in_order():
    assert tar_numbers({"test": None, "train": (7, 3)}) == [
        ("train", 3),
        ("train", 7),
        *[("test", n) for n in range(20)],
    ]
