"""The axes of a float input (time, space, frequency), and the mask of its padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from hf_mixup.models.batches import HEARD, IDS, MASK

PIXELS = "pixel_mask"
OBSERVED = ("past_observed_mask", "observed_mask", "future_observed_mask")
SERIES = ("past_", "future_")
TABLE = "numerical"  # the columns of a table have no order, so they are not cut
BINS = ("num_mel_bins", "feature_projection_input_dim", "input_feat_per_channel", "feature_size")
"""Names of the number of frequencies in configurations."""

Along = Literal["time", "space", "both"]


@dataclass(frozen=True)
class Axes:
    """The axes along which an input can be cut.

    Args:
        time: the axis of time, None if there is none or it is not known.
        space: height and width of an image or video, or the frequencies of a spectrogram.
        pair: the last two axes of a spectrogram, of which one is time; empty for other inputs.
    """

    time: int | None
    space: tuple[int, ...] = ()
    pair: tuple[int, ...] = ()


def axes_of(key: str, value: Tensor, batch: Mapping[str, Any], model: nn.Module, time_axis: int | None) -> Axes | None:
    """Find the axes of a float input, by its name and number of dimensions.

    Audio clips [B, T] or [B, 1, T]; spectrograms [B, T, F], [B, F, T] or with a channel before these; series `past_*`
    [B, T] or [B, T, C]; images `pixel_*` [B, C, H, W]; videos [B, T, C, H, W]. In a spectrogram time is the axis of the
    mask's length [B, T], or else the one that does not have the number of frequencies of the model's configuration.

    Args:
        time_axis: the axis of time, if the user gives it.

    Returns:
        None for an input of another kind.

    Raises:
        ValueError: for a time_axis that the input does not have.

    >>> axes_of("pixel_values", Tensor(2, 8, 3, 4, 4), {}, nn.Identity(), None)
    Axes(time=1, space=(3, 4), pair=())
    >>> clips = {"input_features": Tensor(2, 80, 30), "attention_mask": Tensor(2, 30)}
    >>> axes_of("input_features", clips["input_features"], clips, nn.Identity(), None)
    Axes(time=2, space=(1,), pair=(1, 2))
    """
    dims, image = value.dim(), key.startswith("pixel")
    if key.startswith(TABLE):
        return None
    if dims == 5:
        found = Axes(_among(key, value, time_axis, (1, 2)) or 1, (3, 4))
    elif image:
        return Axes(None, (2, 3)) if dims == 4 else None
    elif dims == 2 or (dims == 3 and key.startswith(SERIES)):
        found = Axes(_among(key, value, time_axis, (1,)) or 1)
    elif dims in (3, 4):
        pair = (dims - 2, dims - 1)
        single = [axis for axis in pair if value.shape[axis] == 1]
        if len(single) == 1:  # one channel of an audio clip
            length = pair[0] if pair[1] in single else pair[1]
            return Axes(_among(key, value, time_axis, (length,)) or length)
        time = _among(key, value, time_axis, pair) or _time_of(value, batch, model, pair)
        found = Axes(time, tuple(axis for axis in pair if axis != time) if time else (), pair)
    else:
        return None
    return found


def _among(key: str, value: Tensor, time_axis: int | None, possible: tuple[int, ...]) -> int | None:
    if time_axis is not None and time_axis not in possible:
        raise ValueError(
            f"time_axis={time_axis}: time in {key} {list(value.shape)} can be axis {' or '.join(map(str, possible))}"
        )
    return time_axis


def _time_of(value: Tensor, batch: Mapping[str, Any], model: nn.Module, pair: tuple[int, ...]) -> int | None:
    """Return the axis of time of a spectrogram, None if neither mask nor configuration tells."""
    mask = batch.get(MASK)
    if isinstance(mask, Tensor) and mask.dim() == 2 and IDS not in batch:
        as_long = [axis for axis in pair if value.shape[axis] == mask.shape[1]]
        if len(as_long) == 1:
            return as_long[0]
    bins = set(_bins(model))
    frequencies = [axis for axis in pair if value.shape[axis] in bins]
    return pair[1 - pair.index(frequencies[0])] if len(frequencies) == 1 else None


def _bins(model: nn.Module) -> Iterator[int]:
    config = getattr(model, "config", None)
    for each in (config, getattr(config, "audio_config", None)):
        yield from (bins for name in BINS if isinstance(bins := getattr(each, name, None), int))


def axes_to_cut(key: str, value: Tensor, axes: Axes, along: Along | None) -> tuple[int, ...]:
    """Return the axes that a box is drawn in, in order.

    Args:
        along: None means height and width of images and videos, time and frequency of
            spectrograms, and time of audio clips and series.

    Raises:
        ValueError: for an input without such axes, or one whose axis of time is not known.
    """
    if along is None:
        return axes.pair or axes.space or (axes.time or 1,)
    if along == "both" and axes.pair:
        return axes.pair
    if axes.pair and axes.time is None:
        raise ValueError(
            f"cut_along={along!r}: nothing tells which axis of {key} {list(value.shape)} is time: set time_axis to "
            f"{axes.pair[0]} or {axes.pair[1]}, or give an attention_mask [B, T]"
        )
    time = () if axes.time is None else (axes.time,)
    wanted = {"time": (time,), "space": (axes.space,), "both": (time, axes.space)}[along]
    if not all(wanted):
        lacks = "time" if not time else "space or frequency"
        raise ValueError(f"cut_along={along!r}: {key} {list(value.shape)} has no axis of {lacks}: leave it unset")
    return tuple(sorted(axis for part in wanted for axis in part))


def refuse_different_sizes(sizes: Mapping[str, list[int]]) -> None:
    """Refuse inputs of different sizes, since one box must fit all of them.

    Raises:
        ValueError: naming two of them.
    """
    first, size = next(iter(sizes.items()))
    for key, other in sizes.items():
        if other != size:
            raise ValueError(
                f"{first} and {key} would be cut along axes of sizes {size} and {other}, and one box fits only one of "
                f"them: name in `keys` what is to be cut, e.g. keys=[{first!r}]"
            )


def visible_mask(batch: Mapping[str, Any], values: Tensor, time: int | None = None) -> Tensor | None:
    """Return the mask of a float input, False for padding, in a shape that multiplies it; None without a mask.

    Masks of audio clips and series are [B, T], for values [B, T], [B, T, F] or [B, F, T]; masks of images are
    [B, H, W]; masks of the observed values of a series have its own shape.

    Args:
        time: axis of time of the values, if known.

    >>> visible_mask({"attention_mask": Tensor([[1, 0]])}, Tensor(1, 5, 2)).shape
    torch.Size([1, 1, 2])
    """
    own, mask = own_mask(batch, values), next((batch[key] for key in HEARD if batch.get(key) is not None), None)
    if own is not None:
        return own[1].bool()[:, None] if own[0] == PIXELS else _expand_mask(own[1], values, 1)
    if not isinstance(mask, Tensor) or mask.dim() != 2 or IDS in batch or (time is None and values.dim() > 3):
        return None
    for axis in (1, values.dim() - 1) if time is None else (time,):
        if values.shape[axis] == mask.shape[1]:
            return _expand_mask(mask, values, axis)
    return None


def own_mask(batch: Mapping[str, Any], values: Tensor) -> tuple[str, Tensor] | None:
    """Return name and mask of an input with a mask of its own shape, such as images and observed series."""
    pixels = batch.get(PIXELS)
    if isinstance(pixels, Tensor) and values.dim() == 4 and pixels.shape[1:] == values.shape[2:]:
        return PIXELS, pixels
    for key in OBSERVED:
        observed = batch.get(key)
        if isinstance(observed, Tensor) and observed.shape == values.shape[: observed.dim()]:
            return key, observed
    return None


def _expand_mask(mask: Tensor, values: Tensor, axis: int) -> Tensor:
    shape = [len(mask), *(1,) * (values.dim() - 1)]
    shape[axis : axis + mask.dim() - 1] = mask.shape[1:]
    return mask.bool().reshape(shape)
