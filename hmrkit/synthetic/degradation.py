"""What a camera, an encoder and the chain's crop do to an image before a network sees it.

The order is that of the real ones: lens, sensor (at the resolution that the person had in the source), tone curve,
JPEG, and then the crop that stretches the person to its own size.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from hmrkit.synthetic.cameras import Difficulty, chance, uniform

# Annex K of the JPEG standard (ITU-T T.81): quantisation of luminance and chrominance at quality 50.
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *([99] * 32),
)  # fmt: skip
_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_MARGIN = 8
SMALLEST = 48  # px: fewer source pixels along the crop are as good as none


def photograph(
    radiance: Tensor, subject: Tensor, resolution: Tensor, difficulty: Difficulty, generator: torch.Generator
) -> Tensor:
    """Linear images (B,3,S,S) -> sRGB in [0, 1].

    `subject` (B,) is the radiance that the camera exposes for, `resolution` (B,) source pixels along the crop's side.
    """
    g, device, (count, _, size, _) = generator, radiance.device, radiance.shape
    bad = difficulty.degraded
    stops = (0.45 * torch.randn(count, generator=g)).clamp(-1.2, 1.2).to(device)
    warm, green = (torch.randn(2, count, generator=g) * torch.tensor([[0.09], [0.03]])).to(device)
    balance = torch.stack([warm - green, green, -warm - green], -1).exp()
    gain = 0.30 / subject.clamp_min(1e-4) * 2**stops
    image = radiance * (gain[:, None] * balance)[..., None, None]
    # Light that strays in the lens: a veil over everything, of about the brightness of the highlights.
    veil = 0.5 * uniform(0, 1, (count, 1, 1, 1), g, device) ** 2 * chance(0.15 * bad, (count, 1, 1, 1), g, device)
    image = image + veil * image.mean((2, 3), keepdim=True).clamp(max=2)

    pixels = resolution.round().clamp(SMALLEST, size)
    pixels = torch.where(chance(bad, (count,), g, device), pixels, torch.full_like(pixels, size))
    image = _lens(image, size / pixels, bad, g)
    image = _resample(image, torch.full_like(pixels, size), pixels)
    noisy = chance(0.5 * bad, (count,), g, device)
    shot = noisy * 0.012 * uniform(0, 1, (count,), g, device) ** 3
    read = noisy * 0.012 * uniform(0, 1, (count,), g, device) ** 3
    image = (
        image
        + _noise(image, g) * (shot[:, None, None, None] * image.clamp_min(0) + (read**2)[:, None, None, None]).sqrt()
    )
    image = _tone(image, bad, g)
    image = _sharpened(image, bad, g)
    image = _compressed(image, bad, g)
    return _resample(image, pixels, torch.full_like(pixels, size)).clamp(0, 1)


def _lens(image: Tensor, shrink: Tensor, bad: float, g: torch.Generator) -> Tensor:
    """Defocus, motion and the sensor's pixels (`shrink` (B,) of ours each) in one product of spectra."""
    count, size, device = len(image), image.shape[-1], image.device
    sigma = 0.45 + chance(0.35 * bad, (count,), g, device) * 2.2 * uniform(0, 1, (count,), g, device) ** 2.5
    length = chance(0.15 * bad, (count,), g, device) * 14 * uniform(0, 1, (count,), g, device) ** 2
    angle = uniform(0, math.pi, (count,), g, device)
    size += 2 * _MARGIN
    fx = torch.fft.rfftfreq(size, device=device)[None, None, :]
    fy = torch.fft.fftfreq(size, device=device)[None, :, None]
    s, ln, cosine, sine, box = (v.view(-1, 1, 1) for v in (sigma, length, angle.cos(), angle.sin(), shrink - 1))
    transfer = (-2 * (math.pi * s) ** 2 * fx**2).exp() * (-2 * (math.pi * s) ** 2 * fy**2).exp()
    transfer = transfer * torch.sinc(ln * (fx * cosine + fy * sine)) * torch.sinc(box * fx) * torch.sinc(box * fy)
    # The margin, because a product of spectra takes what lies beyond an edge from the opposite one.
    image = functional.pad(image, (_MARGIN,) * 4, mode="replicate")
    image = torch.fft.irfft2(torch.fft.rfft2(image) * transfer[:, None], s=(size, size))
    return image[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def _resample(image: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """The top-left `before` (B,) pixels square of each image as its top-left `after` (B,) pixels square."""
    rows = (before != after).nonzero()[:, 0]
    if not len(rows):
        return image
    size = image.shape[-1]
    before, after = before[rows, None], after[rows, None]
    place = (torch.arange(size, device=image.device) + 0.5) * (before / after)
    place = torch.minimum(place.clamp_min(0.5), before - 0.5) * (2 / size) - 1
    grid = torch.stack([place[:, None, :].expand(-1, size, -1), place[:, :, None].expand(-1, -1, size)], -1)
    out = image.clone()
    out[rows] = functional.grid_sample(image[rows], grid, align_corners=False)
    return out


def _noise(image: Tensor, g: torch.Generator) -> Tensor:
    """Normal noise like `image`, drawn on its device from a seed of the generator."""
    own = torch.Generator(image.device).manual_seed(int(torch.randint(2**62, (1,), generator=g)))
    return torch.randn(image.shape, generator=own, device=image.device)


def _tone(image: Tensor, bad: float, g: torch.Generator) -> Tensor:
    """Linear light -> display: a film's shoulder, gamma between 2 and 2.6, contrast, saturation, now and then none."""
    count, device = len(image), image.device
    steep = uniform(0, 0.3, (count, 1, 1, 1), g, device)
    contrast = uniform(-0.2, 0.9, (count, 1, 1, 1), g, device)
    colour = uniform(0.6, 1.25, (count, 1, 1, 1), g, device) * ~chance(0.03 * bad, (count, 1, 1, 1), g, device)
    # Roots are many times as fast as powers, and a mixture of them is a gamma between theirs.
    root = image.clamp_min(0).neg_().expm1_().neg_().sqrt_()
    image = torch.lerp(root, root.sqrt(), steep * 0.5)
    image = torch.lerp(image, image * image * (3 - 2 * image), contrast)
    grey = image.mean(1, keepdim=True)
    return torch.lerp(grey, image, colour).clamp_(0, 1)


def _sharpened(image: Tensor, bad: float, g: torch.Generator) -> Tensor:
    """Halos on a third of the images."""
    chosen = torch.randperm(len(image), generator=g)[: round(0.35 * bad * len(image))].to(image.device)
    amount = uniform(0, 1.2, (len(chosen), 1, 1, 1), g, image.device)
    if not len(chosen):
        return image
    plain = image[chosen]
    rows = functional.pad(plain, (0, 0, 1, 1), mode="replicate")
    rows = rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]
    both = functional.pad(rows, (1, 1, 0, 0), mode="replicate")
    both = both[..., :-2] + both[..., 1:-1] + both[..., 2:]
    image[chosen] = (plain + amount * (plain - both / 9)).clamp_(0, 1)
    return image


@lru_cache(maxsize=4)
def _jpeg_tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The discrete cosine transform (8,8), quantisation (2,8,8), RGB to luma and chroma (3,3)."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    transform = (math.pi * (2 * n + 1) * k / 16).cos() / 2
    transform[0] /= math.sqrt(2)
    tables = torch.tensor([_LUMA, _CHROMA], dtype=torch.float32).view(2, 8, 8) / 255
    return transform.to(device), tables.to(device), torch.tensor(_YCC, device=device)


def _compressed(image: Tensor, bad: float, g: torch.Generator) -> Tensor:
    """JPEG of qualities 12 to 95 on a share of the images, chroma halved."""
    count, size = len(image), image.shape[-1]
    chosen = torch.randperm(count, generator=g)[: round(0.7 * bad * count)]
    quality = 12 + 83 * torch.rand(len(chosen), generator=g).sqrt()
    if not len(chosen):
        return image
    chosen, quality = chosen.to(image.device), quality.to(image.device)
    transform, tables, to_ycc = _jpeg_tables(image.device)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50).view(-1, 1, 1, 1, 1, 1)
    ycc = torch.einsum("dc,bchw->bdhw", to_ycc, image[chosen])
    luma = _quantised(ycc[:, :1], transform, tables[0], scale)
    chroma = _quantised(functional.avg_pool2d(ycc[:, 1:], 2), transform, tables[1], scale)
    chroma = functional.interpolate(chroma, size=(size, size), mode="bilinear", align_corners=False)
    back = torch.einsum("cd,bdhw->bchw", torch.linalg.inv(to_ycc), torch.cat([luma, chroma], 1))
    out = image.clone()
    out[chosen] = back.clamp(0, 1)
    return out


def _quantised(planes: Tensor, transform: Tensor, table: Tensor, scale: Tensor) -> Tensor:
    """8x8 blocks of planes (B,C,H,W) rounded to multiples of `scale` times `table` in the cosine transform."""
    b, c, h, w = planes.shape
    blocks = planes.view(b, c, h // 8, 8, w // 8, 8).transpose(3, 4)  # (B,C,rows,columns,8,8)
    step = (table * scale).clamp_min(1 / 255)
    coefficients = ((transform @ blocks @ transform.T) / step).round() * step
    return (transform.T @ coefficients @ transform).transpose(3, 4).reshape(b, c, h, w)
