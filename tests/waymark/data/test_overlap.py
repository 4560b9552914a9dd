import numpy as np
import pandas as pd
import pytest

from waymark.data.duplicates import Looks, hash_numbers
from waymark.data.exposure import EXPOSURE_SCHEMA
from waymark.data.overlap import exposed_looks, overlap
from waymark.images.resizing import channel_figures, perceptual_hash

SIZE_PX = 32


def picture(seed):
    blots = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return blots.repeat(8, axis=0).repeat(8, axis=1)


def again(pixels):
    """The same picture with a little noise, as another JPEG of it."""
    noise = np.random.default_rng(0).integers(-2, 3, pixels.shape)
    return np.clip(pixels.astype(int) + noise, 0, 255).astype(np.uint8)


def levels(pixels):
    figures = channel_figures(pixels)
    mean = np.array(figures["channel_sum"]) / SIZE_PX**2
    return mean, np.sqrt(np.array(figures["channel_sum_squares"]) / SIZE_PX**2 - mean**2)


def looks_like(*records):
    """Looks of records, each a list of pictures of which some may be None."""
    views = max(map(len, records))
    looks = Looks(
        np.zeros((len(records), views), np.uint64),
        np.zeros((len(records), views), bool),
        *np.zeros((2, len(records), views, 3)),
    )
    for row, its in enumerate(records):
        for view, pixels in enumerate(its):
            if pixels is not None:
                looks.hashes[row, view] = hash_numbers([perceptual_hash(pixels)])[0]
                looks.seen[row, view] = True
                looks.mean[row, view], looks.std[row, view] = levels(pixels)
    return looks


def exposed(*rows):
    """Rows of an exposure: record_id, split, group, pictures."""
    return pd.DataFrame(
        [
            {
                **{"record_id": record_id, "split": split, "group": group},
                "hashes": [None if its is None else perceptual_hash(its) for its in pictures],
                "means": np.ravel([[np.nan] * 3 if its is None else levels(its)[0] for its in pictures]),
                "stds": np.ravel([[np.nan] * 3 if its is None else levels(its)[1] for its in pictures]),
            }
            for record_id, split, group, pictures in rows
        ]
    ).reindex(columns=EXPOSURE_SCHEMA.names)


def records(*rows):
    return pd.DataFrame(rows, columns=["record_id", "group"])


def found(table):
    return [tuple(row) for row in table.itertuples(index=False)]


def test_records_are_seen_by_id_by_group_and_by_picture():
    exposure = exposed(
        ("a", "val", None, [picture(9)]),
        ("b", "train", "street", [picture(8)]),
        ("c", "train", None, [picture(3)]),
        ("d", "val", "street", [picture(7)]),
    )
    test = records(("a", None), ("n1", "street"), ("n2", None), ("n3", "lane"), ("n4", None))
    looks = looks_like([picture(1)], [picture(2)], [again(picture(3))], [picture(4)], [None])
    assert found(overlap(test, exposure, looks)) == [
        ("a", "record", "val", "a"),
        ("n1", "group", "train", "b"),
        ("n2", "picture", "train", "c"),
    ]
    assert [row[0] for row in found(overlap(test, exposure))] == ["a", "n1"]


def test_a_picture_of_train_counts_before_one_of_val():
    exposure = exposed(("v", "val", None, [picture(5)]), ("t", "train", None, [again(picture(5))]))
    assert found(overlap(records(("n", None)), exposure, looks_like([picture(5)]))) == [("n", "picture", "train", "t")]


def test_every_view_that_both_have_must_be_alike():
    test = records(("one", None), ("both", None), ("other", None))
    looks = looks_like([picture(1)], [picture(1), picture(2)], [picture(1), picture(6)])
    exposure = exposed(("t", "train", None, [picture(1), picture(2), None]))
    assert [row[0] for row in found(overlap(test, exposure, looks))] == ["one", "both"]


def test_nothing_is_seen_of_strangers():
    exposure = exposed(("t", "train", None, [None]))
    assert overlap(records(("n", None)), exposure, looks_like([None])).empty
    assert overlap(records(("n", None)), exposure[:0], looks_like([picture(1)])).empty


def test_looks_come_back_from_an_exposure():
    expected = looks_like([picture(1), None], [picture(2), picture(3)])
    its = exposed(("a", "train", None, [picture(1), None]), ("b", "val", None, [picture(2), picture(3)]))
    looks = exposed_looks(its)
    assert (looks.hashes == expected.hashes).all()
    assert (looks.seen == expected.seen).all()
    assert looks.mean == pytest.approx(expected.mean)
    assert looks.std == pytest.approx(expected.std)
