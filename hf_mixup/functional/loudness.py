"""Loudness of audio as the ear hears it, and weights that mix audio so that lam is the share heard."""

from __future__ import annotations

import torch
from torch import Tensor

QUIETEST = -80.0  # dB; silence counts as this


def loudness(waveforms: Tensor, sampling_rate: int) -> Tensor:
    """Return the loudest moment of each audio in A-weighted decibels (of the sum of a window's power spectrum).

    Windows (Hann) last about an eighth of a second, a power of two in samples, and overlap by half.

    Source: IEC 61672 for the weighting; Tokozume et al. 2018, "Learning from Between-class Examples for Deep Audio
    Recognition", https://arxiv.org/abs/1711.10282, section 3.2 and appendix.

    Args:
        waveforms: [B, T], floating-point.
        sampling_rate: samples a second, above 0.

    Returns:
        float32 [B], at least -80.

    Raises:
        ValueError: for another shape, or a sampling rate that is not above 0.

    >>> tone = torch.sin(torch.arange(8000) * 2 * torch.pi * 1000 / 16000)
    >>> levels = loudness(torch.stack([tone, tone / 10, 0 * tone]), 16000)
    >>> [round(float(level), 1) for level in (levels[0] - levels[1], levels[2])]
    [20.0, -80.0]
    """
    if waveforms.dim() != 2:
        raise ValueError(f"waveforms must have shape [B, T], got {list(waveforms.shape)}")
    if sampling_rate <= 0:
        raise ValueError(f"sampling_rate must be above 0, got {sampling_rate}")
    size = 2 ** max(1, round(float(torch.tensor(sampling_rate / 8).log2())))
    wide = waveforms.float()
    wide = torch.nn.functional.pad(wide, (0, max(0, size - wide.shape[1])))
    window = torch.hann_window(size, device=wide.device)
    power = torch.stft(wide, size, size // 2, window=window, center=False, return_complex=True).abs().square()
    weight = 10 ** (a_weighting(torch.fft.rfftfreq(size, 1 / sampling_rate, device=wide.device)) / 10)
    with torch.autocast(wide.device.type, enabled=False):  # the power of a loud tone is beyond float16
        loudest = torch.einsum("bft,f->bt", power, weight).amax(-1)
    return (10 * loudest.clamp(min=1e-30).log10()).clamp(min=QUIETEST)


def a_weighting(frequencies: Tensor) -> Tensor:
    """Return the A-weighting of frequencies in Hz, in dB, at least -80; about 0 at 1 kHz.

    >>> a_weighting(torch.tensor([100.0, 1000.0])).round(decimals=1)
    tensor([-19.1000,   0.0000])
    """
    square = frequencies.double().square()
    poles = (square + 20.6**2) * ((square + 107.7**2) * (square + 737.9**2)).sqrt() * (square + 12194.0**2)
    gain = 12194.0**2 * square.square() / poles
    return (20 * gain.clamp(min=1e-30).log10() + 2.0).clamp(min=QUIETEST).float()


def heard_weights(levels: Tensor, partner: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors of each audio and of its partner by which the own audio is heard as a share lam of the mix.

    With p = 1 / (1 + 10^((G_i - G_j) / 20) (1 - lam) / lam) they are p and 1 - p, divided by sqrt(p^2 + (1 - p)^2), for
    the energies of two unrelated waveforms add up.

    Source: Tokozume et al. 2018, https://arxiv.org/abs/1711.10282, equations 2 and 3.

    Args:
        levels: loudness in dB [B].
        partner: long [B].
        lam: share of the own audio as it is heard, in [0, 1], [B].

    Returns:
        Two float32 tensors [B].

    >>> own, other = heard_weights(torch.tensor([-20.0, 0.0]), torch.tensor([1, 0]), torch.tensor([0.5, 0.5]))
    >>> (own / other).round(decimals=3)  # the quieter one is raised
    tensor([10.0000,  0.1000])
    """
    louder = 10 ** ((levels - levels[partner]) / 20)
    share = lam / (lam + louder * (1 - lam))
    norm = (share.square() + (1 - share).square()).sqrt()
    return share / norm, (1 - share) / norm
