import numpy as np
import pytest

from waymark.data.census import dimension_figures, landmark_figures
from waymark.data.records import landmarks_table, records_table


def records(sizes, landmarks=None):
    return records_table(
        {
            "record_id": f"r{number:04}",
            "views": [{"path": "view.jpg", "heading_deg": None}],
            "width": size[0],
            "height": size[1],
            "landmarks": [] if landmarks is None else landmarks[number],
        }
        for number, size in enumerate(sizes)
    )


def test_the_hundred_largest_landmarks_are_listed_with_their_names():
    shown = [[f"L{number:03}"] for number in range(130) for _ in range(1 + number % 40)]
    table = landmarks_table(records([(1, 1)] * len(shown), shown), {"L039": "Old Bridge"})
    figures = landmark_figures(table)
    listed = figures["images_per_landmark"]
    assert listed[0] == {"landmark": "L039", "name": "Old Bridge", "images": 40}
    assert [its["landmark"] for its in listed[:4]] == ["L039", "L079", "L119", "L038"]
    assert len(listed) == 100
    sizes = [1 + number % 40 for number in range(130)]
    assert [its["images"] for its in listed] == sorted(sizes, reverse=True)[:100]
    assert figures["share_over_10"] == pytest.approx(sum(size > 10 for size in sizes) / 130)


def test_shares_are_over_and_not_at_ten_and_a_hundred():
    shown = [[name] for name, images in (("a", 10), ("b", 11), ("c", 100), ("d", 101)) for _ in range(images)]
    figures = landmark_figures(landmarks_table(records([(1, 1)] * len(shown), shown)))
    assert (figures["share_over_10"], figures["share_over_100"]) == (0.75, 0.25)


def test_no_landmarks_have_no_shares():
    assert landmark_figures(landmarks_table(records([(1, 1)]))) == {
        "images_per_landmark": [],
        "share_over_10": None,
        "share_over_100": None,
    }


def test_sizes_and_orientations_are_those_of_the_records():
    sizes = [(40, 30)] * 5 + [(30, 40)] * 3 + [(50, 50)] * 3 + [(20, 60)] + [(None, None), (10, None)]
    figures = dimension_figures(records(sizes))
    assert figures["orientations"] == {"portrait": 4, "landscape": 5, "square": 3, "unknown": 2}
    assert figures["sizes"] == [
        {"width": 40, "height": 30, "records": 5},
        {"width": 30, "height": 40, "records": 3},
        {"width": 50, "height": 50, "records": 3},
        {"width": 20, "height": 60, "records": 1},
    ]
    assert all(type(number) is int for size in figures["sizes"] for number in size.values())


def test_quantiles_are_those_of_numpy_and_large_pictures_do_not_overflow():
    rng = np.random.default_rng(1)
    sizes = rng.integers(100, 90_000, (57, 2))
    figures = dimension_figures(records(sizes.tolist()))
    megapixels = sizes[:, 0] / 1e3 * sizes[:, 1] / 1e3
    for name, values in (("width", sizes[:, 0]), ("height", sizes[:, 1]), ("megapixels", megapixels)):
        expected = np.quantile(values, [0.1, 0.5, 0.9])
        assert list(figures[name].values()) == pytest.approx(expected)
    assert list(figures["megapixels"]) == ["q10", "q50", "q90"]
    assert len(figures["sizes"]) == 10


def test_unknown_sizes_have_no_quantiles():
    figures = dimension_figures(records([(None, None)] * 3))
    assert figures["orientations"]["unknown"] == 3
    assert figures["sizes"] == []
    assert figures["megapixels"] == {"q10": None, "q50": None, "q90": None}
