"""Between-class learning: audio clips mixed by how loud they are heard."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hf_mixup.functional.loudness import heard_weights, loudness
from hf_mixup.methods.base import Batch, Blend, Draw, FloatInputs, setting
from hf_mixup.methods.capabilities import MixesTranscripts, NeedsSamplingRate
from hf_mixup.methods.registry import register
from hf_mixup.models.axes import visible_mask
from hf_mixup.models.inputs import float_keys
from hf_mixup.models.masks import united_mask


@register
class BetweenClassMixup(Blend, FloatInputs, MixesTranscripts, NeedsSamplingRate):
    """Mix two waveforms so that each is heard by its share, however loud they were recorded.

    The factors follow the A-weighted loudness of both audio clips, and the sum is scaled to the energy of one: lam is
    the share that is heard, not that of the samples. At both ends the audio clips are exact. Masks are united where
    both audio clips have a share, and padding is not listened to. For waveforms `[B, T]` at `sampling_rate` samples a
    second, before they are made spectrograms.

    Source: Tokozume et al. 2018, "Learning from Between-class Examples for Deep Audio Recognition", arXiv 1711.10282.

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("audio-classification", "wav2vec2")
    >>> with Mixup({"method": "between_class", "sampling_rate": 16000})(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> mixed.inputs["input_values"].shape
    torch.Size([4, 800])
    """

    name = "between_class"
    title = "Between-class mixing of audio clips"
    blends = "waveforms `[B, T]` (`input_values`), by loudness"
    modalities = ("audio",)
    paper = "arXiv:1711.10282"
    begin_with = "alpha=1.0"
    citation = (
        "@inproceedings{tokozume2018learning, title={Learning from Between-class Examples for Deep Audio Recognition}, "
        "author={Tokozume, Yuji and Ushiku, Yoshitaka and Harada, Tatsuya}, booktitle={ICLR}, year={2018}}"
    )

    sampling_rate: int = setting(16000, "Samples a second of the waveforms.", at_least=1, at_most=999_999)

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        mixed = {**batch, **united_mask(batch, draw.partner, draw.lam)}
        for key in float_keys(batch, len(draw.partner), self.name, self.keys, dims=2):
            waveforms: Tensor = batch[key]
            seen = visible_mask(batch, waveforms)
            heard = waveforms.detach() if seen is None else waveforms.detach().masked_fill(~seen, 0)
            levels = loudness(heard, self.sampling_rate)
            own, other = heard_weights(levels, draw.partner, draw.lam)
            mixed[key] = (own[:, None] * waveforms + other[:, None] * waveforms[draw.partner]).to(waveforms.dtype)
        return mixed
