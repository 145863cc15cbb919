"""Mix batches of which one process has something that the other has not seen, where each pass needs both (FSDP2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import hf_mixup.methods.base
from hf_mixup import Mixup
from hf_mixup.engine.all_gather import process_index, world_size
from hf_mixup.engine.refusals import Refusal
from hf_mixup.functional import pair
from tests import heads, streams
from tests.conftest import batch_of, build
from tests.engine.test_refusals import BATCH, Counts

Batch = dict[str, Any]
STEPS = 3


def texts(process: int, step: int, rows: int = 4, **settings: Any) -> Batch:
    return batch_of("bert", rows, seed=2 * step + process, **settings)


def another_entry(process: int, step: int) -> Batch:
    """In the second step one has token types."""
    types = torch.arange(40).reshape(4, 10) % 2
    return {**texts(process, step), **({"token_type_ids": types} if process == step == 1 else {})}


def longer_texts(process: int, step: int) -> Batch:
    """From the second step on one has texts that are long enough to try how samples of different length are mixed."""
    length = 10 if process == 1 and step else 3
    return {key: value[:, :length] if value.dim() == 2 else value for key, value in texts(process, step).items()}


def one_sample(process: int, step: int) -> Batch:
    return texts(process, step, 1 if process == 1 and step == 2 else 4, lengths=True)


def one_image(process: int, step: int) -> Batch:
    return batch_of("vit", 1 if process == 1 and step == 2 else 4, seed=2 * step + process)


def hidden_label(process: int, step: int) -> Batch:
    """Answers, which no name tells from inputs: all alike in one."""
    return {**heads.lxmert_pretraining()[1], "ans": torch.tensor([1, 2, 3, 3] if process else [1, 1, 1, 1])}


def nothing(process: int, step: int) -> Batch:
    return (
        texts(process, step)
        if process == 0 or step == 0
        else {key: value[:0] for key, value in texts(process, step).items()}
    )


def packed(process: int, step: int) -> Batch:
    """In the second step one has packed sequences, which are refused."""
    batch = texts(process, step)
    if process == step == 1:
        del batch["attention_mask"]
        batch["position_ids"] = torch.arange(10).remainder(5).expand(4, 10)
    return batch


def numbers(process: int, step: int) -> Batch:
    return {key: value.roll(process, 0) for key, value in BATCH.items()}


def lxmert() -> nn.Module:
    return streams.without_dropout(heads.lxmert_pretraining()[0])


BERT, LOOKING = partial(build, "bert"), partial(build, "vit", attn_implementation="eager")
# By this seed one process looks at its images in the third step, and the other has none to mix.
COINS = {"prob": 0.5, "prob_per": "sample", "draw_seed": 8}
MIXED: dict[str, tuple[Callable[[], nn.Module], Callable[[int, int], Batch], dict[str, Any]]] = {
    "another entry": (BERT, another_entry, {"method": "embedding"}),
    "longer texts": (BERT, longer_texts, {"method": "embedding"}),
    "a hidden label": (lxmert, hidden_label, {"method": "mixup", "loss": "own"}),
    "one sample": (BERT, one_sample, {"method": "manifold", "loss": "own"}),
    "one image": (LOOKING, one_image, {"method": "puzzlemix"}),
    **{f"coins, {name}": (LOOKING, one_image, {"method": name, **COINS}) for name in ("attentive", "adversarial")},
}
REFUSED = {
    "no samples": (BERT, nothing, {"method": "manifold"}),
    "packed": (BERT, packed, {"method": "embedding"}),
    "another place": (partial(Counts, 2e-4), numbers, {"method": "manifold", "layers": [1]}),
}


def firsts(folder: str, name: str, process: int = 0) -> list[list[float | str]]:
    """Return the losses of three batches, or an error, of each process; alone, what a process of two should have."""
    make, batch, settings = (MIXED | REFUSED)[name]
    torch.manual_seed(0)
    model, mixup = make().train(), Mixup(settings)
    if world_size() > 1:
        spread(model)
    found: list[float | str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hf_mixup.methods.base, "pair", pair)  # that of the other cases knows no sample alone
        for step in range(STEPS):
            torch.manual_seed(step)
            given = batch(process_index() if world_size() > 1 else process, step)
            try:
                found.append(trained(mixup, model, given))
            except (ValueError, Refusal) as error:
                found.append(str(error))
                break
    if world_size() == 1:
        return [found]
    every: list[Any] = [None] * world_size()
    dist.all_gather_object(every, found)
    return every


def spread(model: nn.Module) -> None:
    """Leave a part of each weight in each process."""
    mesh = init_device_mesh("cpu", (world_size(),))
    for block in chain.from_iterable(each for each in model.modules() if isinstance(each, nn.ModuleList)):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def trained(mixup: Mixup, model: nn.Module, batch: Batch) -> float:
    """Return the loss of a batch, whose gradients are thrown away."""
    with mixup(model, batch) as mixed:
        loss = mixed.loss(mixed.forward(model))
    loss.backward()
    model.zero_grad()
    return float(loss.detach())
