"""A batch of pairs in the memory of a chunk: gradients of the embeddings first, then those of the weights.

Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", arXiv 2101.06983,
section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import get_device_states, set_device_states

from hf_mixup.engine.similarity_head import Head
from hf_mixup.methods.base import Draw
from hf_mixup.models.caption_tokens import SampleHook
from hf_mixup.models.dual_encoder import dual_encoder_of
from hf_mixup.models.hooks import MixHook, Mixing, hooks_of


class CachedPass:
    """The forward pass of a mixed batch without a graph, and a backward pass that repeats it chunk by chunk.

    Create it while the batch's hooks are active. Embeddings are mixed here, over the whole batch, and no longer in the
    model; what else is drawn (dropout) is the same both times.

    Args:
        inner: the model itself.
        model: the same, or its wrapper (DDP).
        inputs: of the whole batch; on the device.
        size: rows a chunk.

    Raises:
        ValueError: for a model with batch normalisation in training, whose rows are not independent, or in DeepSpeed.
    """

    def __init__(
        self, inner: nn.Module, model: nn.Module, inputs: dict[str, Any], draw: Draw, size: int, head: Head
    ) -> None:
        refuse_deepspeed(model)
        _refuse_batch_norm(inner)
        self._model, self._inputs, self._params, self._head = model, inputs, draw, head
        rows, self._size = len(draw.partner), size
        self._chunks = [slice(start, min(start + size, rows)) for start in range(0, rows, size)]
        towers, hooks = dual_encoder_of(inner), hooks_of(inner)
        self._captures: tuple[MixHook, MixHook] = (hooks.after(towers.image), hooks.after(towers.text))
        self._sample_hooks = [each for each in hooks.active if isinstance(each, SampleHook)]
        late: list[Mixing | None] = [capture.mixing if capture.on else None for capture in self._captures]
        self._autocast = _autocast_now(draw.partner.device.type)
        self._random: list[_RandomState] = []
        with torch.no_grad():
            parts = []
            for chunk in self._chunks:
                self._random.append(_RandomState(draw.partner))
                parts.append(self._encode(chunk))
        self._leaves = [torch.cat(side).requires_grad_() for side in zip(*parts)]
        self._embeds = [self._mixed(leaf, mixing) for leaf, mixing in zip(self._leaves, late)]
        self._ends = [each.detach().requires_grad_() for each in self._embeds]
        self.outputs = dict(zip(("image_embeds", "text_embeds"), self._ends))

    def _mixed(self, embeds: Tensor, mixing: Mixing | None) -> Tensor:
        if mixing is not None:
            embeds = mixing(embeds, self._params.partner, self._params.lam)
        return F.normalize(embeds.flatten(1), dim=-1, eps=torch.finfo(embeds.dtype).tiny)

    def deferred(self, rows: Tensor, mean_loss: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the mean loss of the rows as a number whose backward pass reaches the weights, chunk by chunk.

        The similarities, too, are computed for a chunk of rows at a time.

        Args:
            rows: long [n], what `mean_loss` is given parts of.
            mean_loss: gives the mean loss of some rows, from `outputs`.
        """
        learnt = [parameter for parameter in self._head.parameters if parameter.requires_grad]
        wanted = [*self._ends, *learnt]
        sums = [torch.zeros_like(each) for each in wanted]
        total = torch.zeros((), device=rows.device)
        for part in rows.split(self._size):
            loss = mean_loss(part) * (len(part) / len(rows))
            total += loss.detach()
            if loss.requires_grad:
                for sum_, grad in zip(sums, torch.autograd.grad(loss, wanted, allow_unused=True)):
                    sum_ += 0 if grad is None else grad
        if not torch.is_grad_enabled():
            return total
        cached = torch.autograd.grad(self._embeds, self._leaves, sums[: len(self._ends)])
        head = list(zip(learnt, sums[len(self._ends) :]))
        total.requires_grad_()
        total.register_hook(lambda scale: self._backward(scale, cached, head))
        return total

    @torch.enable_grad()
    def _backward(self, scale: Tensor, cached: tuple[Tensor, ...], head: Sequence[tuple[Tensor, Tensor]]) -> None:
        for number, chunk in enumerate(self._chunks):
            last = number == len(self._chunks) - 1
            with self._without_sync(last), self._random[number].restored(), self._autocast():
                embeds = self._encode(chunk)
                terms = [(z * grad[chunk].detach()).sum() for z, grad in zip(embeds, cached) if z.requires_grad]
                if last:  # each weight is to be seen in a pass that synchronises
                    terms += [(p * grad).sum() for p, grad in head]
                total = sum(terms)
            if isinstance(total, Tensor):
                (total * scale).backward()

    def _without_sync(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last or not isinstance(self._model, DistributedDataParallel) else self._model.no_sync()

    def _encode(self, chunk: slice) -> tuple[Tensor, ...]:
        """Return the embeddings of a chunk before they are mixed and normalised."""
        found: dict[int, Tensor] = {}
        count = chunk.stop - chunk.start
        own = self._params.partner[:count]  # never used; says how many rows there are

        def keep(hook: MixHook) -> Mixing:
            def note(states: Tensor, partner: Tensor | None, weight: Tensor | None) -> Tensor:
                found[id(hook)] = states
                return states

            return note

        for capture in self._captures:
            capture.activate(own, self._params.lam[:count], keep(capture))
        for sample_hook in self._sample_hooks:
            sample_hook.narrow(chunk)
        try:
            self._model(**{key: _rows(value, chunk, len(self._params.partner)) for key, value in self._inputs.items()})
        finally:
            for each in (*self._captures, *self._sample_hooks):
                each.on = False
        return tuple(found[id(hook)] for hook in self._captures)


class _RandomState:
    """The random state before a chunk's first pass, to repeat it."""

    def __init__(self, where: Tensor) -> None:
        self._cpu = torch.get_rng_state()
        self._devices, self._states = get_device_states(where)

    @contextmanager
    def restored(self) -> Iterator[None]:
        with torch.random.fork_rng(self._devices):
            torch.set_rng_state(self._cpu)
            set_device_states(self._devices, self._states)
            yield


def _rows(value: Any, chunk: slice, rows: int) -> Any:
    return value[chunk] if isinstance(value, Tensor) and value.dim() and len(value) == rows else value


def _autocast_now(device_type: str) -> Any:
    """Return a maker of the autocast context that holds now; the backward pass runs outside of it."""
    enabled, dtype = torch.is_autocast_enabled(device_type), torch.get_autocast_dtype(device_type)
    return lambda: torch.autocast(device_type, dtype=dtype, enabled=enabled)


def refuse_deepspeed(model: nn.Module, enabled: bool = False) -> None:
    """Refuse DeepSpeed, whose engine wants the only backward pass of a step.

    Args:
        model: as it is run, with its wrapper.
        enabled: whether the model is going to be wrapped.

    Raises:
        ValueError: naming the ways out.
    """
    if enabled or any(base.__name__ == "DeepSpeedEngine" for base in type(model).__mro__):
        raise ValueError(
            "chunk_size repeats the forward pass inside the backward pass, which DeepSpeed does not allow: train with "
            "DDP, or leave chunk_size out"
        )


def _refuse_batch_norm(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise ValueError(
                f"chunk_size: {type(model).__name__} normalises over the batch ({name}), so that chunks are not the "
                "batch: put that encoder into evaluation mode and freeze it, or leave chunk_size out"
            )
