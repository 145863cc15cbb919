"""Trying, once, whether a model really mixes rows where a method enters it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hf_mixup.sites.hooks import sites_of

if TYPE_CHECKING:
    from hf_mixup.methods.base import Method

TOLERANCE = 0.02  # of the difference between the two rows' outputs; a site that does nothing scores 1


def check_exchange_once(model: nn.Module, method: Method, inputs: dict[str, Any], layer: int | None) -> None:
    """Run `check_exchange` at the first use of a method (and depth) in a model.

    Raises:
        RuntimeError: as `check_exchange`.
    """
    checked = sites_of(model).checked
    if (method.name, layer) not in checked:
        check_exchange(model, method, inputs, layer)
        checked.add((method.name, layer))


@torch.no_grad()
def check_exchange(model: nn.Module, method: Method, inputs: dict[str, Any], layer: int | None) -> None:
    """Exchange two rows through the model's blending site and compare: lam = 0 must give the partner's outputs.

    Costs two forward passes over two rows, in evaluation mode; the random state and every module's mode stay as they
    were.

    Raises:
        RuntimeError: if the outputs are not those of the exchanged rows: something that reads the row's own ids or mask
            (positions, a pooled last token) stayed behind.
    """
    rows = _two_rows(inputs, method.name == "embedding", model)
    training = {module: module.training for module in model.modules()}
    devices = [p.device for p in model.parameters() if p.device.type == "cuda"][:1]
    model.eval()
    try:
        # The uncompiled forward: two rows are another shape, which would cost a compilation.
        with torch.random.fork_rng(devices), torch.compiler.set_stance("force_eager"):
            error = _exchange_error(model, method, rows, layer)
    finally:
        sites_of(model).disarm()
        for module, mode in training.items():
            module.training = mode
    if not error < TOLERANCE:
        other = "manifold" if method.name == "embedding" else "embedding"
        raise RuntimeError(
            f"{type(model).__name__} does not mix rightly with method {method.name!r}: with lam = 0 its outputs miss "
            f"the partner's by {error:.0%} of the rows' difference. Some part of it reads the row's own ids or "
            f"lengths. Use another method, e.g. {other!r}"
        )


def _exchange_error(model: nn.Module, method: Method, rows: dict[str, Any], layer: int | None) -> float:
    """Return how far the exchanged rows miss, as a share of the difference between the rows, in [0, ...)."""
    from hf_mixup.engine import logits_of
    from hf_mixup.methods.base import Params

    plain = logits_of(model(**rows)).double()
    params = Params(method.name, torch.tensor([1, 0]), torch.zeros(2), layer=layer).to(plain.device)
    found = logits_of(model(**method.apply(model, rows, params, inplace=False))).double()
    missed = (found - plain[[1, 0]]).abs().max()
    # Rounding alone must not refuse a model whose two rows happen to score alike.
    low = hasattr(model, "_original_forward") or next(model.parameters()).dtype not in (torch.float32, torch.float64)
    rounding = plain.abs().max() * (0.05 if low else 1e-5)
    difference = (plain[0] - plain[1]).abs().max()
    return float((missed - rounding).clamp(min=0) / difference.clamp(min=1e-12))


def _two_rows(inputs: dict[str, Any], ragged: bool, model: nn.Module) -> dict[str, Any]:
    """Return two rows of the batch, all tokens visible; a batch of one row is doubled, and text made to differ.

    With `ragged` the second row is cut to half its length, since that is where ids read elsewhere show.
    """
    count = len(next(v for v in inputs.values() if isinstance(v, Tensor)))
    pick = [0, min(1, count - 1)]
    rows = {k: v[pick] if isinstance(v, Tensor) and v.dim() and len(v) == count else v for k, v in inputs.items()}
    ids, mask = rows.get("input_ids"), rows.get("attention_mask")
    if ids is None or mask is None or mask.dim() != 2:
        return rows
    pad = getattr(getattr(model, "config", None), "pad_token_id", None) or 0
    ids = torch.where(ids == pad, pad + 1, ids)
    if torch.equal(ids[0], ids[1]):
        ids[1] = ids[1].flip(0)
    mask = torch.ones_like(mask)
    if ragged and ids.shape[1] > 1:
        half = (ids.shape[1] + 1) // 2
        ids[1, half:], mask[1, half:] = pad, 0
    return {**rows, "input_ids": ids, "attention_mask": mask}
