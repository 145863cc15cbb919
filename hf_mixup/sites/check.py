"""Trying, once, whether a model really mixes rows where a method enters it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.sites.hooks import sites_of
from hf_mixup.sites.towers import Towers, embeds_of, pair_logits_of, towers_of

if TYPE_CHECKING:
    from hf_mixup.methods.base import Method
    from hf_mixup.methods.pairs import PairMethod

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


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Run the model in evaluation mode, without a graph; modes and random state are as they were afterwards."""
    training = {module: module.training for module in model.modules()}
    devices = [p.device for p in model.parameters() if p.device.type == "cuda"][:1]
    model.eval()
    try:
        # The uncompiled forward: two rows are another shape, which would cost a compilation.
        with torch.no_grad(), torch.random.fork_rng(devices), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        sites_of(model).forget()
        for module, mode in training.items():
            module.training = mode


def check_exchange(model: nn.Module, method: Method, inputs: dict[str, Any], layer: int | None) -> None:
    """Exchange two rows through the model's blending site and compare: lam = 0 must give the partner's outputs.

    Costs two forward passes over two rows, in evaluation mode; the random state and every module's mode stay as they
    were.

    Raises:
        RuntimeError: if the outputs are not those of the exchanged rows: something that reads the row's own ids or mask
            (positions, a pooled last token) stayed behind.
    """
    rows = _two_rows(inputs, method.name == "embedding", model)
    with undisturbed(model):
        error = _exchange_error(model, method, rows, layer)
    if not error < TOLERANCE:
        other = "manifold" if method.name == "embedding" else "embedding"
        raise RuntimeError(
            f"{type(model).__name__} does not mix rightly with method {method.name!r}: with lam = 0 its outputs miss "
            f"the partner's by {error:.0%} of the rows' difference. Some part of it reads the row's own ids or "
            f"lengths. Use another method, e.g. {other!r}"
        )


def _exchange_error(model: nn.Module, method: Method, rows: dict[str, Any], layer: int | None) -> float:
    """Return how far the exchanged rows miss, as a share of the difference between the rows, in [0, ...)."""
    from hf_mixup.batch import logits_of
    from hf_mixup.methods.base import Params

    plain = logits_of(model(**rows)).double()
    params = Params(method.name, torch.tensor([1, 0]), torch.zeros(2), layer=layer).to(plain.device)
    found = logits_of(model(**method.apply(model, rows, params, inplace=False))).double()
    return _missed(model, found, plain[[1, 0]])


def _missed(model: nn.Module, found: Tensor, expected: Tensor) -> float:
    """Return how far two rows are from the expected ones, as a share of the difference between those."""
    missed = (found - expected).abs().max()
    # Rounding alone must not refuse a model whose two rows happen to score alike.
    low = hasattr(model, "_original_forward") or next(model.parameters()).dtype not in (torch.float32, torch.float64)
    rounding = expected.abs().max() * (0.05 if low else 1e-5)
    difference = (expected[0] - expected[1]).abs().max()
    return float((missed - rounding).clamp(min=0) / difference.clamp(min=1e-12))


def look_at_towers(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[Towers, Mapping[str, Any]]:
    """Find the towers of a dual encoder; return them and what it makes of two rows of the batch.

    Raises:
        ValueError: if its joint embeddings cannot be found.
    """
    rows = _two_pairs(inputs)
    with undisturbed(model):
        return towers_of(model, rows), model(**rows)


def check_pairs_once(model: nn.Module, method: PairMethod, inputs: Mapping[str, Any]) -> None:
    """Try a method on two pairs of the batch at its first use in a dual encoder.

    With lam = 1 both embeddings must stay, with lam = 0 those of the mixed sides must be the partner's. The two rows
    are those with the longest and the shortest caption.

    Raises:
        RuntimeError: if they are not: a part of the tower reads the row's own ids or length.
    """
    checked = sites_of(model).checked
    key = (method.name, (method.image_mix, method.text_mix, method.config.side))
    if key in checked:
        return
    rows = _two_pairs(inputs)
    with undisturbed(model):
        towers_of(model, rows)
        plain = model(**rows)
        for lam in (1.0, 0.0):
            _check_pair_end(model, method, rows, plain, lam)
    if len(next(value for value in inputs.values() if isinstance(value, Tensor))) > 1:  # one row proves nothing
        checked.add(key)


def _check_pair_end(
    model: nn.Module, method: PairMethod, rows: dict[str, Any], plain: Mapping[str, Any], lam: float
) -> None:
    from hf_mixup.methods.base import Params

    device = rows["input_ids"].device
    boxes = torch.tensor([0, 0, 2**30, 2**30]) if lam == 0 else torch.zeros(4, dtype=torch.long)
    params = Params(method.name, torch.tensor([1, 0]), torch.full((2,), lam), boxes=boxes).to(device)
    where = f"{type(model).__name__}, {method.name!r} with image_mix={method.image_mix!r}, text_mix={method.text_mix!r}"
    try:
        mixed = model(**method.apply(model, rows, params, inplace=False))
    except (TypeError, IndexError, RuntimeError) as error:
        raise RuntimeError(f"{where}: its towers do not take that: {error}. Use text_mix='late'") from error
    sites_of(model).forget()
    image, text = (side and lam == 0 for side in (method.mixes_image, method.mixes_text))
    for name, found, expected in _exchanged(mixed, plain, image, text):
        missed = _missed(model, found, expected)
        if not missed < TOLERANCE:
            raise RuntimeError(
                f"{where}: {name} are not mixed rightly: at lam = {lam:g} what it makes of them is off by {missed:.0%} "
                "of the rows' difference. Use text_mix='late' and image_mix='blend'"
            )


def _exchanged(
    mixed: Mapping[str, Any], plain: Mapping[str, Any], image: bool, text: bool
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield what was found and what is expected of two rows whose pictures, captions or both were exchanged."""
    if embeds_of(plain)[1].dim() == 2:
        for name, found, own, swapped in zip(
            ("pictures", "captions"), embeds_of(mixed), embeds_of(plain), (image, text)
        ):
            found, own = (F.normalize(each.double(), dim=-1, eps=1e-100) for each in (found, own))
            yield name, found, own[[1, 0]] if swapped else own
        return
    # A text whose embedding depends on the picture: only the similarities can be compared.
    found, own = (pair_logits_of(each)[0].double() for each in (mixed, plain))
    own = own[[1, 0]] if image else own
    yield "pairs", found, own[:, [1, 0]] if text else own


def _two_pairs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pairs with the longest and with the shortest caption; a batch of one row is doubled."""
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    # Without a mask, a caption that ends early repeats its last token.
    lengths = mask.sum(-1) if mask is not None else (ids != ids[:, -1:]).sum(-1)
    pick = torch.stack([lengths.argmax(), lengths.argmin()])
    if len(ids) > 1 and pick[0] == pick[1]:
        pick = torch.tensor([0, 1], device=ids.device)
    return {k: v[pick] if isinstance(v, Tensor) and v.dim() and len(v) == len(ids) else v for k, v in inputs.items()}


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
