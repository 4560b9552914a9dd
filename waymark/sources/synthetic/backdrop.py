"""What stands behind: sky and clouds, hills, the sea with its islands."""

from dataclasses import dataclass

from PIL import Image
from PIL.ImageDraw import ImageDraw

from waymark.sources.synthetic.draws import Draws
from waymark.sources.synthetic.places import Outlook, nearness
from waymark.sources.synthetic.trees import Colour, disc, shade, shape

WIDTH, HEIGHT = 260, 200  # pixels of the canvas, larger than what the camera takes
SKIES = (
    ((86, 140, 206), (196, 218, 234)),
    ((112, 132, 158), (206, 208, 208)),
    ((146, 156, 170), (188, 190, 192)),
    ((96, 120, 178), (240, 196, 156)),
    ((64, 110, 190), (150, 190, 226)),
    ((170, 176, 186), (226, 222, 214)),
)
LEAVES = ((62, 92, 48), (86, 112, 58), (108, 116, 52), (58, 84, 66), (134, 104, 48), (98, 96, 70))
WATERS = ((44, 96, 140), (70, 118, 130), (104, 122, 136), (60, 84, 112), (120, 140, 140))


@dataclass(frozen=True)
class Weather:
    """What the four views of a place share although it says nothing about where it is.

    Attributes:
        hour: from 8 to 17; the sun stands in the south at half past twelve.
        sky: colours above and at the horizon.
        leaf: colour of the leaves in that season.
        haze: how much of the far hills is lost in the air.
    """

    hour: float
    sky: tuple[Colour, Colour]
    leaf: Colour
    haze: float

    @classmethod
    def draw(cls, draws: Draws) -> "Weather":
        """Draw a weather."""
        return cls(draws.between(8, 17), draws.pick(SKIES), draws.pick(LEAVES), draws.between(0.1, 0.6))

    def sun_deg(self, heading: float) -> float:
        """Return how far right of the heading the sun stands, from -180 to 180 degrees."""
        return ((180 + (self.hour - 12.5) * 15 - heading) + 180) % 360 - 180


def blend(one: Colour, other: Colour, share: float) -> Colour:
    """Mix two colours.

    >>> blend((0, 0, 0), (100, 200, 50), 0.5)
    (50, 100, 25)
    """
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def sky(picture: Image.Image, pen: ImageDraw, horizon: int, weather: Weather, heading: float, draws: Draws) -> None:
    """Draw the air, the sun if it is in view, and clouds."""
    ramp = Image.new("RGB", (1, 2))
    ramp.putdata(list(weather.sky))
    picture.paste(ramp.resize((WIDTH, horizon + 4), Image.Resampling.BILINEAR), (0, 0))
    sun = weather.sun_deg(heading)
    if -45 < sun < 45:
        x, y = WIDTH / 2 + sun / 45 * WIDTH * 0.4, horizon * draws.between(0.2, 0.6)
        for radius, share in ((26, 0.25), (17, 0.5), (9, 0.9)):
            disc(pen, x, y, radius, radius, blend(weather.sky[1], (255, 250, 226), share))
    tone = draws.whole(190, 252)
    for _ in range(draws.whole(0, 4)):
        x, y, size = draws.between(0, WIDTH), draws.between(0.05, 0.8) * horizon, draws.between(10, 26)
        for _ in range(4):
            disc(pen, x + size * draws.between(-1.2, 1.2), y + size * draws.between(-0.12, 0.12),
                 size * draws.between(0.5, 0.9), size * draws.between(0.16, 0.32), (tone, tone, tone))  # fmt: skip


def outline(amplitude: float, jagged: float, period: float, draws: Draws) -> list[float]:
    """Draw the heights of a ridge every 4 pixels.

    Args:
        amplitude: height of the summits, pixels.
        jagged: 0 for round hills, 1 for peaks of straight lines with teeth.
        period: pixels from summit to summit.
        draws: where summits are.
    """
    knots = [
        draws.between(0.25, 0.5) if k % 2 else draws.between(0.75, 1.0) for k in range(int(WIDTH / period * 2) + 4)
    ]
    phase = draws.between(0, 2)
    heights = []
    for x in range(0, WIDTH + 4, 4):
        at = x / period * 2 + phase
        k, straight = int(at), at - int(at)
        round_ = straight * straight * (3 - 2 * straight)
        part = round_ + (straight - round_) * jagged
        tooth = jagged * 0.22 * ((x // 4) % 2) * draws.between(0.3, 1)
        heights.append(amplitude * max(0.0, knots[k] + (knots[k + 1] - knots[k]) * part - tooth))
    return heights


def ridge(pen: ImageDraw, foot: int, heights: list[float], colour: Colour, rock: float, draws: Draws) -> None:
    """Draw a ridge above its foot; `rock` is the share of bare gullies on it."""
    line = [(4.0 * k, foot - high) for k, high in enumerate(heights)]
    shape(pen, [(0, foot + 6), *line, (4.0 * len(heights), foot + 6)], colour)
    bare = shade(colour, 0.68 if draws.chance(0.5) else 1.4)
    for x, y in line:
        if foot - y > 8 and draws.chance(rock):
            low = y + (foot - y) * draws.between(0.3, 0.7)
            pen.line([(int(x), int(y + 2)), (int(x + draws.between(-5, 5)), int(low))], fill=bare, width=2)


def hills(pen: ImageDraw, horizon: int, outlook: Outlook, weather: Weather, draws: Draws) -> None:
    """Draw two ridges: the country far away in that heading, then that around the place."""
    base = blend(draws.pick(LEAVES), (120, 124, 130), draws.between(0.2, 0.7))
    for place, share, size in ((outlook.far, 1.0, 62.0), (outlook.near, 0.45, 44.0)):
        amplitude = 2 + size * place.relief * draws.bell(1.0, 0.35)
        period = draws.bell(78 - 44 * place.jagged, 14)
        colour = blend(base, weather.sky[1], weather.haze * share)
        ridge(pen, horizon, outline(amplitude, place.jagged, period, draws), colour, 0.75 * place.jagged, draws)


def sea(pen: ImageDraw, horizon: int, shore: int, outlook: Outlook, draws: Draws) -> None:
    """Draw water from the horizon down to the shore, with islands, waves and perhaps a sail."""
    water = draws.pick(WATERS)
    for distance_km in reversed(outlook.islands_km):
        near = nearness(distance_km)
        wide, high = 26 + 60 * near, 4 + 26 * near * (0.4 + outlook.far.relief)
        x = draws.between(0, WIDTH)
        bumps = [(x - wide, horizon), (x - wide * 0.45, horizon - high * draws.between(0.5, 1)),
                 (x + wide * 0.1, horizon - high), (x + wide * 0.6, horizon - high * draws.between(0.3, 0.7)),
                 (x + wide, horizon)]  # fmt: skip
        shape(pen, bumps, shade(water, draws.between(0.55, 0.8)))
    pen.rectangle((0, horizon, WIDTH, shore), fill=water)
    foam = shade(water, draws.between(1.35, 1.6))
    y, gap = horizon + 3.0, 3.0
    while y < shore:
        for _ in range(9):
            x, long = draws.between(0, WIDTH), gap * draws.between(1.2, 2.4)
            pen.arc((int(x), int(y - gap * 0.3), int(x + long), int(y + gap * 0.5)), 190, 350, fill=foam, width=2)
        y, gap = y + gap, gap * 1.25
    if draws.chance(0.3):
        x, y, high = draws.between(20, WIDTH - 20), horizon + (shore - horizon) * 0.3, draws.between(9, 16)
        shape(pen, [(x, y), (x, y - high), (x + high * 0.6, y)], (245, 244, 238))
