"""Spectral residual saliency by hand."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from torch import Tensor

from hf_mixup.functional.saliency import most_salient, spectral_residual


def residual_by_hand(image: Tensor) -> list[list[float]]:
    """The square of the spectral residual's image before smoothing, by sums over all pixels in double precision."""
    gray = image.double().mean(0).tolist()
    height, width = len(gray), len(gray[0])
    mean = sum(map(sum, gray)) / (height * width)
    ys, xs = range(height), range(width)

    def transform(values: list[list[complex]], sign: int) -> list[list[complex]]:
        rows = [
            [sum(values[y][x] * cmath.exp(sign * 2j * math.pi * v * x / width) for x in xs) for v in xs] for y in ys
        ]
        return [[sum(rows[y][v] * cmath.exp(sign * 2j * math.pi * u * y / height) for y in ys) for v in xs] for u in ys]

    spectrum = transform([[complex(gray[y][x] - mean) for x in xs] for y in ys], -1)
    total = sum(abs(each) for row in gray for each in row)
    floor = max(4 * 2**-52 * total, 1e-3 * sum(abs(each) for row in spectrum for each in row) / (height * width))
    log = [[math.log(max(abs(each), floor)) for each in row] for row in spectrum]
    log[0][0] = (log[1][0] + log[0][1]) / 2
    left = [[0j] * width for _ in ys]
    for u in ys:
        for v in xs:
            if abs(spectrum[u][v]) > floor and (u or v):
                around = [log[(u + a) % height][(v + b) % width] for a in (-1, 0, 1) for b in (-1, 0, 1)]
                left[u][v] = cmath.exp(log[u][v] - sum(around) / 9 + 1j * cmath.phase(spectrum[u][v]))
    return [[(abs(each) / (height * width)) ** 2 for each in row] for row in transform(left, 1)]


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 12), (2, 9, 5)])
def test_spectral_residual_by_hand(shape: tuple[int, int, int]) -> None:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    squares, (height, width) = residual_by_hand(image), shape[1:]
    deviation = 2.5 / 64 * max(height, width)
    reach = max(1, round(3 * deviation))
    weights = {step: math.exp(-0.5 * (step / deviation) ** 2) for step in range(-reach, reach + 1)}
    total = sum(weights.values())
    expected = torch.zeros(height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            for a in weights:
                for b in weights:
                    if 0 <= y + a < height and 0 <= x + b < width:
                        expected[y, x] += weights[a] * weights[b] / total**2 * squares[y + a][x + b]
    torch.testing.assert_close(spectral_residual(image[None])[0], expected)


@pytest.mark.parametrize("size", [(64, 64), (224, 160), (33, 97)])
def test_an_object_on_a_plain_ground_stands_out(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    height, width = size
    for drawn in range(10):
        side = max(4, min(size) // 10)
        y, x = (int(torch.randint(side, end - 2 * side, (), generator=generator)) for end in size)
        image = (0.05 if drawn % 2 else 0) * torch.randn(1, 3, height, width, generator=generator)
        image[..., y : y + side, x : x + side] += 1
        found = most_salient(spectral_residual(image))[0]
        assert y - side <= found[0] <= y + 2 * side
        assert x - side <= found[1] <= x + 2 * side
    image = torch.randn(1, 3, height, width, generator=generator).double()
    one, other = spectral_residual(torch.cat([image, 3 * image + 5]))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_saliency_takes_what_images_may_be() -> None:
    for shade in (0.0, 0.3, -7.1):
        for size in ((9, 9), (224, 224), (50, 64)):
            assert bool((spectral_residual(torch.full((2, 3, *size), shade)) == 0).all())
    assert spectral_residual(torch.randn(1, 1, 1, 1)).shape == (1, 1, 1)
    x = torch.randn(3, 3, 70, 41)
    rows = torch.cat([spectral_residual(row[None]) for row in x])
    torch.testing.assert_close(spectral_residual(x.contiguous(memory_format=torch.channels_last)), rows)
    assert spectral_residual(x.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"needs floats \[B, C, H, W\], got torch.uint8"):
        spectral_residual(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
