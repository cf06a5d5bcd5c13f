"""Cloth patterns and colour schemes, made from a seed: people for training and for testing share none.

A pattern is a tile of weights of a scheme's second and third colour, and a shade; so every pattern goes with every
scheme. Looking one up costs one gather, whatever it shows.
"""

from __future__ import annotations

import colorsys

import numpy as np

from hmrkit.rendering.shading import linear

TILE = 128  # texels of a tile's side
PLAIN_SHARE = 0.25  # the first patterns of a bank are plain cloth


def pattern_bank(count: int, seed: int, photographs: np.ndarray) -> np.ndarray:
    """`count` tiles (N,TILE,TILE,3) uint8: weight of colour 2, weight of colour 3, shade. Every tile repeats.

    `photographs` (M,S,S) uint8, grey, serve as patterns like the others.
    """
    makers = (_stripes, _stripes, _checks, _dots, _camouflage, _camouflage, _leaves, _tartan, _blocks)
    bank = np.zeros((count, TILE, TILE, 3), np.float32)
    for number in range(count):
        random = np.random.default_rng([seed, number])
        bank[number, ..., 2] = _cloth(random)
        if number < count * PLAIN_SHARE:
            continue
        if random.random() < 0.1 and len(photographs):
            bank[number, ..., 0] = _photograph(random, photographs)
        else:
            bank[number, ..., :2] = makers[random.integers(len(makers))](random)
    return (bank.clip(0, 1) * 255).round().astype(np.uint8)


def colour_schemes(count: int, seed: int) -> np.ndarray:
    """`count` schemes (N,3,3) of linear RGB: a cloth's main, second and third colour.

    The first half (`N // 2`) suits trousers and shoes (dark, blue, grey, brown), the second everything.
    """
    schemes = np.empty((count, 3, 3))
    for number in range(count):
        random = np.random.default_rng([seed, 7, number])
        main = _dull(random) if number < count // 2 or random.random() < 0.45 else _bright(random)
        others = [_dull(random) if random.random() < 0.5 else _bright(random) for _ in range(2)]
        schemes[number] = [main, *others]
    return schemes.astype(np.float32)


def hair_colours(count: int, seed: int) -> np.ndarray:
    """Linear RGB (N,3): black to blond along melanin, some red, grey and dyed."""
    random = np.random.default_rng([seed, 11])
    known = np.array([[0.010, 0.008, 0.007], [0.025, 0.015, 0.010], [0.07, 0.036, 0.018], [0.20, 0.115, 0.05],
                      [0.42, 0.29, 0.13], [0.17, 0.05, 0.02], [0.30, 0.29, 0.28], [0.65, 0.64, 0.62]])  # fmt: skip
    share = np.array([0.27, 0.22, 0.18, 0.1, 0.07, 0.04, 0.07, 0.05])
    colour = known[random.choice(len(known), count, p=share)] * np.exp(random.normal(0, 0.2, (count, 1)))
    dyed = random.random(count) < 0.03
    colour[dyed] = [_bright(random) for _ in range(int(dyed.sum()))]
    return colour.clip(0.004, 0.9).astype(np.float32)


def _dull(random: np.random.Generator) -> np.ndarray:
    """Black, grey, white, denim, khaki, brown, navy."""
    kind = random.choice(5, p=[0.34, 0.16, 0.26, 0.12, 0.12])
    if kind == 0:  # black to dark grey
        return linear(np.full(3, random.uniform(0.03, 0.28)) + random.normal(0, 0.01, 3)).clip(0.002, 1)
    if kind == 1:  # grey to white
        return linear((np.full(3, random.uniform(0.35, 0.95)) + random.normal(0, 0.015, 3)).clip(0, 0.96))
    hue, low, high, light = {
        2: (random.normal(0.61, 0.02), 0.2, 0.65, random.uniform(0.12, 0.6)),
        3: (random.normal(0.10, 0.02), 0.15, 0.45, random.uniform(0.3, 0.8)),
        4: (random.normal(0.06, 0.02), 0.3, 0.6, random.uniform(0.12, 0.45)),
    }[int(kind)]
    return linear(colorsys.hsv_to_rgb(hue % 1, random.uniform(low, high), light))


def _bright(random: np.random.Generator) -> np.ndarray:
    """Any hue, from pastel to strong."""
    hue, saturation = random.random(), 1 - random.random() ** 1.3 * 0.8
    return linear(colorsys.hsv_to_rgb(hue, saturation, random.uniform(0.3, 0.95)))


# ---- tiles; every function returns (TILE,TILE,2) unless it says otherwise -------------------------------------------


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Places 0 .. 1 down and across a tile."""
    steps = (np.arange(TILE) + 0.5) / TILE
    return np.meshgrid(steps, steps, indexing="ij")


def _noise(random: np.random.Generator, low: float, high: float) -> np.ndarray:
    """Noise (TILE,TILE) of variance 1 with `low` to `high` waves a tile; repeats."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(TILE) * TILE, np.fft.rfftfreq(TILE) * TILE, indexing="ij"))
    band = ((frequency >= low) & (frequency <= high)) / np.maximum(frequency, 1)
    noise = np.fft.irfft2(np.fft.rfft2(random.normal(size=(TILE, TILE))) * band, (TILE, TILE))
    return noise / (noise.std() + 1e-9)


def _cloth(random: np.random.Generator) -> np.ndarray:
    """Shade (TILE,TILE): soft wrinkles, wear and weave."""
    wrinkle, wear, weave = random.uniform(0.01, 0.10), random.uniform(0, 0.05), random.uniform(0, 0.06)
    shade = 0.86 + wrinkle * _noise(random, 1, 6) + wear * _noise(random, 4, 24)
    return shade + weave * random.normal(size=(TILE, TILE))


def _bands(random: np.random.Generator, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of stripes across `place` 0 .. 1."""
    count = random.choice([1, 2, 3, 4, 6, 8, 12])
    width, second = random.uniform(0.1, 0.7), random.uniform(0.02, 0.25)
    phase = (place * count) % 1
    return (phase < width).astype(float), ((phase - random.uniform(0, 1)) % 1 < second) * float(random.random() < 0.5)


def _stripes(random: np.random.Generator) -> np.ndarray:
    down, across = _grid()
    return np.stack(_bands(random, down if random.random() < 0.65 else across), -1)


def _checks(random: np.random.Generator) -> np.ndarray:
    down, across = _grid()
    count = random.integers(2, 9)
    first, second = (down * count) % 1 < 0.5, (across * count) % 1 < 0.5
    mixed = (first * 0.5 + second * 0.5) if random.random() < 0.6 else (first ^ second) * 1.0
    return np.stack([mixed, np.zeros_like(mixed)], -1)


def _tartan(random: np.random.Generator) -> np.ndarray:
    down, across = _grid()
    (a, b), (c, d) = _bands(random, down), _bands(random, across)
    return np.stack([(a + c) / 2, np.maximum(b, d) * 0.8], -1)


def _dots(random: np.random.Generator) -> np.ndarray:
    down, across = _grid()
    count, radius = random.integers(2, 9), random.uniform(0.15, 0.42)
    row = np.floor(down * count)
    shifted = across * count + 0.5 * (row % 2) * (count % 2 == 0)
    inside = np.hypot(down * count % 1 - 0.5, shifted % 1 - 0.5) < radius
    return np.stack([inside * 1.0, np.zeros_like(down)], -1)


def _camouflage(random: np.random.Generator) -> np.ndarray:
    """Blobs of three colours, coarse or fine, hard or soft."""
    low = random.uniform(1, 6)
    hardness = random.choice([1.0, 4.0, 20.0])
    fields = [_noise(random, low, low * random.uniform(1.5, 5)) - random.uniform(-0.2, 0.8) for _ in range(2)]
    first, second = (1 / (1 + np.exp(-np.clip(hardness * f, -30, 30))) for f in fields)
    return np.stack([first * (1 - second), second], -1)


def _leaves(random: np.random.Generator) -> np.ndarray:
    """Scattered shapes like petals on a plain ground."""
    down, across = _grid()
    out = np.zeros((TILE, TILE, 2))
    petals = random.integers(1, 7)
    for _ in range(random.integers(6, 40)):
        dy, dx = ((down - random.random() + 0.5) % 1 - 0.5), ((across - random.random() + 0.5) % 1 - 0.5)
        radius = random.uniform(0.03, 0.13) * (0.65 + 0.35 * np.cos(petals * np.arctan2(dy, dx) + random.uniform(0, 6)))
        inside = np.hypot(dy, dx) < radius
        out[inside] = np.eye(2)[random.integers(2)]
    return out


def _blocks(random: np.random.Generator) -> np.ndarray:
    """Bars and boxes at random, as prints and lettering look from afar."""
    out = np.zeros((TILE, TILE, 2))
    for _ in range(random.integers(3, 30)):
        height, width = random.integers(4, 40, 2)
        top, left = random.integers(0, TILE - height), random.integers(0, TILE - width)
        out[top : top + height, left : left + width] = np.eye(2)[random.integers(2)] * random.choice([0, 1, 1])
    return out


def _photograph(random: np.random.Generator, photographs: np.ndarray) -> np.ndarray:
    """Brightness (TILE,TILE) of a cut of a photograph, mirrored so that it repeats, its contrast stretched."""
    image = photographs[random.integers(len(photographs))]
    side = TILE // 2 * random.choice([1, 2, 4])
    top, left = random.integers(0, image.shape[0] - side + 1), random.integers(0, image.shape[1] - side + 1)
    step = side // (TILE // 2)
    cut = image[top : top + side, left : left + side].reshape(TILE // 2, step, TILE // 2, step).mean((1, 3))
    low, high = np.percentile(cut, [3, 97])
    cut = (cut - low) / max(high - low, 1)
    return np.block([[cut, cut[:, ::-1]], [cut[::-1], cut[::-1, ::-1]]])
