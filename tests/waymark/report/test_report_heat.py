import colorsys

import numpy as np
import pytest
from PIL import Image

from waymark.report.heat import coloured, draw_attention


def grey(pixels):
    return np.asarray(Image.fromarray(pixels).convert("L")).astype(int)


def hue(pixel):
    return colorsys.rgb_to_hsv(*(int(channel) / 255 for channel in pixel))[0]


def test_a_higher_value_is_lighter_so_that_the_colours_read_in_grey():
    ramp = coloured(np.linspace(0, 1, 50)[None])
    assert (np.diff(grey(ramp)[0]) > 0).all()


@pytest.mark.parametrize("shape", [(90, 120), (120, 90)])
def test_the_map_lies_over_the_picture_where_it_belongs(shape):
    attention = np.zeros((2, 3))
    attention[1, 2] = 1.0  # bottom right
    drawn = draw_attention(np.full((*shape, 3), 128, dtype=np.uint8), attention)
    assert drawn.shape == (*shape, 3)
    assert drawn.dtype == np.uint8
    brightest = np.unravel_index(grey(drawn).argmax(), shape)
    assert brightest[0] > 0.7 * shape[0]
    assert brightest[1] > 0.7 * shape[1]
    assert hue(drawn[-1, -1]) < 0.25  # yellow
    assert 0.7 < hue(drawn[0, 0]) < 0.9  # violet
    assert np.abs(np.diff(grey(drawn), axis=1)).max() < 8  # smooth, not in squares


def test_the_picture_shows_through_and_its_colours_are_not_taken_for_the_maps():
    picture = np.zeros((40, 40, 3), dtype=np.uint8)
    picture[:, 20:] = (255, 60, 0)
    before = picture.copy()
    drawn = draw_attention(picture, np.zeros((4, 4)))
    assert grey(drawn)[:, 20:].min() > grey(drawn)[:, :20].max() + 20
    added = drawn[:, 30].astype(int) - drawn[:, 5]
    assert np.ptp(added, axis=-1).max() <= 1
    assert (picture == before).all()


def test_what_lies_outside_is_cut():
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    assert (draw_attention(picture, np.full((2, 2), 7.0)) == draw_attention(picture, np.ones((2, 2)))).all()
