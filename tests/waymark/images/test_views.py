from itertools import permutations

import pytest

from waymark.images.views import MAX_SLOTS, heading_slots, place_views

RIG = [0.0, 90.0, 180.0, 270.0]


def test_the_headings_of_a_rig_are_the_slots():
    assert heading_slots([[270.0, 0.0], [180.0, 90.0, 0.0], [None]]) == RIG


def test_headings_are_angles():
    assert heading_slots([[360.0, -90.0], [0.0, 270.0]]) == [0.0, 270.0]


def test_records_with_more_views_than_known_headings_get_positions_beside_them():
    assert heading_slots([[0.0, None, None]]) == [0.0, None, None]


@pytest.mark.parametrize(
    ("records", "slots"),
    [
        ([], [None]),
        ([[None]], [None]),
        ([[None, None], [None]], [None, None]),
        ([[None] * 30], [None] * MAX_SLOTS),
        ([[0.0, *[None] * 29]], [0.0, *[None] * (MAX_SLOTS - 1)]),
        ([[float(angle)] for angle in range(100)], [None]),
        ([[float(angle), angle + 0.5] for angle in range(100)], [None, None]),
    ],
)
def test_without_shared_headings_slots_are_positions_and_never_too_many(records, slots):
    assert heading_slots(records) == slots


def test_slots_do_not_depend_on_the_order_of_the_records():
    records = [[0.0, 90.0], [90.0, 180.0], [None], [270.0]]
    assert {tuple(heading_slots(order)) for order in permutations(records)} == {tuple(RIG)}


@pytest.mark.parametrize(
    ("headings", "placed"),
    [
        ([0.0, 90.0, 180.0, 270.0], [0, 1, 2, 3]),
        ([270.0, 0.0], [3, 0]),
        ([359.9], [0]),
        ([-0.1, 89.0], [0, 1]),
        ([359.9, 3.0], [0, 1]),  # the slot is taken: the first free one
        ([3.0, 359.9], [1, 0]),  # the nearer one gets it
        ([316.0], [0]),
        ([314.0], [3]),
        ([719.0], [0]),
        ([None], [0]),
        ([None, 0.0], [1, 0]),  # who knows its heading comes first
        ([None, None, 90.0, None], [0, 2, 1, 3]),
        ([None, None, 90.0, 180.0, 0.0, 270.0], [None, None, 1, 2, 0, 3]),
        ([0.0, 90.0, 180.0, 270.0, 45.0, None], [0, 1, 2, 3, None, None]),
        ([], []),
    ],
)
def test_views_stand_in_the_slot_of_their_heading(headings, placed):
    assert place_views(headings, RIG) == placed


def test_views_stand_in_positions_in_their_order():
    assert place_views([123.0, None, 7.0], [None, None]) == [0, 1, None]
    assert place_views([90.0, 0.0, None], [0.0, None, None]) == [1, 0, 2]
    assert place_views([0.0, 90.0], []) == [None, None]


def test_no_two_views_share_a_slot():
    for headings in permutations([0.0, 10.0, 350.0, None, 181.0, 179.0]):
        slots = [slot for slot in place_views(headings, RIG) if slot is not None]
        assert sorted(slots) == [0, 1, 2, 3]
