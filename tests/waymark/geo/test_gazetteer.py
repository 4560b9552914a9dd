"""Names of places, from the real gazetteer."""

import subprocess
import sys

import numpy as np
import pytest
from closure import ROOT
from pyproj import Geod

from waymark.geo.gazetteer import country_codes, country_name, nearest_places, nearest_towns
from waymark.geo.regions import load_land

SPHERE = Geod(a=6371008.8, b=6371008.8)
CERTAIN = {
    (45.8131, 15.9770): ("Zagreb", "Zagreb", "Croatia"),  # not the quarter Centar, which is nearer
    (43.5081, 16.4402): ("Split", "Split-Dalmatia", "Croatia"),
    (-33.8688, 151.2093): ("Sydney", "New South Wales", "Australia"),
    (41.9022, 12.4533): ("Vatican City", None, "Vatican City"),
    (41.8902, 12.4922): ("Rome", "Lazio", "Italy"),  # the Colosseum, 3 km away
    (43.7384, 7.4246): ("Monaco", "Municipality of Monaco", "Monaco"),
    (43.7745, 7.5000): ("Menton", "Provence-Alpes-Côte d'Azur", "France"),
    (45.1550, 18.0100): ("Slavonski Brod", "Brod-Posavina", "Croatia"),  # Bosnian Brod is across the river
    (45.1370, 17.9930): ("Brod", "Srpska", "Bosnia and Herzegovina"),
    (42.6630, 21.1650): ("Pristina", "Pristina", "Kosovo"),
    (9.5600, 44.0600): ("Hargeysa", "Woqooyi Galbeed", "Somalia"),  # an outline without a code
    (23.5000, 10.5000): (None, None, "Algeria"),
    (0.0000, -30.0000): (None, None, None),
    (-90.0, 0.0): (None, None, "Antarctica"),
    (90.0, 0.0): (None, None, None),
}


@pytest.mark.parametrize("place", CERTAIN)
def test_places_that_everybody_knows_have_their_names(place):
    assert nearest_places(np.array([place]))[0][:3] == CERTAIN[place]


def test_many_are_named_as_each_alone():
    names = nearest_places(np.array(list(CERTAIN)))
    assert [name[:3] for name in names] == list(CERTAIN.values())
    assert nearest_places(np.empty((0, 2))) == []


@pytest.mark.parametrize("place", [(np.nan, 16.0), (45.0, np.nan), (np.inf, 16.0), (45.0, -np.inf), (95.0, 16.0)])
def test_what_is_no_place_has_no_name(place):
    unknown, known = nearest_places(np.array([place, (43.5081, 16.4402)]))
    assert unknown[:3] == (None, None, None)
    assert np.isnan(unknown.distance_km)
    assert known.place == "Split"
    assert nearest_towns(np.array([place, (43.5, 16.4)])).tolist()[0] == -1
    assert country_codes(np.array([place])).tolist() == [None]


def test_a_town_is_named_across_the_antimeridian():
    labasa = (179.36451, -16.4332)  # as in GeoNames
    east, north, _ = SPHERE.fwd(*labasa, 110, 80_000)
    assert east < 0
    (name,) = nearest_places(np.array([[north, east]]))
    assert name == ("80 km east of Labasa", None, "Fiji", pytest.approx(80, abs=0.1))


@pytest.mark.parametrize("azimuth", range(0, 360, 30))
@pytest.mark.parametrize("km", [4, 20, 60, 99, 130])
def test_distances_and_winds_are_pyprojs(azimuth, km):
    """Around Easter Island there is but one town."""
    lon, lat, _ = SPHERE.fwd(-109.42438, -27.15253, azimuth, 1000 * km)
    (name,) = nearest_places(np.array([[lat, lon]]))
    town_lat, town_lon = -27.15253, -109.42438  # as in GeoNames
    bearing, _, metres = SPHERE.inv(town_lon, town_lat, lon, lat)
    assert name.distance_km == pytest.approx(metres / 1000, rel=1e-6)
    winds = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
    if metres > 100_000:
        assert name[:3] == (None, None, None)
    elif metres > 5000:
        assert name.place == f"{metres / 1000:.0f} km {winds[round(bearing / 45) % 8]} of Hanga Roa"
    else:
        assert name.place == "Hanga Roa"
    assert name.country == ("Chile" if metres < 50_000 else None)  # the island is 25 km long
    assert name.region == ("Valparaíso" if metres < 25_000 else None)


def test_the_antimeridian_is_no_border():
    names = nearest_places(np.array([[-16.8, 180.0], [-16.8, -180.0], [-16.8, 540.0]]))
    assert names[0][:3] == names[1][:3] == names[2][:3] == ("79 km south-east of Labasa", None, "Fiji")
    east, west = nearest_towns(np.array([[-16.5, -179.9], [-16.5, 179.9]]))
    assert east == west


def test_the_nearest_town_has_fifteen_thousand_people():
    """Knin has 8,000; Split has 150,000, and is the same from anywhere in it."""
    places = np.array([[44.04, 16.2], [43.51, 16.44], [43.5125, 16.45], [45.81, 16.0]])
    knin, split, outskirts, zagreb = nearest_towns(places)
    assert split == outskirts != zagreb
    assert knin not in (split, zagreb)
    assert nearest_places(np.array([[44.04, 16.2]]))[0].place == "Knin"


def test_every_outline_with_a_code_has_a_readable_name():
    names = [country_name(code) for code in load_land()["code"].dropna()]
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.endswith((" of", " of the"))]


def test_nothing_is_read_before_a_name_is_asked_for():
    code = (
        "import sys, waymark.cli, waymark.geo.gazetteer as gazetteer, waymark.inference.api;"
        "print([name for name in ('reverse_geocode',) if name in sys.modules], gazetteer._towns.cache_info().currsize)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["[]", "0"]
