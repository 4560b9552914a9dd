import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import report_frames as made

from waymark.report.data import Grid
from waymark.report.grids import grid_curves, grids_page


def row(grid, kind, classes, error_km, *, images=(1, 5, 9)):
    least, median, most = images
    return {
        "grid": grid, "kind": kind, "spacing_km": 40.0, "min_records": None, "cells": classes + 3, "classes": classes,
        "images_min": least, "images_median": median, "images_max": most, "few": 0.25,
        "centre_mean_km": error_km, "centre_median_km": error_km + 0.125, "training_mean_km": error_km - 1,
        "training_median_km": error_km - 1.5,
    }  # fmt: skip


@pytest.fixture
def figures():
    return pd.DataFrame(
        [
            row("20 km", "squares", 200, 7.5),
            row("40 km", "squares", 71, 14.25, images=(2, 29, 81)),
            row("quadtree 20", "quadtree", 75, 12.0),
        ]
    )


@pytest.fixture
def page(figures):
    cells = made.cells(0.5)
    grids = [Grid(name, cells, {0: 4, 1: 40}, name, "EPSG:4326") for name in figures["grid"]]
    return grids_page(grids, figures, enough=8, measured="the <b>300</b> records", region=made.region())


class Rows(HTMLParser):
    """Texts of the cells of each row of the table, and what the page names to be loaded."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.loaded, self._inside = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.loaded += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag == "tr":
            self.rows.append([])
        self._inside = tag in ("td", "th")

    def handle_endtag(self, _):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.rows[-1].append(data)


def test_curves_show_each_figure_at_its_number_of_classes(figures):
    drawn = grid_curves(figures)
    lines = {(trace.name, trace.yaxis): trace for trace in drawn.data}
    squares = lines["squares: cell's centre", "y"]
    assert (squares.x.tolist(), squares.y.tolist()) == ([71, 200], [14.25, 7.5])
    assert squares.text.tolist() == ["40 km", "20 km"]
    assert lines["squares: mean of its training records", "y"].y.tolist() == [13.25, 6.5]
    assert lines["quadtree: cell's centre", "y"].y.tolist() == [12.0]
    images = next(trace for trace in drawn.data if trace.yaxis == "y2")
    assert images.y.tolist() == [29, 5]
    np.testing.assert_array_equal(images.y + images.error_y.array, [81, 9])
    np.testing.assert_array_equal(images.y - images.error_y.arrayminus, [2, 1])


def test_the_page_holds_every_figure_and_a_map_of_each_grid(page):
    head, *rows = Rows(page).rows
    assert "cells below 8" in head
    assert rows[1] == ["40 km", "74", "71", "2", "29", "81", "25.0 %", "14.2", "14.4", "13.2", "12.8"]
    assert [cells[0] for cells in rows] == ["20 km", "40 km", "quadtree 20"]
    assert re.findall(r"<h2>(.*)</h2>", page) == ["20 km", "40 km", "quadtree 20"]
    assert page.count('class="plotly-graph-div"') == 4


def test_the_page_loads_nothing_and_escapes_words(page):
    assert Rows(page).loaded == ["data:,"]
    assert "the &lt;b&gt;300&lt;/b&gt; records" in page
    assert "default-src 'none'" in page
