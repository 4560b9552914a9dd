"""An answer, and how it is put to people."""

from collections.abc import Sequence
from dataclasses import dataclass

import geopandas as gpd

from waymark.inference.candidates import Candidate
from waymark.system.terminal import printable

RANKS = ("2nd", "3rd", "4th", "5th")  # of the candidates that people read in addition to the best


@dataclass(frozen=True)
class Answer:
    """What a model says of one place or photo: where it is, which landmark it shows, or both.

    Args:
        name: of the place, or of its picture.
        latitude: in degrees, None where the model answers no places.
        longitude: in degrees, likewise.
        place: name of the place, as of `waymark.inference.candidates.Candidate`; None where it has none.
        region: that it lies in, likewise.
        country: that it lies in, likewise.
        candidates: the most probable places, the best first.
        radius_50_km: that holds the truth in half the cases, None where unknown.
        radius_90_km: likewise in 90 %.
        cell: the most probable, None for models without cells.
        probability: of that cell.
        cells: `cell`, `probability`, `latitude`, `longitude` and `geometry` in EPSG:4326 of all cells, or None.
        jpegs: its pictures, as they are shown.
        landmark: that it shows; None where the model sees none, or names none.
        landmark_name: its readable name.
        landmark_score: how sure the model is, higher is surer, without bounds; None where it names no landmarks.
        landmark_confidence: 0 to 1, how probable it is that its best candidate is right; None where unknown.
        attention: its pictures under the model's attention map, as JPEG.
    """

    name: str
    latitude: float | None = None
    longitude: float | None = None
    place: str | None = None
    region: str | None = None
    country: str | None = None
    candidates: Sequence[Candidate] = ()
    radius_50_km: float | None = None
    radius_90_km: float | None = None
    cell: int | None = None
    probability: float | None = None
    cells: gpd.GeoDataFrame | None = None
    jpegs: Sequence[bytes] = ()
    landmark: str | None = None
    landmark_name: str | None = None
    landmark_score: float | None = None
    landmark_confidence: float | None = None
    attention: Sequence[bytes] = ()


def facts(answer: Answer) -> dict[str, str]:
    """The figures of an answer in words, for people: the landmark first, if the model names any."""
    known = {}
    if answer.landmark_score is not None:
        name = answer.landmark_name or answer.landmark
        known["landmark"] = landmark_in_words(name, answer.landmark_confidence)
    if answer.latitude is not None and answer.longitude is not None:
        name = name_in_words(answer)
        known["place"] = place_in_words(answer.latitude, answer.longitude) + (f" ({name})" if name else "")
        known["radius"] = radius_in_words(answer.radius_50_km, answer.radius_90_km)
    if answer.cell is not None and answer.probability is not None:
        known["cell"] = f"{answer.cell}, probability {answer.probability:.3f}"
    for rank, candidate in zip(RANKS, answer.candidates[1:], strict=False):
        known[rank] = candidate_in_words(candidate)
    return known


def drawn_lines(answer: Answer) -> list[str]:
    """The lines that are written on the picture: landmark, place and radius, as far as the model answers them."""
    known = facts(answer)
    return [known[name] for name in ("landmark", "place", "radius") if name in known]


def landmark_in_words(name: str | None, confidence: float | None) -> str:
    """A landmark with its confidence where that is known, or that there is none, with that of the refused candidate.

    >>> landmark_in_words("Rialto Bridge", 0.81234), landmark_in_words(None, 0.1)
    ('Rialto Bridge, confidence 0.81', 'no landmark; the best candidate has confidence 0.10')
    """
    called = "no landmark" if name is None else printable(name)
    if confidence is None:
        return called
    return f"{called}{'; the best candidate has ' if name is None else ', '}{confidence_in_words(confidence)}"


def confidence_in_words(confidence: float | None) -> str:
    """How probable it is that an answer is right, from 0 to 1 and never one of the two.

    >>> [confidence_in_words(value) for value in (0.5, 0.99997, 0.0001, None)]
    ['confidence 0.50', 'confidence above 0.99', 'confidence below 0.01', 'unknown confidence']
    """
    if confidence is None:
        return "unknown confidence"
    if not 0.005 <= confidence < 0.995:
        return f"confidence {'below 0.01' if confidence < 0.5 else 'above 0.99'}"
    return f"confidence {confidence:.2f}"


def place_in_words(latitude: float, longitude: float) -> str:
    """A place with its five decimals, which are about a metre.

    >>> place_in_words(45.8131, -15.97)
    '45.81310, -15.97000'
    """
    return f"{latitude:.5f}, {longitude:.5f}"


def name_in_words(named: Answer | Candidate) -> str:
    """The name of a place, with its region and country, each word once; empty where it has none.

    >>> name_in_words(Candidate(43.74, 7.42, None, "Monaco", None, "Monaco"))
    'Monaco'
    """
    return printable(", ".join(dict.fromkeys(name for name in (named.place, named.region, named.country) if name)))


def candidate_in_words(candidate: Candidate) -> str:
    """A further candidate, with its coordinates where it has no name.

    >>> candidate_in_words(Candidate(44.33, 16.2, 0.25, "32 km north of Knin", None, "Bosnia and Herzegovina"))
    'probability 0.250, 32 km north of Knin, Bosnia and Herzegovina'
    """
    name = name_in_words(candidate) or place_in_words(candidate.latitude, candidate.longitude)
    return name if candidate.probability is None else f"probability {candidate.probability:.3f}, {name}"


def radius_in_words(radius_50_km: float | None, radius_90_km: float | None) -> str:
    """How far off the answer may be.

    >>> radius_in_words(3.21, 120.4)
    '3.2 km holds the truth in 50 % of cases, 120.4 km in 90 %'
    """
    known = {share: km for share, km in ((50, radius_50_km), (90, radius_90_km)) if km is not None}
    if not known:
        return "unknown: validation was too small to promise one"
    (first, km), *more = known.items()
    return ", ".join([f"{km:.1f} km holds the truth in {first} % of cases", *(f"{k:.1f} km in {s} %" for s, k in more)])
