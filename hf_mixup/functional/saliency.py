"""Saliency of images, from their spectrum alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LONGEST = 64
"""Pixels of the longer side that an image is shrunk to: the scale at which the spectrum tells objects from texture."""


def spectral_residual(x: Tensor) -> Tensor:
    """Return how much each pixel stands out: what is left of the log spectrum without its own local mean.

    The mean over the channels, shrunk to at most 64 pixels a side, is transformed; the log amplitude less its mean over
    3 x 3 frequencies goes back with the phase it had. The square is smoothed by a Gaussian whose deviation is 2.5 of 64
    pixels, zero beyond the edges, and stretched to the image's size. Adding a constant to the image, or multiplying
    it, changes nothing (up to rounding), so that normalised images can be given as they are.

    Source: Hou and Zhang 2007, "Saliency Detection: A Spectral Residual Approach", CVPR, section 2.

    Args:
        x: floats [B, C, H, W] of any range; computed in float32 (float64 if x is), without a graph.

    Returns:
        Floats [B, H, W] on the same device, not negative; all 0 for an image of one colour.

    Raises:
        ValueError: x is not floating point of four dimensions.

    >>> x = torch.zeros(1, 3, 32, 32)
    >>> x[0, :, 20:24, 8:12] = 1
    >>> most_salient(spectral_residual(x))
    tensor([[20,  8]])
    """
    if x.dim() != 4 or not x.is_floating_point():
        raise ValueError(f"spectral_residual needs floats [B, C, H, W], got {x.dtype} {list(x.shape)}")
    height, width = x.shape[-2:]
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        gray = (x if x.dtype == torch.float64 else x.float()).mean(1, keepdim=True)
        small = _shrunk(gray)
        limits = torch.finfo(gray.dtype)
        bound = small.abs().sum((-2, -1), keepdim=True)  # no amplitude is larger
        small = small - small.mean((-2, -1), keepdim=True)
        spectrum = torch.fft.fft2(small)
        amplitude = spectrum.abs()
        # Frequencies that an image almost lacks would stand out by rounding alone: this is their least amplitude.
        floor = torch.maximum(1e-3 * amplitude.mean((-2, -1), keepdim=True), 4 * limits.eps * bound)
        floor = floor.clamp(min=limits.tiny)
        log = amplitude.clamp(min=floor).log()
        # The mean of the image is not part of its contrast: it takes the mean of the neighbouring frequencies.
        log[..., 0, 0] = (log[..., 1 % log.shape[-2], 0] + log[..., 0, 1 % log.shape[-1]]) / 2
        mean = F.avg_pool2d(F.pad(log, (1, 1, 1, 1), mode="circular"), 3, stride=1)
        spectrum = torch.where(amplitude > floor, spectrum / amplitude.clamp(min=floor) * (log - mean).exp(), 0)
        spectrum[..., 0, 0] = 0
        return _spread(torch.fft.ifft2(spectrum).abs().square(), height, width)


def smooth_saliency(saliency: Tensor) -> Tensor:
    """Return saliency smoothed by the Gaussian of `spectral_residual`, at its scale: for maps as ragged as gradients.

    Args:
        saliency: float32 (or float64) [B, H, W].

    >>> ragged = torch.zeros(1, 16, 16)
    >>> ragged[0, 2, 2], ragged[0, 8:11, 8:11] = 2.0, 1.0
    >>> most_salient(ragged), most_salient(smooth_saliency(ragged))
    (tensor([[2, 2]]), tensor([[9, 9]]))
    """
    with torch.autocast(saliency.device.type, enabled=False):
        return _spread(_shrunk(saliency[:, None]), *saliency.shape[-2:])


def _shrunk(x: Tensor) -> Tensor:
    """Return [B, 1, H, W] at `LONGEST` pixels for the longer side, where that is less."""
    height, width = x.shape[-2:]
    scale = min(1.0, LONGEST / max(height, width))
    return F.adaptive_avg_pool2d(x, (max(1, round(height * scale)), max(1, round(width * scale))))


def _spread(small: Tensor, height: int, width: int) -> Tensor:
    """Return [B, 1, h, w] under a Gaussian and stretched to [B, height, width]; zeros beyond the edges."""
    smooth = _smooth(small, 2.5 / LONGEST * max(small.shape[-2:]))
    return F.interpolate(smooth, (height, width), mode="bilinear", align_corners=False)[:, 0]


def _smooth(x: Tensor, deviation: float) -> Tensor:
    """Return [B, 1, H, W] under a Gaussian, cut off at three deviations, with zeros beyond the edges."""
    reach = max(1, round(3 * deviation))
    steps = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.softmax(-0.5 * (steps / deviation).square(), 0)
    x = F.conv2d(x, kernel.reshape(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(x, kernel.reshape(1, 1, 1, -1), padding=(0, reach))


def most_salient(saliency: Tensor) -> Tensor:
    """Return the pixel of the largest value in each map, the first in reading order: long [B, 2] of (y, x).

    Args:
        saliency: floats [B, H, W].

    >>> most_salient(torch.tensor([[[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]]))
    tensor([[1, 2]])
    """
    at = saliency.flatten(1).argmax(-1)
    width = saliency.shape[-1]
    return torch.stack([at.div(width, rounding_mode="floor"), at % width], -1)
