"""Draws one street with its labels: the pairs of the data set that every machine has (`data.synthetic` writes it).

A street is a small world in metres, x to the right, y up from the road, z ahead of a camera at the height of a driver's
eyes. It is painted from far to near at three times its size; every polygon goes into the photo with a colour and into
the label with a class, so the two agree to a fraction of a pixel. As in the prepared pairs of Cityscapes, an image is
a frame twice as wide as high, squashed to a square.
"""

import math
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np

from common.datasets.paired_images import PALETTE
from data.faces import BLACK, CIRCLE, WHITE, Colour, mix, muted, one_of, seldom

VERSION = 1  # raised whenever the same seed gives other images: sets written before are then drawn again

SIZE, SUPERSAMPLING = 256, 3  # three: the middle of a pixel is the middle of a sample, which is where the label is read
FOCAL = 1.105 * SIZE  # of Cityscapes' camera, 2262 px for 2048; vertically it is twice this, by the squashing
NEAR = 1.0  # metres; what is nearer is moved here, outside the frame

# Classes in the order of common.datasets.paired_images.PALETTE; then void, black in a label: whatever is not scored.
(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN, PLANT, TERRAIN) = range(10)
(SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE, VOID) = range(10, 20)
# Tables of 256 for cv2.LUT: the colour of each class, how rough it looks, and whether shadows fall on it.
LABELS = np.zeros((1, 256, 3), np.uint8)
LABELS[0, :19] = PALETTE
ROUGHNESS = np.zeros(256, np.float32)
ROUGHNESS[:20] = np.array([3, 4, 3, 5, 4, 2, 2, 2, 18, 11, 1, 4, 4, 2, 2, 2, 2, 4, 4, 2]) / 100
GROUND = np.isin(np.arange(256), (ROAD, SIDEWALK, TERRAIN)).astype(np.float32) / 255

# (top of the sky, its bottom, light on things, direct sun, metres that haze takes, exposure)
WEATHERS = {
    "sunny": ((92, 142, 204), (196, 214, 228), (1.08, 1.02, 0.92), 0.55, 700, 1.0),
    "overcast": ((206, 211, 216), (236, 237, 236), (0.97, 1.0, 1.01), 0.0, 420, 0.9),
    "grey": ((150, 158, 166), (206, 208, 208), (0.93, 1.0, 0.97), 0.0, 260, 0.8),
    "rain": ((136, 142, 150), (186, 190, 194), (0.92, 0.98, 1.03), 0.0, 170, 0.75),
    "dusk": ((84, 92, 134), (238, 184, 140), (1.06, 0.93, 0.86), 0.2, 380, 0.75),
}
TARMACS = ((58, 58, 62), (70, 71, 74), (82, 82, 84), (96, 95, 94), (108, 106, 102), (88, 82, 78))
PAVINGS = ((162, 158, 152), (148, 144, 140), (176, 164, 148), (164, 132, 116), (138, 136, 136), (168, 168, 170))
FACADES = (
    *((202, 186, 156), (176, 152, 120), (148, 84, 66), (120, 66, 54), (216, 212, 204), (238, 234, 226)),
    *((128, 128, 126), (156, 160, 164), (214, 188, 128), (186, 140, 118), (166, 172, 186), (120, 98, 78)),
)
ROOFS = ((120, 66, 52), (92, 56, 48), (70, 70, 74), (54, 52, 54), (112, 100, 92))
GREENS = ((70, 96, 42), (54, 82, 40), (88, 114, 50), (44, 68, 38), (104, 116, 48), (78, 108, 64))
GRASSES = ((88, 112, 54), (112, 128, 66), (140, 132, 84), (74, 92, 50), (120, 104, 80))
GREY_PAINTS = ((22, 22, 24), (40, 42, 46), (70, 73, 78), (118, 121, 124), (176, 179, 182), (228, 229, 228))
PAINTS = GREY_PAINTS + ((128, 24, 26), (172, 36, 34), (28, 46, 92), (44, 84, 140), (34, 66, 52), (206, 150, 40))
METALS = ((128, 132, 132), (92, 96, 98), (66, 74, 70), (164, 166, 164))
GLASS, RED, BLUE = (34, 40, 46), (190, 24, 32), (24, 74, 156)


# ---------------------------------------------------------------- what a street looks like


class Street(SimpleNamespace):
    """Everything that holds for a whole image. Lengths are metres, pairs of things are left and right.

    `sample_street` draws each value where it says what it is.
    """


def sample_street(rng: np.random.Generator) -> Street:
    """Draws what holds for a whole image: camera, light, and the plan of the ground."""
    weather = one_of(rng, (*["sunny"] * 4, *["overcast"] * 3, "grey", "rain", "dusk"))
    _, low_sky, tint, direct, clear, exposure = WEATHERS[weather]
    exposure, from_left = exposure * rng.uniform(0.85, 1.15), rng.random() < 0.5
    walls = (0.85 - direct * 0.45, 0.95 + direct * 0.5)[:: 2 * from_left - 1]  # dark and bright
    facing = rng.uniform(0.8, 1.05)
    kind = one_of(rng, ("terrace", "terrace", "terrace", "houses", "park", "mixed", "mixed"))
    mixed = ("terrace", "terrace", "houses", "park", "yard")

    def beside() -> str:
        return one_of(rng, mixed) if kind == "mixed" or rng.random() < 0.2 else kind

    lane, middle, bend = rng.uniform(2.8, 3.5), rng.uniform(-0.5, 0.5), rng.normal(0, 0.0007)
    lanes, parking = (one_of(rng, (0, 1, 1, 1, 2)), one_of(rng, (0, 0, 0, 1))), tuple((rng.random(2) < 0.45).tolist())
    left = middle - lane * (0.5 + lanes[0]) - 2.1 * parking[0] - 0.3
    right = middle + lane * (0.5 + lanes[1]) + 2.1 * parking[1] + 0.3
    return Street(
        height=rng.uniform(1.15, 1.6),  # of the camera
        centre=rng.normal(128, 9),  # column of the vanishing point, pixels
        horizon=rng.normal(111, 5),  # its row
        bend=bend,  # the road runs along x = bend * z^2
        climb=rng.normal(0, 0.0002),  # and y = climb * z^2
        # distance at which something closes the view, before the bend hides the road
        reach=min(rng.uniform(60, 140), 0.85 * math.sqrt(9 / max(abs(bend), 1e-5))),
        weather=weather,  # one of WEATHERS
        direct=direct,  # fraction of the light that comes straight from the sun
        tint=tuple(level * exposure * rng.uniform(0.93, 1.07) for level in tint),  # of the light, as factors
        sun=(*walls, facing),  # light on the walls of left-hand houses, of right-hand ones, on what faces us
        # how far (x, z) a shadow falls for each metre of height
        shadow=(rng.uniform(0.2, 1.2) * (2 * from_left - 1), rng.uniform(-0.5, 0.5)),
        haze=shine(low_sky, exposure),
        clear=clear * rng.uniform(0.7, 1.3),  # metres that haze takes to hide two thirds
        kerbs=(left, right),  # x of the road's edges
        lane=lane,  # width
        middle=middle,  # of the camera's lane
        lanes=lanes,  # oncoming ones, and further ones of our direction
        parking=parking,
        pavement=(rng.uniform(1.8, 5), rng.uniform(1.8, 5)),  # widths
        verge=tuple(seldom(rng, 0.2, lambda: rng.uniform(0.8, 5), 0.0) for _ in range(2)),  # of grass beside them
        kinds=(beside(), beside()),  # of what stands there: "terrace", "houses", "park" or "yard"
        tram=rng.random() < 0.08,
        tarmac=varied(rng, one_of(rng, TARMACS), 8),
        paving=varied(rng, one_of(rng, PAVINGS), 10),
        grass=varied(rng, one_of(rng, GRASSES), 8),
        green=one_of(rng, GREENS),  # what its trees have in common
        busy=rng.uniform(0.1, 0.8),  # 0 to 1
    )


def varied(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """A colour near another: mostly lighter or darker, a little of another hue."""
    change = rng.normal(0, spread)
    return tuple(min(255.0, max(0.0, level + change + rng.normal(0, spread / 3))) for level in colour)


def shine(colour: Colour, factor: float) -> Colour:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


# ---------------------------------------------------------------- camera and brush


class Canvas:
    """Photo and label at three times their size, painted on in metres; shadows on the ground are kept apart."""

    def __init__(self, street: Street):
        side = SIZE * SUPERSAMPLING
        self.street = street
        self.photo = np.zeros((side, side, 3), np.uint8)
        self.label = np.full((side, side), SKY, np.uint8)
        self.shade = np.zeros((SIZE, SIZE), np.uint8)

    def project(self, points: np.ndarray, scale: int = SUPERSAMPLING) -> np.ndarray:
        """Metres [..., 3] -> samples in OpenCV's fixed-point form (int32 [..., 2], 4 fractional bits)."""
        street, z = self.street, np.maximum(points[..., 2], NEAR)
        seen, unit = np.empty((*z.shape, 2)), 16 * scale
        seen[..., 0] = (points[..., 0] / z + street.bend * z) * (FOCAL * unit) + (street.centre * unit - 8)
        seen[..., 1] = (street.height - points[..., 1]) / z - street.climb * z
        seen[..., 1] *= 2 * FOCAL * unit
        seen[..., 1] += street.horizon * unit - 8
        return seen.astype(np.int32)

    def sees(self, x: float, z: float, radius: float) -> bool:
        """Whether any of what stands within `radius` of a place is in the frame, given its column."""
        column = self.street.centre + FOCAL * (x / max(z, NEAR) + self.street.bend * z)
        return z > 2 and abs(column - SIZE / 2) < SIZE / 2 + FOCAL * radius / z

    def lit(self, colour: Colour, z: float) -> Colour:
        """A colour in the light of the scene and the haze of its distance."""
        (r, g, b), (tr, tg, tb), (hr, hg, hb) = colour, self.street.tint, self.street.haze
        near = math.exp(-z / self.street.clear)
        far = 1 - near
        return (r * tr * near + hr * far, g * tg * near + hg * far, b * tb * near + hb * far)

    def paint(self, parts: list, z: float, place=None) -> None:
        """Fills polygons one over the other.

        Args:
            parts: (points, colour or None, class or None); None leaves the photo, or the label, as it is.
            z: distance that tells the haze.
            place: brings the points to metres [n, 3], for instance `upright`; without it they are metres.
        """
        points = np.concatenate([part[0] for part in parts])
        corners, start = self.project(place(points) if place else points), 0
        for outline, colour, name in parts:
            polygon = [corners[start : start + len(outline)]]
            start += len(outline)
            if colour is not None:
                cv2.fillPoly(self.photo, polygon, self.lit(colour, z), cv2.LINE_8, 4)
            if name is not None:
                cv2.fillPoly(self.label, polygon, name, cv2.LINE_8, 4)

    def tiles(self, polygons: np.ndarray, colour: Colour, z: float) -> None:
        """Fills many polygons [k, n, 3] that do not overlap with one colour, in the photo alone."""
        if len(polygons):
            cv2.fillPoly(self.photo, list(self.project(polygons)), self.lit(colour, z), cv2.LINE_8, 4)

    def darken(self, points: np.ndarray, depth: float) -> None:
        """Casts a shadow on the ground; depth from 0 to 1."""
        cv2.fillPoly(self.shade, [self.project(points, 1)], 255 * depth, cv2.LINE_AA, 4)

    def ribbon(self, x: tuple, z: tuple, colour: Colour, name: int, y: tuple = (0, 0)) -> None:
        """A strip along the road between two lines (x, y), in pieces, since road and haze are curved."""
        near, far = max(z[0], NEAR), max(z[1], NEAR + 0.1)
        steps = near * (far / near) ** np.linspace(0, 1, 2 + int(1.3 * math.log2(far / near)))
        pieces = level(grid(x[0], x[1], steps[:-1], steps[1:]))
        pieces[:, (0, 3), 1], pieces[:, 1:3, 1] = y
        for piece, z in zip(self.project(pieces), (steps[:-1] + steps[1:]) / 2, strict=True):
            cv2.fillPoly(self.photo, [piece], self.lit(colour, z), cv2.LINE_8, 4)
            cv2.fillPoly(self.label, [piece], name, cv2.LINE_8, 4)


def level(points: np.ndarray, x: float = 0.0, z: float = 0.0, y: float = 0.0) -> np.ndarray:
    """Lays a drawing [..., 2] of (along x, along z) on the ground at a place."""
    laid = np.full((*points.shape[:-1], 3), y)
    laid[..., ::2] = points + (x, z)
    return laid


def upright(x: float, z: float, y: float = 0.0, heading: tuple[float, float] = (1, 0)):
    """What stands a drawing (along, up) at a place, along a direction (dx, dz) of the ground."""

    def place(points: np.ndarray) -> np.ndarray:
        placed = np.empty((*points.shape[:-1], 3))
        placed[..., 0] = x + heading[0] * points[..., 0]
        placed[..., 1] = y + points[..., 1]
        placed[..., 2] = z + heading[1] * points[..., 0]
        return placed

    return place


def grid(t0, t1, y0, y1) -> np.ndarray:
    """Upright rectangles from t0 to t1, y0 to y1 for every pair of a column (t) and a row (y): [k, 4, 2]."""
    corners = np.empty((np.size(y0), np.size(t0), 4, 2))
    corners[:, :, 0, 0] = corners[:, :, 3, 0] = t0
    corners[:, :, 1, 0] = corners[:, :, 2, 0] = t1
    corners[:, :, :2, 1].T[:] = y0
    corners[:, :, 2:, 1].T[:] = y1
    return corners.reshape(-1, 4, 2)


def box(x0: float, x1: float, y0: float, y1: float) -> list:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


# ---------------------------------------------------------------- sky and ground


def draw_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """Graded, with clouds: white ones on sunny days, a mere unevenness under a closed cover."""
    street, (top, bottom, *_) = canvas.street, WEATHERS[canvas.street.weather]
    fraction = np.linspace(0, 1, 32)[:, None, None] ** 0.8
    clouds = np.float32(rng.uniform(-0.6, 0.5))
    for size, weight in ((4, 0.45), (8, 0.3), (16, 0.2)):
        clouds = clouds + weight * cv2.resize(rng.standard_normal((size // 2, size), np.float32), (32, 32))
    clouds = np.clip(clouds, 0, 0.9)[:, :, None]
    white = (248, 247, 245)
    if street.weather != "sunny":
        white = mix(bottom, one_of(rng, (WHITE, top)), 0.6)
    sky = (np.array(top) * (1 - fraction) + np.array(bottom) * fraction) * (1 - clouds) + np.array(white) * clouds
    rows = min(SIZE, int(street.horizon) + 40) * SUPERSAMPLING
    sky = np.clip(sky * (street.haze[0] / bottom[0]), 0, 255).astype(np.uint8)
    canvas.photo[:rows] = cv2.resize(sky, (canvas.photo.shape[1], rows))


def draw_ground(canvas: Canvas, rng: np.random.Generator) -> None:
    """From the property lines inwards: what lies behind them, verges, pavements, kerbs, and the road."""
    street, span, top = canvas.street, (NEAR, canvas.street.reach), (0.12, 0.12)
    for side, out in ((0, -1), (1, 1)):
        edge, wide, verge = street.kerbs[side], street.pavement[side], street.verge[side]
        canvas.ribbon((edge, edge + out * 90), span, *ground_of(street, street.kinds[side], "park houses"), top)
        if verge:
            canvas.ribbon((edge, edge + out * (verge + wide)), span, street.grass, TERRAIN, top)
        inner = edge + out * verge * (rng.random() < 0.5)
        canvas.ribbon((inner, inner + out * wide), span, street.paving, SIDEWALK, top)
        joints = np.arange(2, 30, rng.uniform(0.8, 2.5))
        slabs = level(grid(inner, inner + out * wide, joints, joints * 1.0025 + 0.03), y=0.12)
        canvas.tiles(slabs, shine(street.paving, 0.88), 10)
    canvas.ribbon(street.kerbs, span, street.tarmac, ROAD)
    kerb = mix(street.paving, (150, 148, 144), 0.6)
    for edge, out in zip(street.kerbs, (-1, 1), strict=True):
        canvas.ribbon((edge, edge + out * 0.14), span, shine(kerb, 1.1), SIDEWALK, top)
        canvas.ribbon((edge, edge), span, shine(kerb, 0.75), SIDEWALK, (0, 0.12))
    draw_markings(canvas, rng)


def ground_of(street: Street, kind: str, green: str) -> tuple[Colour, int]:
    """Colour and class of what lies before the houses: grass if its kind is one of the green ones, else paving."""
    return (street.grass, TERRAIN) if kind in green.split() else (street.paving, SIDEWALK)


def draw_markings(canvas: Canvas, rng: np.random.Generator) -> None:
    """Patches, manholes, rails and worn white lines; all of it is road to the label."""
    street, (left, right), lane = canvas.street, canvas.street.kerbs, canvas.street.lane
    for _ in range(rng.integers(0, 6)):
        x, z = rng.uniform(left, right - 0.5), rng.uniform(4, 40)
        patch = level(grid(x, min(x + rng.uniform(0.4, 3), right), z, z + rng.uniform(1, 14)))
        canvas.tiles(patch, shine(street.tarmac, rng.uniform(0.8, 1.15)), z)
        if rng.random() < 0.3:
            manhole = level(CIRCLE * 0.35, rng.uniform(left + 0.5, right - 0.5), z)
            canvas.tiles(manhole[None], shine(street.tarmac, 0.7), z)
    paint = mix(street.tarmac, (236, 236, 230), rng.uniform(0.35, 0.95))

    def line(x: float, on: float, off: float) -> None:
        starts = np.arange(NEAR - rng.uniform(0, on + off), street.reach, on + off)
        canvas.tiles(level(grid(x - 0.07, x + 0.07, starts, starts + on)), paint, 25)

    for rail in (-0.72, 0.72, -0.72 - lane, 0.72 - lane) * street.tram:
        x = street.middle + rail
        canvas.ribbon((x - 0.05, x + 0.05), (NEAR, street.reach), (62, 60, 60), ROAD)
    gap = one_of(rng, (0.0, 3.0, 4.5, 6.0))
    if rng.random() < 0.75:
        for step in range(-street.lanes[0], street.lanes[1]):
            line(street.middle + lane * (step + 0.5), 3, gap or 4.0 * (step != -1))
    for side, edge in ((-1, left), (1, right)):
        if street.parking[side > 0]:
            line(edge - side * 2.1, 1, one_of(rng, (0, 0, 1)))
        elif rng.random() < 0.3:
            line(edge - side * 0.35, 3, 0)
    z, extra = rng.uniform(6, 28), rng.random()
    if extra < 0.3:  # a crossing
        bars = np.arange(left + 0.3, right - 0.6, 1.0)
        canvas.tiles(level(grid(bars, bars + 0.5, z, z + 3)), paint, z)
    elif extra < 0.5:  # a line to stop at
        canvas.tiles(level(grid(street.middle - lane / 2, street.middle + lane / 2, z, z + 0.5)), paint, z)
    elif extra < 0.65:
        arrow = [(-0.1, 0), (0.1, 0), (0.1, 2.4), (0.45, 2.2), (0, 4), (-0.45, 2.2), (-0.1, 2.4)]
        canvas.tiles(level(np.array(arrow), street.middle, z)[None], paint, z)


# ---------------------------------------------------------------- what stands beside the street


def sample_facade(rng: np.random.Generator, street: Street) -> dict:
    """Colours and measures of a house."""
    wall, office = mix(varied(rng, one_of(rng, FACADES), 12), muted(rng), rng.uniform(0, 0.25)), rng.random() < 0.2
    step, sky = rng.uniform(1.8, 3.4), mix(GLASS, shine(street.haze, 1 / max(street.tint)), rng.uniform(0.1, 0.7))
    lamps = {"dusk": (255, 214, 140)}.get(street.weather, mix(sky, WHITE, 0.3))
    return {
        "wall": wall,
        "base": mix(wall, varied(rng, one_of(rng, FACADES), 10), one_of(rng, (0, 0.3, 1))),
        "ground": rng.uniform(3.2, 4.4),
        "storey": rng.uniform(2.8, 3.7),
        "step": step,
        "window": (step * (0.42 if office else rng.uniform(0.18, 0.3)), 0.5 if office else 0.8, rng.uniform(2.0, 2.5)),
        "frame": mix(wall, one_of(rng, (WHITE, WHITE, BLACK, (160, 130, 100))), rng.uniform(0.1, 0.8)),
        "panes": (varied(rng, GLASS, 8), sky, lamps),
        "lit": rng.uniform(0.75, 1),
        "bands": rng.random() < 0.4,
        "shop": rng.random() < 0.45,
        "sign": muted(rng),
        "roof": varied(rng, one_of(rng, ROOFS), 8),
    }


def draw_facade(canvas: Canvas, look: dict, a, b, height: float, light: float, rng, plain: bool = False) -> None:
    """One wall from ground point a = (x, z) to b, with windows, doors or shops unless it is plain."""
    (ax, az), (bx, bz) = a, b
    length, z, street = math.hypot(bx - ax, bz - az), max(NEAR, 0.6 * min(az, bz) + 0.4 * max(az, bz)), canvas.street
    place, wall, ground = upright(ax, az, 0, ((bx - ax) / length, (bz - az) / length)), look["wall"], look["ground"]
    parts = [(box(0, length, 0, height), shine(wall, light), BUILDING)]
    canvas.paint(parts + [(box(0, length, 0, ground), shine(look["base"], light), None)], z, place)
    steps = look["step"] * (np.arange(int(length / look["step"])) + 0.5)
    at = place(np.stack([steps, steps], 1))
    steps = steps[np.abs(street.centre + FOCAL * at[:, 0] / np.maximum(at[:, 2], NEAR) - SIZE / 2) < SIZE * 0.6]
    if plain or z > 90 or not len(steps):
        return

    def tiles(rectangles: np.ndarray, colour: Colour) -> None:
        canvas.tiles(place(rectangles), shine(colour, light), z)

    half, low, high = look["window"]
    floors = ground + look["storey"] * np.arange(int((height - ground - 0.3) / look["storey"]))
    if look["bands"]:
        tiles(grid(0, length, floors - 0.12, floors + 0.1), mix(wall, look["frame"], 0.5))
    tiles(grid(steps - half - 0.12, steps + half + 0.12, floors + low - 0.15, floors + high + 0.1), look["frame"])
    panes, draws = grid(steps - half, steps + half, floors + low, floors + high), rng.random(len(steps) * len(floors))
    for pane, least, most in zip(look["panes"], (0, 0.55, look["lit"]), (0.55, look["lit"], 1), strict=True):
        canvas.tiles(place(panes[(draws >= least) & (draws < most)]), pane, z)
    if look["shop"]:
        tiles(grid(steps - look["step"] * 0.42, steps + look["step"] * 0.42, 0.4, ground - 0.8), look["panes"][0])
        tiles(grid(0.3, length - 0.3, ground - 0.65, ground - 0.1), look["sign"])
    else:
        tiles(grid(steps[1::2] - half, steps[1::2] + half, 1.0, ground - 0.6), look["panes"][0])
        tiles(grid(steps[::4] - 0.6, steps[::4] + 0.6, 0.1, 2.3), mix(look["sign"], (70, 50, 40), 0.5))
    tiles(grid(0, length, height - 0.35, height), mix(wall, look["frame"], 0.35))


def draw_house(canvas: Canvas, x: float, span: tuple, side: int, size: tuple, rng, plain: bool = False) -> None:
    """A house: the end that faces us, the roof, the wall along the street.

    Args:
        x: of the wall along the street.
        span: (near, far) z.
        size: (height of the eaves, height of the roof above them, depth).
        plain: nobody sees its end.
    """
    (near, far), (eaves, ridge, deep), out, street = span, size, 2 * side - 1, canvas.street
    look, back = sample_facade(rng, street), x + out * deep / 2
    draw_facade(canvas, look, (x + out * deep, near), (x, near), eaves, street.sun[2], rng, plain)
    if ridge:
        gable = [(x, eaves, near), (back, eaves + ridge, near), (x + out * deep, eaves, near)]
        slope = [(x - out * 0.3, eaves - 0.2, near), (back, eaves + ridge, near), (back, eaves + ridge, far)]
        roof, wall = shine(look["roof"], (street.sun[side] + 1) / 2), shine(look["wall"], street.sun[2])
        canvas.paint([(gable, wall, BUILDING), ([*slope, (x - out * 0.3, eaves - 0.2, far)], roof, BUILDING)], near)
    draw_facade(canvas, look, (x, near), (x, far), eaves, street.sun[side], rng)
    fall = 0.6 + abs(street.shadow[0]) * eaves * (street.direct > 0 and out * street.shadow[0] < 0)
    canvas.darken(level(grid(x, x - out * fall, near, far))[0], 0.4)


CLUMPS = np.array(  # of a crown, from the bottom up: x, y and radius in halves of its width and height
    [(0.1, -0.35, 0.45), (-0.55, -0.25, 0.42), (0.55, -0.22, 0.42), (-0.15, 0.05, 0.4), (0, 0.1, 0.52)]
    + [(0.38, 0.28, 0.45), (-0.35, 0.3, 0.45), (0.2, 0.4, 0.3), (0, 0.5, 0.42)]
)
RAGGED, LEAF = CIRCLE[::2], CIRCLE[::6]
BARK = np.array([(-1, 0), (-0.6, 0.6), (0.6, 0.6), (1, 0)])


def draw_tree(canvas: Canvas, x: float, z: float, tall: float, wide: float, rng: np.random.Generator) -> None:
    """Trunk and a crown of ragged clumps of leaves."""
    street, stem, low = canvas.street, 0.02 * tall, tall * rng.uniform(0.15, 0.33)
    dx, dz = street.shadow
    spot = level(CIRCLE * wide / 2, x + dx * tall * 0.5, z + dz * tall * 0.5)
    canvas.darken(spot, (0.15, 0.45)[street.direct > 0])
    if not canvas.sees(x, z, wide / 2):
        return
    bark, green = varied(rng, (84, 72, 60), 12), varied(rng, mix(street.green, one_of(rng, GREENS), 0.35), 7)
    parts = [(BARK * (stem, tall), bark, PLANT), (BARK * (stem * 0.4, tall) + (stem * 0.5, 0), shine(bark, 1.25), None)]
    half, clumps = np.array([wide, tall - low]) / 2, CLUMPS[:: 1 if z < 30 else 2]
    clumps = clumps + rng.normal(0, 0.07, clumps.shape)
    ragged = (1 + rng.normal(0, 0.1, (len(clumps), len(RAGGED), 1))) * clumps[:, None, 2:]
    outlines = (clumps[:, None, :2] + RAGGED * ragged) * half + (0, low + half[1])
    tones = 0.85 + 0.4 * clumps[:, 1] + 0.3 * clumps[:, 0] * (street.sun[0] - street.sun[1])
    for outline, tone in zip(outlines, tones, strict=True):
        parts.append((outline, shine(green, max(0.45, tone)), PLANT))
    canvas.paint(parts, z, upright(x, z))
    if z < 45:
        middles = clumps[:, None, :2] + rng.uniform(-0.6, 0.6, (len(clumps), 8, 2)) * clumps[:, None, 2:]
        middles = (middles * half + (0, low + half[1])).reshape(-1, 1, 2)
        leaves = upright(x, z)(middles + LEAF * (rng.uniform(0.025, 0.06, (len(middles), 1, 1)) * wide))
        canvas.tiles(leaves[::2], shine(green, 1.3), z)
        canvas.tiles(leaves[1::2], shine(green, 0.55), z)


def draw_screen(canvas: Canvas, name: int, x: float, span: tuple, tall: float, rng: np.random.Generator) -> None:
    """A hedge, wall or fence along the road; one sees through some fences."""
    (near, far), light = (max(NEAR, end) for end in span), canvas.street.sun[int(x > 0)]
    length, z, place = far - near, 0.7 * near + 0.3 * far, upright(x, near, 0, (0, 1))
    if length < 1:
        return
    steps = np.arange(0, length, {PLANT: 0.4, WALL: 3.0, FENCE: rng.uniform(0.15, 0.5)}[name])
    if name == PLANT:
        green = shine(varied(rng, mix(canvas.street.green, one_of(rng, GREENS), 0.5), 8), light)
        top = np.stack([steps, tall * (1 + rng.normal(0, 0.05, len(steps)))], 1)
        canvas.paint([([(0, 0), *top, (length, tall), (length, 0)], green, PLANT)], z, place)
        leaves = rng.uniform((0, 0.1), (length, tall * 0.95), (int(8 * length), 1, 2)) + LEAF * 0.12
        canvas.tiles(place(leaves[::2]), shine(green, 0.6), z)
        canvas.tiles(place(leaves[1::2]), shine(green, 1.3), z)
    elif name == WALL:
        stone = shine(mix(varied(rng, one_of(rng, FACADES), 10), (140, 136, 130), 0.4), light)
        canvas.paint([(box(0, length, 0, tall), stone, WALL)], z, place)
        canvas.tiles(place(grid(steps, steps + 0.12, 0, tall)), shine(stone, 0.85), z)
        canvas.tiles(place(grid(0, length, tall - 0.15, tall)), shine(stone, 1.2), z)
    else:
        colour, solid = shine(one_of(rng, (*METALS, (120, 90, 60), (50, 52, 50))), light), rng.random() < 0.4
        canvas.paint([(box(0, length, 0, tall), shine(colour, 0.8) if solid else None, FENCE)], z, place)
        wide = (steps[1] - steps[0]) * (0.7 if solid else 0.25)
        canvas.tiles(place(grid(steps, steps + wide, 0.05, tall)), colour, z)
        canvas.tiles(place(grid(0, length, (0.1, tall - 0.1), (0.18, tall - 0.02))), shine(colour, 1.1), z)


def draw_end(canvas: Canvas, rng: np.random.Generator) -> None:
    """What closes the view: houses across the street and trees before them, or far trees and the open sky."""
    street, z, view = canvas.street, canvas.street.reach, rng.random() < 0.2
    shift = -street.bend * z * z
    x = shift - 40
    while x < shift + 40:
        wide = rng.uniform(9, 24)
        if not view or abs(x + wide / 2 - shift) > 14:
            look = sample_facade(rng, street)
            draw_facade(canvas, look, (x, z), (x + wide, z), rng.uniform(7, 20), street.sun[2], rng)
        x += wide
    if view:
        canvas.paint([(box(-30, 30, 0, 2.5), shine(street.green, 0.9), PLANT)], z * 1.5, upright(shift, z - 1))
    for _ in range(rng.integers(2, 9)):
        tall = rng.uniform(6, 15)
        draw_tree(canvas, shift + rng.uniform(-30, 30), z - 2, tall, tall * rng.uniform(0.5, 0.9), rng)


def draw_side(canvas: Canvas, side: int, rng: np.random.Generator) -> None:
    """Everything behind the property line of one side, from far to near, lot by lot."""
    street, out, kind = canvas.street, 2 * side - 1, canvas.street.kinds[side]
    kerb = street.kerbs[side]
    x = kerb + out * (street.pavement[side] + street.verge[side] + 0.15)
    edges, height = [rng.uniform(-6, 4)], rng.uniform(10, 22)
    while edges[-1] < street.reach:
        edges.append(edges[-1] + rng.uniform(*{"terrace": (9, 24)}.get(kind, (10, 20))))
    built = (rng.random(len(edges)) < 0.88).tolist()  # the lots of a terrace that are not gaps
    for lot in range(len(edges) - 2, -1, -1):
        span = (edges[lot], edges[lot + 1])
        if span[0] > 80 or not canvas.sees(x, span[1], 0):
            continue
        if kind == "terrace" and built[lot]:
            size = (max(6.0, height + rng.normal(0, 2)), rng.uniform(2, 5) * (rng.random() < 0.6), rng.uniform(10, 14))
            draw_house(canvas, x, span, side, size, rng, lot > 0 and built[lot - 1])
        elif kind == "terrace" and rng.random() < 0.5:  # a side street
            canvas.ribbon((kerb, x + out * 60), (span[0] + 2, span[1] - 2), street.tarmac, ROAD, (0, 0.12))
        else:
            draw_lot(canvas, kind, x, span, side, rng)


def draw_lot(canvas: Canvas, kind: str, x: float, span: tuple, side: int, rng: np.random.Generator) -> None:
    """A garden with its house, a piece of park or a yard, and what fences it off."""
    (near, far), out, street, deep = span, 2 * side - 1, canvas.street, rng.uniform(3, 8)
    canvas.ribbon((x, x + out * 50), span, *ground_of(street, kind, "park houses terrace"), (0.12, 0.12))
    if kind == "houses" or (kind == "yard" and rng.random() < 0.6):
        size = (rng.uniform(4, 8), rng.uniform(2, 4.5) * (kind == "houses"), 10.0)
        draw_house(canvas, x + out * deep, (near + 1.5, far - 1.5), side, size, rng)
    trees, heights, depth, fenced = (0, 3), (3, 9), deep, 0.85
    if kind == "park":
        trees, heights, depth, fenced = (2, 4 + (far < 50)), (5, 16), 16, 0.5
    for z in sorted(rng.uniform(near, far, rng.integers(*trees)), reverse=True):
        tall, away = rng.uniform(*heights), rng.uniform(1, depth)
        draw_tree(canvas, x + out * away, z, tall, tall * rng.uniform(0.5, 0.85), rng)
    if rng.random() < fenced:
        name = one_of(rng, {"yard": (WALL, FENCE, FENCE)}.get(kind, (PLANT, PLANT, WALL, FENCE)))
        draw_screen(canvas, name, x, span, rng.uniform(1.0, 2.6), rng)


# ---------------------------------------------------------------- vehicles and people

# Side views, as metres from the rear and height in turn. Between one point and the next lie the rear bumper, the tail,
# the boot lid, the rear window, the roof, the windscreen, the bonnet, the grille and the front bumper.
HATCHBACK = (0.08, 0.25, 0, 0.6, 0.06, 0.94, 0.1, 0.97, 0.6, 1.47, 2.4, 1.48, 3.15, 1, 3.9, 0.82, 4.05, 0.55, 4, 0.25)
SALOON = (0.06, 0.25, 0, 0.6, 0.04, 0.98, 0.75, 1.02, 1.45, 1.41, 2.75, 1.43, 3.55, 1, 4.4, 0.82, 4.6, 0.5, 4.5, 0.25)
ESTATE = (0.06, 0.25, 0, 0.6, 0.05, 0.96, 0.08, 1, 0.5, 1.5, 2.9, 1.5, 3.7, 1, 4.5, 0.84, 4.7, 0.55, 4.6, 0.25)
TALL = (0.06, 0.32, 0, 0.7, 0.03, 1.08, 0.05, 1.12, 0.35, 1.72, 2.9, 1.74, 3.6, 1.16, 4.3, 1.04, 4.5, 0.7, 4.4, 0.3)
VAN = (0.05, 0.3, 0, 0.7, 0, 1.1, 0.02, 1.2, 0.1, 2.05, 3.9, 2.1, 4.75, 1.25, 5.3, 1.1, 5.45, 0.6, 5.4, 0.3)
LORRY = (0, 0.7, 0, 0.9, 0, 1, 0, 1.1, 0, 3.5, 7.2, 3.5, 7.4, 1.7, 7.4, 1.2, 7.4, 0.8, 7.4, 0.4)
COACH = (0.05, 0.3, 0, 0.8, 0, 1, 0, 1.4, 0.1, 3, 11.8, 3.05, 12, 1.2, 12, 1, 12, 0.8, 12, 0.3)
TRAM = (0.3, 0.2, 0.1, 0.8, 0, 1, 0, 1.3, 0.5, 3.2, 27.5, 3.2, 28, 1.3, 28, 1, 27.9, 0.8, 27.7, 0.2)
CARS = (HATCHBACK, HATCHBACK, HATCHBACK, SALOON, SALOON, ESTATE, ESTATE, TALL, VAN)
SPREAD = np.array([-1, 1, 1, -1])  # of a rectangle's corners, from side to side


def solid(s, y, t) -> np.ndarray:
    """Points [n, 3] of a vehicle: metres from its rear, up, and to the side; arrays of n or numbers."""
    points = np.empty((max(np.size(s), np.size(y)), 3))
    points[:, 0], points[:, 1], points[:, 2] = s, y, t
    return points


def draw_vehicle(canvas: Canvas, x: float, z: float, shape: tuple, name: int, heading: tuple, rng) -> None:
    """A vehicle at (x, z) with its nose towards heading = (dx, dz): the end and the flank that the camera sees."""
    street, profile, (dx, dz) = canvas.street, np.reshape(shape, (-1, 2)), heading
    (length, tall), half = profile.max(0), {CAR: 0.9}.get(name, 1.25)
    body, glass = varied(rng, one_of(rng, PAINTS), 6), mix(GLASS, street.haze, 0.3)
    if name == TRUCK:
        body = mix(body, (224, 224, 220), rng.random())
    behind = x * dx + z * dz > 0  # we see its rear
    facing, flank = street.sun[2], street.sun[int(x > 0)]
    if abs(dz) <= 0.7:
        facing, flank = flank, facing

    def place(points: np.ndarray) -> np.ndarray:
        s, y, t = points[:, 0] - length / 2, points[:, 1], points[:, 2]
        if name == CAR:  # cars narrow above the waist
            t = t * (1 - 0.26 * np.clip(y - 0.95, 0, 0.6))
        return np.stack([x + dx * s - dz * t, y, z + dz * s + dx * t], -1)

    end, top, panels = length - 0.3, profile[0, 1] + 0.2, (4, 5, 6, 7, 8)
    if behind:
        end, panels = 0.3, (4, 3, 2, 1, 0)
    parts = [(solid(end, [0.1, 0.1, top, top], SPREAD * half * 0.9), (18, 18, 19), name)]
    for t in (0.14 - half, half - 0.14):
        parts.append((solid(end, [0, 0, top, top], t + SPREAD * 0.13), (14, 14, 15), name))
    for i in panels:
        (s0, y0), (s1, y1) = profile[i : i + 2]
        tone = facing * {0: 0.6, 2: 1.12, 4: 1.15, 6: 1.15, 8: 0.6}.get(i, 1)
        parts.append((solid([s0, s0, s1, s1], [y0, y0, y1, y1], SPREAD * half), shine(body, tone), name))
        if i == 5 or (i == 3 and name != TRUCK):
            rim = math.copysign(0.06, y1 - y0)
            y = [y0 + rim, y0 + rim, y1 - rim, y1 - rim]
            parts.append((solid([s0, s0, s1, s1], y, SPREAD * half * 0.87), glass, None))
    if z < 70:
        parts += end_of_vehicle(profile, half, behind, street.weather == "dusk")
    offset = x * dz - z * dx  # of the camera from its middle line
    if abs(offset) > half:
        parts += flank_of_vehicle(profile, math.copysign(half, offset), shine(body, flank), glass, name)
    canvas.paint(parts, z, place)
    ground = place(solid([-0.1, -0.1, length + 0.1, length + 0.1], 0, SPREAD * (half + 0.12)))
    canvas.darken(ground, 0.75)
    if street.direct:
        canvas.darken(ground + np.array([street.shadow[0], 0, street.shadow[1]]) * tall * 0.7, 0.45)


def end_of_vehicle(profile: np.ndarray, half: float, behind: bool, burning: bool) -> list:
    """Lamps and plate, and the grille of a front."""
    points, lamp, bright, rise = profile[8:6:-1], (214, 218, 220), (255, 250, 225), -0.14
    if behind:
        points, lamp, bright, rise = profile[1:3], (176, 22, 24), (255, 90, 60), 0.02
    (s0, y0), (s1, y1) = points
    s, deep, plate, lamp, parts = (s0 + s1) / 2, max(0.12, (y1 - y0) * 0.75), y0 + rise, mix(lamp, bright, burning), []
    if not behind:
        parts.append((solid(s, [y0, y0, y1 - 0.06, y1 - 0.06], SPREAD * half * 0.5), (26, 27, 29), None))
    for t in (-0.8, 0.8):
        y = [y1 - deep, y1 - deep, y1 - 0.03, y1 - 0.03]
        parts.append((solid(s, y, half * (t + 0.18 * SPREAD)), lamp, None))
    return [*parts, (solid(s, [plate, plate, plate + 0.13, plate + 0.13], SPREAD * 0.27), (226, 226, 216), None)]


def flank_of_vehicle(profile: np.ndarray, t: float, body: Colour, glass: Colour, name: int) -> list:
    """The side with its windows, pillars, sill and wheels."""
    length, low, wheel = profile[:, 0].max(), profile[0, 1], {CAR: 0.32}.get(name, 0.48)
    (s0, y0), (s1, y1), (s2, _), (s3, y3) = profile[3:7]
    parts = [(solid(*profile.T, t), body, name)]
    if name != TRUCK:
        window = solid([s0 + 0.25, s1 + 0.15, s2 - 0.1, s3 - 0.3], [y0 + 0.03, y1 - 0.1, y1 - 0.1, y3 + 0.03], t)
        parts.append((window, glass, None))
    for s in np.arange(s0 + 1.4, s3 - 0.6, 1.3):
        parts.append((solid([s, s + 0.1, s + 0.1, s], [y0, y0, y1, y1], t), shine(body, 0.9), None))
    sill = solid([0.3, length - 0.3, length - 0.3, 0.3], [low, low, low + 0.15, low + 0.15], t)
    parts.append((sill, shine(body, 0.6), None))
    for s in (0.19 * length, 0.81 * length):
        for size, tone, label in ((1, (20, 20, 21), name), (0.6, (116, 118, 120), None), (0.2, (50, 50, 52), None)):
            ring = RAGGED * (wheel * size) + (s, wheel)
            parts.append((solid(*ring.T, t), tone, label))
    return parts


# Of a person as wide and as high as 1: what it is made of (trousers, coat, skin or hair), its brightness, its outline,
# and how far a step of 1 moves the outline's points.
FIGURE = (
    (0, 0.8, ((-0.13, 0.5), (0, 0.5), (0.05, 0), (-0.07, 0)), (0, 0, 1, 1)),
    (0, 1.0, ((0, 0.5), (0.13, 0.5), (0.1, 0), (-0.03, 0)), (0, 0, -1, -1)),
    (1, 0.8, ((-0.2, 0.8), (-0.26, 0.78), (-0.24, 0.46), (-0.17, 0.46)), (0, 0, -0.5, -0.5)),
    (1, 0.9, ((0.2, 0.8), (0.26, 0.78), (0.24, 0.46), (0.17, 0.46)), (0, 0, 0.5, 0.5)),
    (1, 1.0, ((-0.08, 0.85), (-0.22, 0.81), (-0.19, 0.45), (0.19, 0.45), (0.22, 0.81), (0.08, 0.85)), 0),
    (2, 0.8, ((-0.05, 0.83), (0.05, 0.83), (0.05, 0.88), (-0.05, 0.88)), 0),
    (2, 1.0, CIRCLE * (0.105, 0.07) + (0, 0.93), 0),
    (3, 1.0, CIRCLE[11:] * (0.115, 0.075) + (0, 0.94), 0),
)


def draw_person(canvas: Canvas, x: float, z: float, rng: np.random.Generator, name: int = PERSON, y=0.12) -> None:
    """Somebody who stands or walks, or rides."""
    tall = rng.uniform(*seldom(rng, 0.9, lambda: (1.5, 1.92), (1.0, 1.4)))
    wide, step = rng.uniform(0.9, 1.2), rng.uniform(-0.2, 0.2)
    coat, hair = muted(rng), one_of(rng, ((30, 24, 22), (70, 48, 32), (150, 110, 70), (120, 118, 116)))
    skin = one_of(rng, ((236, 196, 170), (214, 168, 136), (150, 104, 76), (90, 60, 44)))
    colours, parts = (mix(muted(rng), (40, 42, 52), 0.65), coat, skin, seldom(rng, 0.85, lambda: hair, coat)), []
    for which, tone, outline, moves in FIGURE:
        points = np.array(outline)
        points[:, 0] += step * np.asarray(moves)
        parts.append((points * (wide, tall), shine(colours[which], tone * canvas.street.sun[2]), name))
    if rng.random() < 0.3:
        parts.append((box(0.2, 0.42, 0.3 * tall, 0.52 * tall), muted(rng), name))
    canvas.paint(parts, z, upright(x, z, y))
    canvas.darken(level(CIRCLE * 0.35, x, z), 0.5)


def draw_cycle(canvas: Canvas, x: float, z: float, heading: tuple, rng, name: int = BICYCLE, y: float = 0.0) -> None:
    """A bicycle or, with fat wheels and a body, a motorcycle; one sees through the wheels."""
    metal, inner, parts = muted(rng), {MOTORCYCLE: 0.16}.get(name, 0.27), []
    rim = np.concatenate([CIRCLE * 0.34, CIRCLE[:1] * 0.34, CIRCLE[::-1] * inner, CIRCLE[-1:] * inner])
    for s in (-0.53, 0.53):
        parts += [(CIRCLE * 0.34 + (s, 0.34), None, name), (rim + (s, 0.34), (26, 26, 27), name)]
    tubes = [(-0.53, 0.34, 0, 0.3), (0, 0.3, -0.18, 0.85), (0, 0.3, 0.4, 0.8), (-0.18, 0.8, 0.4, 0.8)]
    for x0, y0, x1, y1 in [*tubes, (0.53, 0.34, 0.36, 1)]:
        dx, dy = (0.03 * d / math.hypot(x1 - x0, y1 - y0) for d in (y0 - y1, x1 - x0))
        parts.append(([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)], metal, name))
    if name == MOTORCYCLE:
        body = [(-0.6, 0.5), (-0.5, 0.85), (0.1, 0.8), (0.3, 1.0), (0.5, 0.75), (0.25, 0.3), (-0.3, 0.3)]
        parts.append((body, metal, name))
    parts.append((box(-0.32, -0.06, 0.85, 0.92), (30, 28, 28), name))
    canvas.paint(parts, z, upright(x, z, y, heading))
    bar = upright(x + 0.36 * heading[0], z + 0.36 * heading[1], y, (heading[1], heading[0]))
    canvas.paint([(box(-0.3, 0.3, 0.98, 1.05), (40, 40, 42), name)], z, bar)
    reach = 0.3 + abs(heading[0]) * 0.6
    canvas.darken(level(grid(-reach, reach, -0.3, 0.3), x, z)[0], 0.35)


def draw_rider(canvas: Canvas, x: float, z: float, heading: tuple, rng: np.random.Generator) -> None:
    draw_cycle(canvas, x, z, heading, rng, one_of(rng, (BICYCLE, BICYCLE, BICYCLE, MOTORCYCLE)))
    draw_person(canvas, x - 0.1 * heading[0], z, rng, RIDER, 0.28)


# ---------------------------------------------------------------- poles, signs, lights, bins

TRIANGLE, SQUARE = np.array([(-0.42, -0.3), (0.42, -0.3), (0, 0.45)]), np.array(box(-0.35, 0.35, -0.35, 0.35))
SHIELDS = (  # of traffic signs: outlines in metres with their colours, from back to front; two large ones at the end
    ((CIRCLE * 0.36, RED), (CIRCLE * 0.26, (240, 240, 238))),
    ((CIRCLE * 0.36, RED), (SQUARE * (0.75, 0.18), (240, 240, 238))),
    ((CIRCLE * 0.36, BLUE), (SQUARE * (0.2, 0.6), WHITE)),
    ((CIRCLE * 0.36, BLUE), (CIRCLE * 0.1, (230, 30, 40))),
    ((TRIANGLE, RED), (TRIANGLE * 0.62, (240, 238, 230))),
    ((TRIANGLE * (1, -1), RED), (TRIANGLE * (0.62, -0.62), (240, 238, 230))),
    ((CIRCLE[::6] * 0.45, (236, 236, 230)), (CIRCLE[::6] * 0.33, (236, 186, 30))),
    ((SQUARE, BLUE), (SQUARE * (0.3, 0.6), WHITE)),
    ((SQUARE * (1.2, 1.6), (238, 238, 234)), (SQUARE * 0.6 + (0, 0.2), (60, 64, 70))),
    ((SQUARE * (3.2, 1.2), (226, 190, 40)), (SQUARE * (2.4, 0.3), (30, 30, 30))),
    ((SQUARE * (3.6, 1.4), BLUE), (SQUARE * (2.8, 0.4), WHITE)),
)


def draw_pole(canvas: Canvas, x: float, z: float, tall: float, thick: float, colour: Colour, arm: tuple = ()) -> None:
    """A pole, lit from the left; `arm` is (reach, rise) of what leads from its top over the road."""
    parts = [(box(-thick / 2, thick / 2, 0, tall), shine(colour, canvas.street.sun[2]), POLE)]
    parts.append((box(0, thick / 2, 0, tall), shine(colour, 0.7), None))
    if arm:
        reach, tip = arm[0], tall + arm[1]
        parts.append(([(0, tall - 0.1), (reach, tip), (reach, tip + 0.1), (0, tall)], colour, POLE))
    canvas.paint(parts, z, upright(x, z))


def draw_lamp(canvas: Canvas, x: float, z: float, towards: int, rng: np.random.Generator) -> None:
    """A street lamp whose arm hangs over the road."""
    tall, reach, colour = rng.uniform(5, 9), towards * rng.uniform(0.8, 2.5), one_of(rng, METALS)
    draw_pole(canvas, x, z, tall, rng.uniform(0.08, 0.14), colour, (reach, 0.3))
    glow = {"dusk": (255, 230, 170)}.get(canvas.street.weather, shine(colour, 1.2))
    canvas.paint([(box(reach - 0.35, reach + 0.35, tall + 0.2, tall + 0.4), glow, POLE)], z, upright(x, z))


def draw_sign(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    """One or two shields on a pole."""
    heights, shields = (2.1, 3), SHIELDS[:-2]
    if z > 14 and rng.random() < 0.04:
        heights, shields = (4, 5), SHIELDS[-2:]
    up, faded, parts = rng.uniform(*heights), rng.uniform(0.75, 1), []
    draw_pole(canvas, x, z, up + 0.3, 0.07, one_of(rng, METALS))
    for step in range(1 + (rng.random() < 0.3)):
        for outline, colour in one_of(rng, shields):
            parts.append((outline + (0, up - 0.9 * step), shine(colour, faded), SIGN))
    canvas.paint(parts, z, upright(x, z))


def draw_signal(canvas: Canvas, x: float, z: float, towards: int, rng: np.random.Generator) -> None:
    """Traffic lights on a pole, and at times a second set on an arm over the road."""
    colour, arm, lit = one_of(rng, METALS), towards * rng.uniform(2.5, 5) * (rng.random() < 0.4), rng.integers(3)
    draw_pole(canvas, x, z, 3.4 + 2 * bool(arm), 0.12, colour, (arm, 0) * bool(arm))
    parts = []
    for dx, up in ((0, 2.6), (arm, 4.7))[: 1 + bool(arm)]:
        parts.append((box(dx - 0.2, dx + 0.2, up - 0.1, up + 1.0), (24, 26, 25), LIGHT))
        for lamp, tone in enumerate(((60, 255, 170), (255, 180, 40), (255, 50, 40))):
            tone = shine(tone, 1 / max(canvas.street.tint) if lamp == lit else 0.18)
            parts.append((CIRCLE * 0.13 + (dx, up + 0.12 + 0.32 * lamp), tone, None))
    canvas.paint(parts, z, upright(x, z))


def draw_bin(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    """A bin, cabinet or advertisement: void in the label, as in Cityscapes."""
    half, tall, colour = rng.uniform(0.25, 0.65), rng.uniform(0.8, 2.2), mix(muted(rng), (110, 114, 110), 0.4)
    lid = (box(-half, half, tall - 0.12, tall), shine(colour, 1.3), None)
    canvas.paint([(box(-half, half, 0.1, tall), colour, VOID), lid], z, upright(x, z))


# ---------------------------------------------------------------- the whole street


def plan_traffic(canvas: Canvas, rng: np.random.Generator) -> list:
    """(z, what draws it) of everything on the road."""
    street, plan = canvas.street, []

    def add(z: float, draw, *arguments) -> None:
        plan.append((z, partial(draw, canvas, *arguments)))

    def add_vehicle(x: float, z: float, heading: tuple) -> None:
        draw = rng.random()
        if draw < 0.05:
            shape, name = LORRY, TRUCK
        elif draw < 0.08:
            shape, name = COACH, BUS
        else:
            shape, name = one_of(rng, CARS), CAR
        add(z, draw_vehicle, x, z, shape, name, heading, rng)

    for side, edge in ((-1, street.kerbs[0]), (1, street.kerbs[1])):
        z, crowd = rng.uniform(4, 14), rng.uniform(0.1, 0.85)
        while street.parking[side > 0] and z < min(70, street.reach):
            if rng.random() < crowd:
                x = edge - side * 1.1 + rng.normal(0, 0.07)
                add(z, draw_vehicle, x, z, one_of(rng, CARS), CAR, (0, side), rng)
            z += rng.uniform(5.4, 7)
    for step in range(-street.lanes[0], street.lanes[1] + 1):
        x, way = street.middle + street.lane * step, 2 * (step >= 0) - 1
        z = rng.uniform(11, 50)
        while z < street.reach:
            if street.tram and rng.random() < 0.3:
                add(z + 14, draw_vehicle, x, z + 14, TRAM, TRAIN, (0, way), rng)
                z += 30
            elif rng.random() < 0.25 + 0.3 * street.busy:
                add_vehicle(x + rng.normal(0, 0.2), z, (0, way))
            z += rng.uniform(9, 45 - 25 * street.busy)
    if rng.random() < 0.12:  # one that crosses
        add_vehicle(rng.uniform(-8, 8), rng.uniform(14, 35), (one_of(rng, (-1, 1)), 0))
    for _ in range(rng.poisson(0.2 + 0.4 * street.busy)):
        way, z = one_of(rng, (-1, 1)), rng.uniform(7, 40)
        x = street.kerbs[way > 0] - way * (0.7 + 2.1 * street.parking[way > 0])
        add(z, draw_rider, x, z, one_of(rng, ((0, way), (0, way), (0.3, way), (1, 0))), rng)
    return plan


def plan_pavement(canvas: Canvas, side: int, rng: np.random.Generator) -> list:
    """(z, what draws it) of everything that stands or walks on one side."""
    street, out, plan = canvas.street, 2 * side - 1, []
    kerb, wide, far = street.kerbs[side], street.pavement[side] + street.verge[side], min(street.reach, 95)

    def add(away: float, z: float, draw, *arguments) -> None:
        if draw is draw_tree or canvas.sees(kerb + out * away, z, 2):
            plan.append((z, partial(draw, canvas, kerb + out * away, z, *arguments)))

    def spots(mean: float, near: float, far: float):  # (from the kerb, z)
        for _ in range(rng.poisson(mean)):
            yield rng.uniform(0.5, max(0.8, wide - 0.3)), rng.uniform(near, far)

    if rng.random() < 0.42:  # a row of trees
        tall, slim = rng.uniform(5, 13), rng.uniform(0.5, 0.75)
        for z in np.arange(rng.uniform(3, 14), far, rng.uniform(7, 16)):
            size = tall * rng.uniform(0.85, 1.15)
            add(0.8, z, draw_tree, size, size * slim, rng)
    for z in np.arange(rng.uniform(4, 20), far, rng.uniform(18, 50)):
        add(0.5, z, draw_lamp, -out, rng)
    for _, z in spots(1.5, 8, 45):
        add(rng.uniform(0.3, 0.8), z, draw_sign, rng)
    for _, z in spots(0.4, 9, 40):
        add(0.4, z, draw_signal, -out, rng)
    for away, z in spots(4.5 * street.busy, 8, 50):
        if rng.random() < 0.08:
            away = -rng.uniform(0, 4)
        add(away, z, draw_person, rng)
        if rng.random() < 0.35:
            add(away + 0.6, z + 0.2, draw_person, rng)
    for away, z in spots(1.6, 6, 30):
        heading = one_of(rng, ((1.0, 0.0), (0.6, 0.8), (0.9, 0.4), (0.0, 1.0)))
        for step in range(rng.integers(1, 4)):
            add(away, z + step, draw_cycle, heading, rng, one_of(rng, (BICYCLE,) * 9 + (MOTORCYCLE,)), 0.12)
    for _, z in spots(1.0, 6, 40):
        add(wide - 0.5, z, draw_bin, rng)
    if rng.random() < 0.2:  # a railing at the kerb
        near, long = rng.uniform(5, 25), rng.uniform(5, 15)
        plan.append((near + long, partial(draw_screen, canvas, FENCE, kerb + out * 0.2, (near, near + long), 1.0, rng)))
    return plan


def draw_bonnet(canvas: Canvas, rng: np.random.Generator) -> None:
    """The bonnet of the camera's own car, which mirrors a little of the sky; void in the label."""
    side, street = SIZE * SUPERSAMPLING, canvas.street
    top, sag, tilt = side - rng.uniform(24, 84), rng.uniform(12, 42), rng.normal(0, 0.08)
    colour = varied(rng, one_of(rng, PAINTS), 5)
    x = np.linspace(-0.02, 1.02, 40)
    for step, fraction in enumerate((0.45, 0.3, 0.12, 0.0, 0.2)):
        rows = top + sag * (2 * x - 1 + tilt) ** 2 + step * 12
        outline = np.concatenate([np.stack([x * side, rows], 1), [(side + 16, side), (-16, side)]])
        tone = mix(tuple(a * b for a, b in zip(colour, street.tint, strict=True)), street.haze, fraction)
        cv2.fillPoly(canvas.photo, [np.rint(outline).astype(np.int32)], tone)
        cv2.fillPoly(canvas.label, [np.rint(outline).astype(np.int32)], VOID)


RADIUS = np.add.outer(np.linspace(-1, 1, SIZE, dtype=np.float32) ** 2, np.linspace(-1, 1, SIZE, dtype=np.float32) ** 2)


def develop(canvas: Canvas, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Brings photo and label to size; then wet ground, shadows, surfaces, and what lens and sensor add."""
    street, middle = canvas.street, SUPERSAMPLING // 2
    names = np.ascontiguousarray(canvas.label[middle::SUPERSAMPLING, middle::SUPERSAMPLING])
    photo = cv2.resize(canvas.photo, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    if street.weather == "rain":
        mirror = cv2.blur(photo[np.clip(2 * int(street.horizon) + 6 - np.arange(SIZE), 0, SIZE - 1)], (3, 9))
        fraction = np.float32(rng.uniform(0.15, 0.5)) * (names == ROAD)
        photo = cv2.blendLinear(mirror, photo, fraction, 1 - fraction)
    grain = rng.standard_normal((SIZE, SIZE), np.float32)
    rough = 0.6 * grain + 0.7 * cv2.resize(grain[:96, :96], (SIZE, SIZE)) + cv2.resize(grain[-24:, -24:], (SIZE, SIZE))
    light = (1 - np.float32(rng.uniform(0.02, 0.18)) * RADIUS) * (1 + cv2.LUT(names, ROUGHNESS) * rough)
    light *= 1 - cv2.GaussianBlur(canvas.shade, (0, 0), 1.0) * cv2.LUT(names, GROUND)
    photo = cv2.multiply(photo, cv2.merge((light, light, light)), dtype=cv2.CV_32F)
    photo = cv2.GaussianBlur(photo, (3, 3), rng.uniform(0.35, 0.6))
    noise = grain[::-1] * np.float32(rng.uniform(0.8, 3))
    photo = cv2.add(photo, cv2.merge((noise, noise, noise)), dtype=cv2.CV_8U)
    return photo, cv2.LUT(cv2.merge((names, names, names)), LABELS)


def draw_street(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws one street.

    Returns:
        photo and label, both uint8 RGB [256, 256, 3]; the label holds colours of PALETTE, black, and no others.
    """
    canvas = Canvas(sample_street(rng))
    draw_sky(canvas, rng)
    draw_ground(canvas, rng)
    draw_end(canvas, rng)
    for side in (0, 1):
        draw_side(canvas, side, rng)
    plan = plan_traffic(canvas, rng) + plan_pavement(canvas, 0, rng) + plan_pavement(canvas, 1, rng)
    for _, draw in sorted(plan, key=lambda item: -item[0]):
        draw()
    if rng.random() < 0.8:
        draw_bonnet(canvas, rng)
    return develop(canvas, rng)
