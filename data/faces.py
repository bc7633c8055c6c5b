"""Draws one face: the images of the data set that every machine has (`data.synthetic` writes it).

A face is drawn from back to front at twice its size: background, hair behind, neck and clothes, ears, head, features,
hair in front; then one light shades the whole figure. Both sides of a face come from one `Look`, so a network that
fills a hole has to carry over skin, eyes, hair and light from what it sees. Lengths are pixels of aligned CelebA
(178 x 218), counted from the middle between the eyes: x to the viewer's right, y down.
"""

import math
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np

VERSION = 1  # raised whenever the same seed gives other images: sets written before are then drawn again

WIDTH, HEIGHT = 178, 218
CENTRE = (89.0, 112.0)  # between the eyes of an aligned face, which are 40 px apart
SUPERSAMPLING = 2
SOFT_PX = 1.0  # a mask blurred by more than this is painted at a quarter of the size: nobody can tell, and it is fast

Colour = tuple[float, float, float]

BLACK, WHITE, DAYLIGHT = (0, 0, 0), (255, 255, 255), (255, 246, 234)
SKINS = (
    ((250, 216, 196), (244, 205, 180), (238, 192, 160), (226, 176, 138), (206, 150, 110))  # light
    + ((182, 124, 86), (148, 96, 64), (112, 70, 46), (82, 50, 34))  # dark
)
DARK_HAIR = ((22, 18, 18), (40, 27, 22), (66, 42, 28))
FAIR_HAIR = (
    (96, 62, 38),
    (128, 84, 50),
    (166, 118, 70),
    (206, 166, 108),
    (226, 198, 148),
    (126, 52, 26),
    (164, 76, 34),
)
GREY_HAIR = ((120, 118, 118), (168, 166, 164), (206, 204, 202))
DYED_HAIR = ((70, 90, 170), (180, 70, 120), (60, 130, 120), (130, 80, 160))
DARK_IRISES = ((58, 36, 22), (84, 54, 30), (118, 82, 42))
FAIR_IRISES = ((98, 110, 62), (82, 124, 140), (96, 142, 186), (122, 136, 144))
LIPSTICKS = ((176, 24, 48), (200, 84, 96), (150, 40, 70), (214, 110, 110), (120, 30, 40))
LIGHTS = ((1.0, 1.0, 1.0), (1.05, 1.0, 0.92), (0.95, 1.0, 1.06), (1.03, 0.98, 0.98))  # neutral, warm, cool, rosy

STYLES = (  # of women, of men
    ("short", "bob", "bob", "bob", "long", "long", "long", "long", "curly", "bun", "bun", "hat"),
    ("bald", "balding", "buzz", "short", "short", "short", "short", "quiff", "quiff", "curly", "hat"),
)
BEARDS = ("stubble", "goatee", "moustache", "full", "full")
COLLARS = ("round", "round", "vee", "shirt", "wide", "suit")


# ---------------------------------------------------------------- what a face looks like


class Look(SimpleNamespace):
    """Everything that distinguishes one face from another. Shares run from 0 to 1, lengths are pixels.

    `sample_look` draws each value where it says what it is.
    """


def mix(first: Colour, second: Colour, fraction: float) -> Colour:
    """The colour `share` of the way from the first to the second."""
    return tuple(a + (b - a) * fraction for a, b in zip(first, second, strict=True))


def one_of(rng: np.random.Generator, values: tuple):
    return values[int(rng.integers(len(values)))]


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def seldom(rng: np.random.Generator, often: float, draw, otherwise):
    """What draw() gives in a fraction of all cases, else another value."""
    return draw() if rng.random() < often else otherwise


def muted(rng: np.random.Generator) -> Colour:
    """Any colour, seldom a loud one."""
    grey, vivid = uniform(rng, 15, 240), uniform(rng, 0.05, 0.75)
    return mix((grey, grey, grey), tuple(float(level) for level in rng.uniform(0, 255, 3)), vivid)


def sample_look(rng: np.random.Generator) -> Look:
    """Draws the parameters of a face; what belongs together (age and grey hair, skin and iris) is drawn together."""

    between = partial(uniform, rng)
    masculine, age = bool(rng.random() < 0.5), float(rng.uniform() ** 1.6)
    tone = between(0, len(SKINS) - 1.001)
    skin = mix(SKINS[int(tone)], SKINS[int(tone) + 1], tone % 1)
    skin = tuple(level + float(change) for level, change in zip(skin, rng.uniform(-5, 5, 3), strict=True))
    palettes = (DARK_HAIR, DARK_IRISES)
    if tone < 4.5:
        palettes = (DARK_HAIR + FAIR_HAIR, DARK_IRISES + FAIR_IRISES)
    return Look(  # each value is drawn where it stands
        masculine=masculine,
        skin=skin,
        age=age,
        roll=between(-0.09, 0.09),  # radians
        scale=between(0.97, 1.06),
        shift=tuple(rng.uniform(-2.5, 2.5, 2)),
        yaw=between(-1, 1),  # -1 to the viewer's left .. 1 to the right
        light=(between(-0.55, 0.55), between(-0.8, 0.05)),  # direction it comes from
        contrast=between(0.22, 0.55),
        tint=one_of(rng, LIGHTS),  # of the light, as factors
        blush=between(0.05, 0.35),
        width=between(0.96, 1.1),  # factor
        jaw=between(*((0.88, 1.03), (0.98, 1.13))[masculine]),  # factor
        chin=between(-4, 5),
        nose_width=between(0.82, 1.25),  # factor
        nose_length=between(-2.5, 3),
        **sample_hair(rng, masculine, palettes[0], age),
        **sample_eyes(rng, masculine, palettes[1]),
        **sample_mouth(rng, masculine, skin),
        clothes=muted(rng),
        collar=one_of(rng, COLLARS),
        stripes=seldom(rng, 0.2, lambda: int(rng.integers(3, 8)), 0),  # 0: none
        earrings=bool(not masculine and rng.random() < 0.4),
    )


def sample_hair(rng: np.random.Generator, masculine: bool, palette: tuple, age: float) -> dict:
    draw = rng.random()
    if draw < 0.03:
        palette = DYED_HAIR
    elif draw < age - 0.3:
        palette = GREY_HAIR
    style = one_of(rng, STYLES[masculine])
    return {
        "hair": mix(one_of(rng, palette), one_of(rng, palette), uniform(rng, 0, 0.5)),
        "style": style,
        "volume": uniform(rng, 3, 10),
        "parting": uniform(rng, -20, 20),
        "hairline": uniform(rng, -4, 5),
        "fringe": bool(style in ("bob", "long", "bun") and rng.random() < 0.35),
        "wave": max(0.0, uniform(rng, -2, 4)),
        "comb": uniform(rng, -7, 7),
        "strands": uniform(rng, 0.1, 0.3),  # contrast
    }


def sample_eyes(rng: np.random.Generator, masculine: bool, irises: tuple) -> dict:
    return {
        "iris": mix(one_of(rng, irises), (60, 40, 30), uniform(rng, 0, 0.3)),
        "eye_open": uniform(rng, 0.7, 1.1),  # factor
        "eye_size": uniform(rng, 0.9, 1.1),  # factor
        "slant": uniform(rng, -1.8, 1.2),
        "gaze": (uniform(rng, -2.4, 2.4), uniform(rng, -0.8, 0.8)),
        "makeup": 0.0 if masculine or rng.random() < 0.3 else uniform(rng, 0.2, 1),
        "brow_thick": uniform(rng, *((1.4, 2.8), (2.4, 4.2))[masculine]),
        "brow_arch": uniform(rng, *((0.5, 3.2), (-0.3, 2))[masculine]),
        "brow_height": uniform(rng, *((-1, 2.5), (-2, 1))[masculine]),
        "glasses": seldom(rng, 0.14, lambda: one_of(rng, ("round", "square")), ""),  # "", "round" or "square"
    }


def sample_mouth(rng: np.random.Generator, masculine: bool, skin: Colour) -> dict:
    smile, painted = float(rng.uniform()), 0.0 if masculine else max(0.0, uniform(rng, -0.3, 0.85))
    return {
        "mouth_width": uniform(rng, 14.5, 17.5) + 3 * smile,
        "lips": uniform(rng, 0.75, 1.3),  # factor
        "lip_colour": mix(mix(skin, (176, 60, 64), 0.45), one_of(rng, LIPSTICKS), painted),
        "smile": smile,
        "teeth": uniform(rng, 0.35, 1) if smile > 0.45 and rng.random() < 0.75 else 0.0,  # 0: closed lips
        "beard": one_of(rng, BEARDS) if masculine and rng.random() < 0.45 else "",  # "" or one of BEARDS
    }


def shadow(look: Look, depth: float) -> Colour:
    """The skin in shade: darker, and redder."""
    return tuple(level * (1 - depth * weight) for level, weight in zip(look.skin, (0.85, 1.05, 1.1), strict=True))


# ---------------------------------------------------------------- pencil and brush


class Canvas:
    """RGBA pixels at twice the size, drawn on in face coordinates; alpha tells the figure from the background."""

    def __init__(self, scene: np.ndarray, look: Look):
        self.pixels = np.dstack([scene, np.zeros(scene.shape[:2], np.uint8)])
        self.grow = look.scale * SUPERSAMPLING
        cosine, sine = math.cos(look.roll) * self.grow, math.sin(look.roll) * self.grow
        self.turn = np.array([[cosine, sine], [-sine, cosine]])
        self.origin = (np.add(CENTRE, look.shift) + 0.5) * SUPERSAMPLING - 0.5

    def place(self, points) -> np.ndarray:
        """Face coordinates -> pixels in OpenCV's fixed-point form (int32, 4 fractional bits)."""
        return np.rint((np.asarray(points, np.float64) @ self.turn + self.origin) * 16).astype(np.int32)

    def box(self, corners: np.ndarray, reach: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the polygon's part of the image, with a margin, in whole blocks of 4 pixels."""
        height, width = self.pixels.shape[:2]
        left, top = np.maximum((corners.min(0) // 16 - reach) // 4 * 4, 0)
        right, bottom = np.minimum((corners.max(0) // 16 + reach) // 4 * 4 + 4, (width, height))
        return int(left), int(top), int(max(left, right)), int(max(top, bottom))

    def fill(self, points, colour: Colour, opacity: float = 1.0, blur_px: float = 0.0) -> None:
        """Fills a polygon. A blurred or part-transparent one only colours the figure, never the background."""
        corners = self.place(points)
        if opacity >= 1 and not blur_px:
            cv2.fillPoly(self.pixels, [corners], (*colour, 255), cv2.LINE_AA, 4)
            return
        left, top, right, bottom = self.box(corners, int(2.5 * blur_px * self.grow) + 2)
        if right == left or bottom == top:
            return
        shrink = 4 if blur_px > SOFT_PX else 1
        mask = np.zeros(((bottom - top) // shrink, (right - left) // shrink), np.uint8)
        cv2.fillPoly(mask, [(corners - (left * 16, top * 16)) // shrink], 255, cv2.LINE_AA, 4)
        if blur_px:
            mask = cv2.GaussianBlur(mask, (0, 0), blur_px * self.grow / shrink)
        if shrink > 1:
            mask = cv2.resize(mask, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
        region = self.pixels[top:bottom, left:right]
        weight = mask * (region[:, :, 3] * np.float32(opacity / 255 / 255))
        paint = cv2.merge([np.full(mask.shape, level, np.uint8) for level in (*colour, 255)])
        region[:] = cv2.blendLinear(paint, region, weight, 1 - weight)

    def line(self, points, colour: Colour, width_px: float) -> None:
        thickness = max(1, round(width_px * self.grow))
        cv2.polylines(self.pixels, [self.place(points)], False, (*colour, 255), thickness, cv2.LINE_AA, 4)

    def stroke(self, points, colour: Colour, width_px: float, opacity: float = 1.0, blur_px: float = 0.0) -> None:
        """A line that thins out towards both ends."""
        along = np.gradient(points, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], 1) / np.maximum(np.hypot(*along.T), 1e-6)[:, None]
        half = (width_px / 2 * np.sin(np.linspace(0.12, math.pi - 0.12, len(points))))[:, None]
        self.fill(np.concatenate([points + across * half, (points - across * half)[::-1]]), colour, opacity, blur_px)

    def keep_inside(self, points, before: np.ndarray) -> None:
        """Takes back what was drawn since `before` (a copy of the pixels) outside the polygon."""
        corners = self.place(points)
        left, top, right, bottom = self.box(corners, 2)
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [corners - (left * 16, top * 16)], 255, cv2.LINE_AA, 4)
        weight, part = mask * np.float32(1 / 255), (slice(top, bottom), slice(left, right))
        clipped = cv2.blendLinear(self.pixels[part], before[part], weight, 1 - weight)
        self.pixels[:] = before
        self.pixels[part] = clipped


def curve(points, closed: bool = False, steps: int = 8) -> np.ndarray:
    """A smooth (Catmull-Rom) curve through points, float64 [n, 2]."""
    points = np.asarray(points, np.float64)
    first, last = (points[-1:], points[:2]) if closed else (points[:1], points[-1:])
    padded = np.concatenate([first, points, last])
    a, b, c, d = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = (np.arange(steps) / steps)[None, :, None]
    smooth = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    smooth = smooth.reshape(-1, 2)
    return smooth if closed else np.concatenate([smooth, points[-1:]])


ANGLES = np.linspace(0, 2 * math.pi, 24, endpoint=False)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)


def ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> np.ndarray:
    """An ellipse as a polygon, float64 [24, 2]; tilt in radians, clockwise."""
    cosine, sine = math.cos(tilt), math.sin(tilt)
    return CIRCLE * (rx, ry) @ np.array([[cosine, sine], [-sine, cosine]]) + (x, y)


def mirror(right) -> np.ndarray:
    """Right half of an arch, from its top on the axis down -> the whole arch from bottom left to bottom right."""
    right = np.asarray(right, np.float64)
    return np.concatenate([right[:0:-1] * (-1, 1), right])


# ---------------------------------------------------------------- from back to front


def draw_background(rng: np.random.Generator) -> np.ndarray:
    """A plain, graded or blurred scene, uint8 [436, 356, 3]; painted small, since nothing in it is sharp."""
    height, width = HEIGHT // 4, WIDTH // 4
    base = muted(rng)
    other = mix(muted(rng), base, uniform(rng, 0.2, 1))
    angle = uniform(rng, 0, 2 * math.pi)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    fraction = np.clip(0.5 + 0.4 * (x * math.cos(angle) + y * math.sin(angle)), 0, 1)[:, :, None]
    scene = (np.array(base) * (1 - fraction) + np.array(other) * fraction).astype(np.float32)
    for _ in range(seldom(rng, 0.7, lambda: int(rng.integers(0, 10)), 0)):
        colour, x, y = mix(base, muted(rng), 0.6), int(rng.integers(width)), int(rng.integers(height))
        if rng.random() < 0.5:
            cv2.circle(scene, (x, y), int(rng.integers(2, 12)), colour, -1)
        else:
            cv2.rectangle(scene, (x, y), (x + int(rng.integers(3, 16)), y + int(rng.integers(6, 40))), colour, -1)
    scene = cv2.GaussianBlur(scene, (0, 0), uniform(rng, 0.6, 2.5))
    scene = cv2.resize(scene, (WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING), interpolation=cv2.INTER_LINEAR)
    return np.clip(scene, 0, 255).astype(np.uint8)


def wavy(look: Look, points) -> np.ndarray:
    """A smooth curve, waved sideways below the ears."""
    points = curve(points)
    swing = look.wave * np.sin(points[:, 1] / 7 + look.parting) * np.clip(points[:, 1] / 40, 0, 1)
    points[:, 0] += np.sign(points[:, 0]) * swing
    return points


def draw_locks(canvas: Canvas, look: Look, outer, inner, rng: np.random.Generator, count: int, across: bool) -> None:
    """Fills the hair between two curves of equal length and draws `count` strands in it.

    Args:
        across: strands lead from the inner curve to the outer one (short hair), else along them (long hair).
    """
    canvas.fill(np.concatenate([outer, inner[::-1]]), look.hair)
    last = len(outer) - 1
    for tone, first, second in zip(rng.normal(0, look.strands, count), *rng.uniform(0, 1, (2, count)), strict=True):
        if tone > 0:
            colour = mix(look.hair, DAYLIGHT, min(0.5, 0.6 * tone))
        else:
            colour = mix(look.hair, BLACK, min(0.4, -1.2 * tone))
        if across:
            at = int(first * last)
            lean = look.comb * (1 if outer[at, 0] > look.parting else -1) * math.sin(math.pi * first)
            start, end = inner[at], outer[int(np.clip(at + lean, 0, last))]
            fraction = np.array([0, 0.2, 0.4, 0.6])[:, None] + 0.4 * second
            bow = (start - end)[::-1] * (0.12, -0.12) * np.sin(math.pi * fraction)
            strand = start + (end - start) * fraction + bow
        else:
            at, fraction = int(second * (last - 7)), first + (second - 0.5) * 0.04
            strand = (outer * (1 - fraction) + inner * fraction)[at : at + 8 + int(first * last * 0.4)]
        canvas.line(strand, colour, 0.5)


def draw_back_hair(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """The hair behind neck and shoulders; the bun on top; the outer curls."""
    v, dark = look.volume, mix(look.hair, BLACK, 0.35)
    if look.style in ("bob", "long"):
        low = {"bob": 60 + v, "long": 122}[look.style]
        right = [(0, -65 - v), (30, -56 - v), (47 + v * 0.6, -26), (51 + v, 14), (51 + 1.3 * v, low - 26)]
        outer = wavy(look, mirror(right + [(47 + 0.8 * v, low - 5), (36, low)]))
        canvas.fill(outer, dark)
        draw_locks(canvas, look, outer, outer * (0.72, 0.9) + (0, 5), rng, 70, across=False)
        canvas.fill(outer * (0.8, 1) + (0, 12), dark, 1, 1.5)
    elif look.style == "curly":
        for angle in np.linspace(-0.45, math.pi + 0.45, 30):
            reach = 46 + v + float(rng.normal(0, 2))
            x, y = math.cos(angle) * reach, -12 - math.sin(angle) * (reach + 4)
            canvas.fill(ellipse(x, y, *rng.uniform(8, 12, 2)), mix(look.hair, BLACK, uniform(rng, 0.05, 0.35)))
    elif look.style == "bun":
        x, y = look.parting * 0.4, -70 - v
        canvas.fill(ellipse(x, y, 19, 15), mix(look.hair, BLACK, 0.15))
        for size, start in zip(rng.uniform(0.25, 0.95, 14), rng.integers(24, size=14), strict=True):
            ring = np.roll(ellipse(x, y, 19 * size, 15 * size), start, 0)[:10]
            canvas.line(ring, mix(look.hair, DAYLIGHT, 0.22 * float(rng.random())), 0.5)


def draw_body(canvas: Canvas, look: Look) -> None:
    """Neck, shoulders and clothes."""
    wide = 27 * look.width * (0.6 + 0.4 * look.jaw) - 3 * (not look.masculine)
    neck = [(wide, 20), (wide, 64), (wide + 4, 84), (60, 104), (60, 140)]
    canvas.fill(curve(neck[::-1] + [(-x, y) for x, y in neck], closed=True), shadow(look, 0.1))
    canvas.fill(ellipse(-2 * look.yaw, 63 + look.chin, wide + 5, 18), shadow(look, 0.5), 0.8, 3)
    canvas.fill(ellipse(0, 98, 3, 12), shadow(look, 0.4), 0.35, 2)
    cloth, fold = look.clothes, mix(look.clothes, BLACK, 0.4)
    slope, reach = 104 - 4 * look.masculine, {"wide": 46}.get(look.collar, wide + 6)
    dip = {"round": 93, "vee": 116, "shirt": 103, "wide": 108, "suit": 104}[look.collar]
    neckline = [(-reach, 82), (0, dip), (reach, 82)]
    if look.collar in ("round", "wide"):
        neckline = curve([neckline[0], (-reach * 0.6, dip - 4), (0, dip), (reach * 0.6, dip - 4), neckline[2]])
    shoulder = curve([(reach, 82), (92, slope + 2), (120, 126), (120, 150)])
    outline = np.concatenate([shoulder[::-1] * (-1, 1), neckline, shoulder])
    canvas.fill(outline, cloth)
    if look.stripes:
        before = canvas.pixels.copy()
        for y in np.arange(84, 140, 60 / look.stripes):
            canvas.fill([(-125, y), (125, y), (125, y + 3.5), (-125, y + 3.5)], mix(cloth, WHITE, 0.45), 0.8)
        canvas.keep_inside(outline, before)
    canvas.stroke(np.asarray(neckline), fold, 2, 0.8, 0.4)
    for side in (-1, 1):
        canvas.fill([(side * 62, 100), (side * 70, 102), (side * 58, 140), (side * 50, 140)], fold, 0.4, 3)
        draw_lapel(canvas, look, side, reach, dip)
    if look.collar == "suit":
        tie = mix(mix(cloth, WHITE, 0.3), look.lip_colour, 0.6)
        canvas.fill([(-5, dip - 2), (5, dip - 2), (4, dip + 6), (9, 140), (-9, 140), (-4, dip + 6)], tie)


def draw_lapel(canvas: Canvas, look: Look, side: int, reach: float, dip: float) -> None:
    """One side of a shirt's collar, and of the jacket over it."""
    if look.collar not in ("shirt", "suit"):
        return
    pale = mix(look.clothes, WHITE, {"shirt": 0.35, "suit": 0.85}[look.collar])
    if look.collar == "suit":
        canvas.fill([(side * reach, 82), (0, dip), (0, 140), (side * 12, 140)], pale)
    flap = [(side * reach, 76), (side * 3, dip), (side * 13, dip + 13), (side * (reach + 8), 90)]
    canvas.fill(flap, pale)
    canvas.line(flap + flap[:1], mix(pale, BLACK, 0.4), 0.5)


def draw_ears(canvas: Canvas, look: Look) -> None:
    """Both ears with what hangs from them; the one turned to the viewer shows more."""
    for side in (-1, 1):
        x, size = side * 41.5 * look.width - 4 * look.yaw, 1 - 0.3 * side * look.yaw
        canvas.fill(ellipse(x + side * 1.5 * size, 7, 6.5 * size, 12, side * 0.16), shadow(look, 0.12))
        canvas.fill(ellipse(x + side * 2 * size, 6, 3.2 * size, 7.5, side * 0.16), shadow(look, 0.42), 0.8, 1)
        if look.earrings:
            x += side * 2.5 * size
            canvas.fill(ellipse(x, 21.5, 2.4, 2.8), (222, 190, 110))
            canvas.fill(ellipse(x - 0.6, 20.6, 0.8, 0.8), (255, 250, 225))


def draw_head(canvas: Canvas, look: Look) -> None:
    """The head with its rounded edge, cheeks, temples and the sockets of the eyes."""
    w, jaw, turn = look.width, look.width * look.jaw, look.yaw
    right = [(0, -63), (19, -60), (33, -48), (40, -27), (41.5, -2), (40, 18)]
    right = [(x * w, y) for x, y in right]
    right += [(36 * jaw, 36), (26 * jaw, 52 + look.chin * 0.5), (12.5 * jaw, 62.5 + look.chin), (0, 65 + look.chin)]
    outline = curve(right + [(-x, y) for x, y in right[-2:0:-1]], closed=True) - (4 * turn, 0)
    outline[:, 0] += np.clip(outline[:, 1] / 50, 0, 1) * 5 * turn  # the chin turns with the face
    canvas.fill(outline, shadow(look, 0.22))
    canvas.fill(outline * (0.93, 0.95), look.skin, 1, 2.5)
    bright = mix(look.skin, DAYLIGHT, 0.6)
    for side in (-1, 1):
        x = side * 25 * w + 3 * turn
        canvas.fill(ellipse(x, 23, 11, 8), mix(look.skin, (208, 70, 66), 0.5), look.blush, 4)
        canvas.fill(ellipse(x * 0.98, 16, 7, 3.5, side * -0.3), bright, 0.35, 2.5)
        canvas.fill(ellipse(side * 19.5 + turn, -3, 13, 7), shadow(look, 0.34), 0.5, 3)
        canvas.fill(ellipse(side * 37 * w + turn, 30, 5, 18, side * 0.25), shadow(look, 0.35), 0.4, 4)
    canvas.fill(ellipse(2 * turn, -36, 18, 9), bright, 0.3, 5)
    canvas.fill(ellipse(3 * turn, 57 + look.chin * 0.8, 8, 4.5), bright, 0.28, 2.5)


def draw_wrinkles(canvas: Canvas, look: Look) -> None:
    """Lines from nose to mouth with every smile; on the forehead and under the eyes with age."""
    dark, turn = shadow(look, 0.5), 2.5 * look.yaw
    depth = min(0.7, 0.1 + 0.28 * look.smile + 0.4 * look.age)
    for side in (-1, 1):
        fold = [(side * 9.5 + turn, 21), (side * 16 + turn, 29), (side * (18.5 + look.smile * 2) + turn, 39)]
        canvas.stroke(curve(fold), dark, 2, depth, 0.8)
        bag = [(side * 12, 7.5), (side * 19, 10.5), (side * 27, 8)]
        canvas.stroke(curve(bag), dark, 1.6, 0.1 + 0.4 * look.age, 0.8)
    if look.age > 0.5:
        for y in (-38, -32, -26):
            canvas.stroke(curve([(-20, y + 1), (turn, y - 1), (20, y + 1)]), dark, 1.4, 0.45 * look.age, 0.8)


def draw_beard(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Stubble, moustache, goatee or full beard, the mouth to be drawn over it."""
    if not look.beard:
        return
    colour = mix(look.hair, (24, 18, 16), 0.25)
    x, chin, w, m = 4 * look.yaw, look.chin, look.width, look.mouth_width + 3
    if look.beard == "moustache":
        right = [(0, 33), (9, 32), (m, 40), (0, 37)]
    elif look.beard == "goatee":
        right = [(0, 33), (13, 32), (m, 39), (15, 59 + chin), (0, 67 + chin)]
    else:
        right = [(0, 33), (13, 31), (25, 33), (35 * w, 22), (39 * w, 6)]
        right += [(42 * w, 24), (38 * w, 40), (28 * w, 56 + chin), (15, 68 + chin), (0, 71 + chin)]
    right = np.array(right)
    area = np.concatenate([right, right[-2:0:-1] * (-1, 1)]) + (0.8 * x, 0)
    canvas.fill(curve(area, closed=True), colour, {"stubble": 0.28}.get(look.beard, 0.88), 1.5)
    if look.beard in ("full", "goatee"):
        reach = {"full": 29 * w, "goatee": 13}[look.beard]
        for px, py in rng.uniform((-1, 44), (1, 64 + chin), (90, 2)):
            px *= reach * math.sqrt(max(0.0, 1 - (max(py - 42, 0) / (27 + chin)) ** 2))
            tone = mix(colour, DAYLIGHT if rng.random() < 0.6 else BLACK, 0.25 * float(rng.random()))
            canvas.line([(px + 0.7 * x, py), (px * 1.02 + 0.7 * x, py + 3.5)], tone, 0.5)


def draw_mouth(canvas: Canvas, look: Look) -> None:
    """Lips, closed or parted over teeth; the corners rise with the smile."""
    x, y, w = 4 * look.yaw, 40.5 + look.chin * 0.15, look.mouth_width
    rise, gap = 3.5 * look.smile, 8.5 * look.teeth
    thick = 4.6 * look.lips * (1 - 0.25 * look.smile)
    middle = y + 0.6 * rise - 0.3 * gap
    left, right = (x - w, y - rise), (x + w, y - rise)

    def arc(*offsets):  # from corner to corner; offsets are (fraction of the half width, height) on the way
        inner = [(x + w * fraction, middle + height) for fraction, height in offsets]
        return curve([left, *inner, right])

    above = arc((-0.45, -thick * 0.85), (-0.18, -thick), (0, -thick * 0.78), (0.18, -thick), (0.45, -thick * 0.85))
    upper = arc((-0.5, -rise * 0.25), (-0.18, 0.2), (0, 0.6), (0.18, 0.2), (0.5, -rise * 0.25))
    round_off = np.sin(np.linspace(0, math.pi, len(upper)))[:, None]
    lower = upper + (0, gap) * round_off**0.7
    below = lower + (0, 1.2 * thick) * round_off**0.8
    canvas.fill(ellipse(x, float(below[:, 1].max()) + 3, w * 0.55, 2.4), shadow(look, 0.45), 0.5, 1.5)
    if look.teeth:
        canvas.fill(np.concatenate([upper, lower[::-1]]), (58, 20, 22))
        bite = upper + (lower - upper) * (1, 0.82)
        canvas.fill(np.concatenate([upper[4:-4], bite[-5:3:-1]]), (240, 236, 228), 1, 0.3)
        for step in np.linspace(-0.66, 0.66, 7):
            canvas.line([(x + w * step, middle + 0.5), (x + w * step, middle + gap * 0.7)], (218, 210, 202), 0.4)
        canvas.stroke(upper + (0, 0.7), (96, 50, 48), 1.8, 0.6, 0.5)
    canvas.fill(np.concatenate([above, upper[::-1]]), mix(look.lip_colour, (60, 10, 16), 0.2), 0.95, 0.3)
    canvas.fill(np.concatenate([lower, below[::-1]]), look.lip_colour, 0.95, 0.3)
    canvas.fill(ellipse(x, middle + gap + thick * 0.65, w * 0.4, 1.1), mix(look.lip_colour, WHITE, 0.55), 0.5, 0.7)
    if not look.teeth:
        canvas.stroke(upper, mix(look.lip_colour, (30, 6, 8), 0.65), 1.3, 0.9)
    for corner, side in ((left, -1), (right, 1)):
        canvas.fill(ellipse(corner[0] + side * 0.6, corner[1], 1.6, 1.6), shadow(look, 0.55), 0.6, 0.6)


def draw_nose(canvas: Canvas, look: Look) -> None:
    """Bridge, wings and nostrils, and the light on ridge and tip."""
    w, tip, x = look.nose_width, 24 + look.nose_length, 6 * look.yaw
    dark, bright, far = shadow(look, 0.42), mix(look.skin, DAYLIGHT, 0.7), -1 if look.light[0] > 0 else 1
    canvas.stroke(curve([(far * 5, -6), (far * 5.5 + x * 0.4, 6), (far * 8.5 * w + x, tip - 4)]), dark, 5, 0.5, 1.6)
    canvas.stroke(curve([(-far * 6, -7), (-far * 5 + x * 0.3, 4), (-far * 8 * w + x, tip - 3)]), dark, 3, 0.22, 1.5)
    canvas.fill(ellipse(x, tip + 5, 11 * w, 3.2), dark, 0.5, 1.8)
    canvas.stroke(curve([(0, -8), (x * 0.4, 4), (x, tip - 5)]), bright, 4, 0.35, 1.4)
    canvas.fill(ellipse(x, tip - 2, 4 * w, 3.4), bright, 0.4, 1.5)
    for side in (-1, 1):
        wing = [(7.5, tip - 5), (10.6, tip), (8.6, tip + 3.2), (5, tip + 3.4)]
        canvas.stroke(curve([(side * px * w + x, py) for px, py in wing]), shadow(look, 0.6), 1.5, 0.75, 0.45)
        canvas.fill(ellipse(side * 4.4 * w + x, tip + 2.8, 2.5 * w, 1.3, side * -0.25), shadow(look, 0.85), 0.85, 0.4)


def draw_eye(canvas: Canvas, look: Look, side: int) -> None:
    """One eye: white, iris, pupil and glint between the lids, then lashes and crease."""
    size, half = look.eye_size, 10.2 * look.eye_size * (1 + 0.12 * side * look.yaw)
    opened = (look.eye_open - 0.15 * look.smile) * size
    x, up, down, tail = side * 20, 5.8 * opened, 3.9 * opened, 0.2 + 0.6 * look.slant

    def lid(*points):  # (fraction of the half width, from the nose outwards; height)
        return curve([(x + side * half * fraction, height) for fraction, height in points])

    upper = lid((-1, 1.4), (-0.45, -up * 0.78), (0.08, -up), (0.6, -up * 0.62 + tail * 0.4), (1, tail))
    lower = lid((1, tail), (0.4, down * 0.9), (-0.3, down), (-1, 1.4))
    opening = np.concatenate([upper, lower])
    before = canvas.pixels.copy()
    canvas.fill(opening * (1, 1.3), (234, 230, 226))
    gx, gy, radius = x + look.gaze[0] + look.yaw, look.gaze[1] - 0.6, 5.1 * size
    canvas.fill(ellipse(gx, gy, radius, radius), mix(look.iris, BLACK, 0.55))
    canvas.fill(ellipse(gx, gy + 0.3, radius * 0.82, radius * 0.82), look.iris)
    canvas.fill(ellipse(gx, gy + 2, radius * 0.5, radius * 0.35), mix(look.iris, DAYLIGHT, 0.4), 0.6, 0.7)
    canvas.fill(ellipse(gx, gy, 2.1, 2.1), (12, 9, 9))
    canvas.stroke(upper + (0, 1), (70, 52, 48), 2.6, 0.55, 0.7)
    canvas.fill(ellipse(gx + math.copysign(1.7, look.light[0]), gy - 1.9, 1.25, 1.25), WHITE)
    canvas.keep_inside(opening, before)
    lash = mix(shadow(look, 0.75), (16, 10, 10), 0.45 + 0.5 * look.makeup)
    tip = upper[-1:] + (side * (1 + 2.2 * look.makeup), -1 - 1.6 * look.makeup)
    canvas.stroke(np.concatenate([upper, tip]), lash, 1.7 + 1.3 * look.makeup, 0.95)
    canvas.stroke(lower, shadow(look, 0.55), 0.9, 0.7)
    crease = upper[3:-2] - (0, 3.2 * size)
    canvas.stroke(crease, shadow(look, 0.55), 1.3, 0.7, 0.4)
    if look.makeup:
        shade = mix(look.lip_colour, (60, 40, 60), 0.6)
        canvas.fill(np.concatenate([upper, crease[::-1]]), shade, 0.35 * look.makeup, 1)


def draw_brows(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Both brows, a soft shape with single hairs in it."""
    colour, thick = mix(look.hair, (30, 20, 16), 0.45), look.brow_thick
    y = -13 - look.brow_height - 1.2 * look.smile
    for side in (-1, 1):
        points = [(side * 8 + 2 * look.yaw, y + 1), (side * 20 + look.yaw, y - look.brow_arch), (side * 31.5, y + 1.8)]
        spine = curve(points, steps=12)
        canvas.stroke(spine, colour, thick + 0.6, 0.75, 0.5)
        for at in rng.integers(0, len(spine) - 2, 14):
            root = spine[at] + rng.normal(0, thick * 0.18, 2)
            canvas.line([root, root + (side * 3, -1.6 + 3.2 * at / len(spine))], mix(colour, BLACK, 0.25), 0.5)


def draw_front_hair(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """The hair (or hat) that frames the forehead; see `hair_curves` for its outline."""
    if look.style == "bald":
        return
    if look.style == "balding":
        for side in (-1, 1):
            patch = [(44, 12), (46, -16), (39, -41), (31, -44), (32, -28), (37, -12), (39, 8)]
            patch = [(side * x * look.width - 4 * look.yaw, y) for x, y in patch]
            canvas.fill(curve(patch, closed=True), look.hair, 0.9, 1.2)
        return
    outer, inner = hair_curves(look)
    region = np.concatenate([outer, inner[::-1]])
    if look.style == "buzz":
        canvas.fill(region, look.hair, 0.85, 1.1)
        return
    canvas.fill(region + (0, 2.5), shadow(look, 0.6), 0.45, 2)
    if look.style == "hat":
        draw_hat(canvas, look, outer, inner)
        return
    short = look.style not in ("bob", "long", "bun")
    draw_locks(canvas, look, outer, inner, rng, 110 + 40 * short, across=short)
    if look.style == "curly":
        draw_curls(canvas, look, outer, inner, rng)
    if look.fringe:
        w, edge = look.width, -15 + 0.4 * look.hairline
        low = mirror([(0, edge - 1), (20, edge + 1), (38 * w, edge + 9)]) - (look.yaw, 0)
        high = mirror([(0, -57), (24, -52), (41 * w, -32)]) - (3 * look.yaw, 0)
        draw_locks(canvas, look, curve(high), curve(low), rng, 70, across=True)
    near = math.copysign(1, look.light[0])
    gloss = ellipse(near * 18 - 4 * look.yaw, -51 - 0.6 * look.volume, 15, 4.5, 0.35 * near)
    canvas.fill(gloss, mix(look.hair, DAYLIGHT, 0.45), 0.4, 2.5)


def hair_curves(look: Look) -> tuple[np.ndarray, np.ndarray]:
    """Outer edge and hairline from the left over the crown to the right, of equal length, by style."""
    w, part, h, turn = look.width, look.parting, look.hairline, 4 * look.yaw
    lift = look.volume + {"quiff": 9, "short": 2, "hat": 3}.get(look.style, 0)
    if look.style in ("buzz", "bun"):
        lift = 2.0
    if look.style in ("bob", "long"):
        low = {"bob": 54.0, "long": 96.0}[look.style]
        temple = 46 * w + 0.7 * look.volume
        outer = [(0, -63 - lift), (22 * w, -59 - lift), (39 * w + 0.4 * lift, -42 - 0.4 * lift)]
        outer = mirror(outer + [(temple, -14), (temple + 5, low * 0.5), (temple + 3, low)])
        inner = [(20, -41 + h), (33 * w, -28 + h), (38.5 * w, -8), (41 * w, low * 0.45), (temple - 1, low - 3)]
    else:
        burn = {"short": 6.0, "quiff": 6.0, "buzz": 6.0}.get(look.style, -2.0)
        outer = [(0, -63 - lift), (22 * w, -60 - 0.9 * lift), (38 * w + 0.3 * lift, -45 - 0.4 * lift)]
        outer = mirror(outer + [(44 * w + 0.3 * lift, -22), (44.5 * w, -6), (42 * w, burn)])
        inner = [(20, -41 + h), (33 * w, -30 + h), (37.5 * w, -17), (39 * w, -6), (40.5 * w, burn)]
    hairline = np.array([(-x, y) for x, y in inner[::-1]] + [(part, -46 + h)] + inner)
    hairline[len(inner) - 1 : len(inner) + 2 : 2, 0] += 0.6 * part
    return wavy(look, outer - (turn, 0)), wavy(look, hairline - (0.5 * turn, 0))


def draw_curls(canvas: Canvas, look: Look, outer: np.ndarray, inner: np.ndarray, rng: np.random.Generator) -> None:
    """Round locks all over the hair."""
    for _ in range(150):
        at, fraction, size = int(rng.integers(2, len(outer) - 2)), uniform(rng, -0.15, 1), uniform(rng, 2.5, 5.5)
        x, y = outer[at] * (1 - fraction) + inner[at] * fraction
        canvas.fill(ellipse(x, y, size, size), mix(look.hair, BLACK, 0.35 * float(rng.random())))
        canvas.line(ellipse(x, y, size * 0.65, size * 0.65)[13:20], mix(look.hair, DAYLIGHT, 0.16), 0.6)


def draw_hat(canvas: Canvas, look: Look, outer: np.ndarray, inner: np.ndarray) -> None:
    """A knitted hat with ribs and a turned-up brim, over a little hair at the temples."""
    wool, middle = mix(look.clothes, (120, 110, 110), 0.3), -4 * look.yaw
    canvas.fill(np.concatenate([outer, inner[::-1]]), look.hair)
    half, top = 46 * look.width + 3, -71 - look.volume
    low = mirror([(0, -27), (0.6 * half, -25), (half, -17)])
    high = low * (1.02, 1) - (0, 17)
    crown = mirror([(0, top), (0.5 * half, top + 5), (0.88 * half, -48), (half, -22)])
    low, high, crown = (curve(line) + (middle, 0) for line in (low, high, crown))
    crown = crown[np.linspace(0, len(crown) - 1, len(low)).astype(int)]
    canvas.fill(np.concatenate([crown, low[::-1]]), wool)
    for at in range(2, len(low) - 2, 2):
        rib = curve([high[at], (high[at] * 0.6 + crown[at] * 0.4) - (0, 2), crown[at]])
        canvas.stroke(rib, mix(wool, BLACK, 0.45), 1.6, 0.5, 0.4)
    canvas.fill(np.concatenate([high, low[::-1]]) + (0, 2), mix(wool, BLACK, 0.6), 0.5, 1.5)
    canvas.fill(np.concatenate([high, low[::-1]]), mix(wool, WHITE, 0.12))
    for at in range(1, len(low) - 1):
        canvas.stroke(np.linspace(low[at], high[at], 4), mix(wool, BLACK, 0.4), 1, 0.5)


def draw_glasses(canvas: Canvas, look: Look) -> None:
    """Rims, bridge, arms and a reflection."""
    if not look.glasses:
        return
    frame, power = mix(look.hair, (20, 20, 24), 0.7), {"round": 1.0, "square": 0.55}[look.glasses]
    rim = np.sign(CIRCLE) * np.abs(CIRCLE) ** power * (15.5, 11.5)
    rim = curve(rim, closed=True, steps=3)
    for side in (-1, 1):
        x = side * 20 + look.yaw
        canvas.fill(rim + (x, 2), (225, 235, 245), 0.14)
        canvas.fill([(x - 8, -5), (x - 3, -7), (x - 7, 8), (x - 11, 8)], WHITE, 0.16, 0.8)
        canvas.line(np.concatenate([rim, rim[:1]]) + (x, 2), frame, 1.2)
        canvas.line([(x + side * 15, -2), (side * 42 * look.width - 4 * look.yaw, -4)], frame, 1.2)
    canvas.line(curve([(-4.5 + look.yaw, 0), (look.yaw, -2.5), (4.5 + look.yaw, 0)]), frame, 1.2)


def light_up(image: np.ndarray, look: Look) -> np.ndarray:
    """Shades the figure by Lambert's law on a rounded body around the head.

    Args:
        image: uint8 [218, 178, 4]; alpha is the figure's share.

    Returns:
        float32 [218, 178, 3].
    """
    y, x = np.mgrid[0:HEIGHT:4, 0:WIDTH:4].astype(np.float32)
    x, y = (x - CENTRE[0]) / 62, (y - CENTRE[1] - 6) / 96
    radius = np.sqrt(x * x + y * y)
    bend = np.tanh(radius) / np.maximum(radius, 1e-3)  # beyond the rim the body goes on, ever flatter
    x, y = x * bend, y * bend
    source = np.array([*look.light, 1.0]) / math.hypot(*look.light, 1.0)
    lambert = np.maximum(x * source[0] + y * source[1] + np.sqrt(1 - x * x - y * y) * source[2], 0)
    level = np.maximum(1 + 1.5 * look.contrast * (lambert - 0.9), 0.05)[:, :, None]
    factor = level ** np.array([0.92, 1.03, 1.08]) * look.tint  # dim light on skin is red: it has passed through
    factor = cv2.resize(factor.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    figure = image[:, :, 3:] / np.float32(255)
    return image[:, :, :3] * (1 + (factor - 1) * figure)


def draw_face(rng: np.random.Generator) -> np.ndarray:
    """One face in the framing of aligned CelebA; uint8 [218, 178, 3], RGB."""
    look = sample_look(rng)
    canvas = Canvas(draw_background(rng), look)
    draw_back_hair(canvas, look, rng)
    draw_body(canvas, look)
    draw_ears(canvas, look)
    draw_head(canvas, look)
    draw_wrinkles(canvas, look)
    draw_beard(canvas, look, rng)
    draw_mouth(canvas, look)
    draw_nose(canvas, look)
    draw_eye(canvas, look, -1)
    draw_eye(canvas, look, 1)
    draw_brows(canvas, look, rng)
    draw_front_hair(canvas, look, rng)
    draw_glasses(canvas, look)
    small = cv2.resize(cv2.GaussianBlur(canvas.pixels, (0, 0), 0.8), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    grain = rng.standard_normal((HEIGHT, WIDTH, 1), np.float32) * np.float32(rng.uniform(0.5, 3))
    return np.clip(light_up(small, look) + grain + np.float32(0.5), 0, 255).astype(np.uint8)
