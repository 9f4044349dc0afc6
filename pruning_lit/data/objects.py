"""Ten procedural objects with parts: how their proportions are drawn."""

from collections.abc import Callable

from numpy.random import Generator

from pruning_lit.data.surfaces import Box, Frustum, PartSurface, TorusSegment, Zone, around, corners, disc

Surfaces = list[PartSurface]


def legs(part: int, places: list[tuple[float, float]], height: float, radius: float) -> Surfaces:
    """Upright round legs from the ground to a height."""
    return [PartSurface(part, Frustum((0, height), (radius, radius), place)) for place in places]


def slab(part: int, random: Generator, width: float, depth: float, z: float, thick: float) -> tuple[Surfaces, bool]:
    """A flat top, rectangular or round, and whether it is round."""
    if random.random() < 0.5:
        return [PartSurface(part, Box((0, 0, z + thick / 2), (width, depth, thick)))], False
    radius = (width + depth) / 4
    faces = [disc(z, radius), Frustum((z, z + thick), (radius, radius)), disc(z + thick, radius)]
    return [PartSurface(part, each) for each in faces], True


def seat_on_legs(random: Generator, width: float, depth: float, height: float) -> Surfaces:
    """A top (part 0) on three or four legs (part 1)."""
    top, is_round = slab(0, random, width, depth, height, random.uniform(0.04, 0.1))
    inset = random.uniform(0.65, 0.92)
    if is_round:
        places = around(inset * (width + depth) / 4, int(random.integers(3, 5)))
    else:
        places = corners(inset * width / 2, inset * depth / 2)
    return top + legs(1, places, height, random.uniform(0.025, 0.055))


def table(random: Generator) -> Surfaces:
    """Top and legs: wider than high."""
    return seat_on_legs(random, random.uniform(0.9, 1.6), random.uniform(0.7, 1.1), random.uniform(0.5, 0.9))


def stool(random: Generator) -> Surfaces:
    """Seat and legs: about as high as wide, or higher."""
    width = random.uniform(0.4, 0.75)
    return seat_on_legs(random, width, width * random.uniform(0.85, 1.0), random.uniform(0.6, 1.0))


def chair(random: Generator) -> Surfaces:
    """Seat, legs and back."""
    width, depth, height = random.uniform(0.45, 0.75), random.uniform(0.45, 0.7), random.uniform(0.4, 0.6)
    back, thick = random.uniform(0.35, 0.75), random.uniform(0.03, 0.08)
    board = Box((0, (depth - thick) / 2, height + back / 2), (width * random.uniform(0.8, 1.0), thick, back))
    return [*seat_on_legs(random, width, depth, height), PartSurface(2, board)]


def lamp(random: Generator) -> Surfaces:
    """Foot, pole and shade."""
    foot, pole, height = random.uniform(0.15, 0.3), random.uniform(0.015, 0.04), random.uniform(0.6, 1.1)
    low, high, length = random.uniform(0.2, 0.4), random.uniform(0.08, 0.2), random.uniform(0.2, 0.4)
    shade = Frustum((height - length / 2, height + length / 2), (low, high))
    thick = random.uniform(0.02, 0.06)
    base = [disc(0, foot), Frustum((0, thick), (foot, foot)), disc(thick, foot)]
    return [*(PartSurface(0, each) for each in base), *legs(1, [(0, 0)], height, pole), PartSurface(2, shade)]


def mug(random: Generator) -> Surfaces:
    """Body and handle."""
    low, height = random.uniform(0.25, 0.4), random.uniform(0.5, 1.1)
    high = low * random.uniform(0.9, 1.2)
    bend = height * random.uniform(0.2, 0.32)
    handle = TorusSegment(((low + high) / 2, 0, height * random.uniform(0.45, 0.6)), bend, random.uniform(0.03, 0.06))
    body = [disc(0, low), Frustum((0, height), (low, high))]
    return [*(PartSurface(0, each) for each in body), PartSurface(1, handle)]


def bottle(random: Generator) -> Surfaces:
    """Body and neck."""
    radius, height = random.uniform(0.18, 0.35), random.uniform(0.5, 0.9)
    neck, slope, length = radius * random.uniform(0.25, 0.5), random.uniform(0.05, 0.25), random.uniform(0.15, 0.4)
    body = [disc(0, radius), Frustum((0, height), (radius, radius)), Frustum((height, height + slope), (radius, neck))]
    top = Frustum((height + slope, height + slope + length), (neck, neck))
    return [*(PartSurface(0, each) for each in body), PartSurface(1, top)]


def goblet(random: Generator) -> Surfaces:
    """Foot, stem and bowl."""
    foot, stem, height = random.uniform(0.18, 0.32), random.uniform(0.02, 0.05), random.uniform(0.3, 0.6)
    radius = random.uniform(0.2, 0.38)
    bowl = [Zone(height + radius, radius, (-1, 0))]
    rim = Frustum(
        (height + radius, height + radius + random.uniform(0.05, 0.35)), (radius, radius * random.uniform(0.8, 1.1))
    )
    return [
        PartSurface(0, Frustum((0, random.uniform(0.02, 0.08)), (foot, stem))),
        PartSurface(0, disc(0, foot)),
        *legs(1, [(0, 0)], height, stem),
        *(PartSurface(2, each) for each in [*bowl, rim]),
    ]


def rocket(random: Generator) -> Surfaces:
    """Body, nose and fins."""
    radius, height = random.uniform(0.1, 0.2), random.uniform(0.7, 1.1)
    nose, span, fin = random.uniform(0.2, 0.45), random.uniform(0.08, 0.22), random.uniform(0.15, 0.35)
    thick = 0.02
    fins = [
        Box((x * (1 + radius / span), y * (1 + radius / span), fin / 2), size)
        for (x, y), size in zip(
            [(span / 2, 0), (-span / 2, 0), (0, span / 2), (0, -span / 2)],
            [(span, thick, fin)] * 2 + [(thick, span, fin)] * 2,
            strict=True,
        )
    ]
    return [
        PartSurface(0, disc(0, radius)),
        PartSurface(0, Frustum((0, height), (radius, radius))),
        PartSurface(1, Frustum((height, height + nose), (radius, 0.0))),
        *(PartSurface(2, each) for each in fins),
    ]


def mushroom(random: Generator) -> Surfaces:
    """Cap and stem."""
    radius, height = random.uniform(0.3, 0.55), random.uniform(0.35, 0.8)
    low, high = random.uniform(0.08, 0.18), random.uniform(0.06, 0.14)
    cut = random.uniform(-0.1, 0.4)  # of the sphere that the cap is a part of
    rim = radius * (1 - cut**2) ** 0.5
    cap = [Zone(height - radius * cut, radius, (cut, 1)), Frustum((height, height), (high, rim))]
    return [*(PartSurface(0, each) for each in cap), PartSurface(1, Frustum((0, height), (low, high)))]


def hammer(random: Generator) -> Surfaces:
    """Handle and head."""
    length, radius = random.uniform(0.8, 1.2), random.uniform(0.03, 0.07)
    size = random.uniform(0.3, 0.6), random.uniform(0.1, 0.2), random.uniform(0.1, 0.22)
    head = Box((random.uniform(-0.05, 0.05), 0, length), size)
    return [*legs(0, [(0, 0)], length, radius), PartSurface(1, head)]


#: By class: the names of its parts, in the order of their numbers, and how it is drawn.
OBJECTS: dict[str, tuple[list[str], Callable[[Generator], Surfaces]]] = {
    "table": (["top", "legs"], table),
    "stool": (["seat", "legs"], stool),
    "chair": (["seat", "legs", "back"], chair),
    "lamp": (["foot", "pole", "shade"], lamp),
    "mug": (["body", "handle"], mug),
    "bottle": (["body", "neck"], bottle),
    "goblet": (["foot", "stem", "bowl"], goblet),
    "rocket": (["body", "nose", "fins"], rocket),
    "mushroom": (["cap", "stem"], mushroom),
    "hammer": (["handle", "head"], hammer),
}
