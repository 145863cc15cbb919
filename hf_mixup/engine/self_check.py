"""Trying, once, whether a model's loss is the one that is mixed, and whether a dual encoder mixes its pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.models.batches import select_samples
from hf_mixup.models.dual_encoder import DualEncoder, dual_encoder_of, embeds_of, pair_logits_of
from hf_mixup.models.exchange import TOLERANCE, WHOLE, in_low_precision, relative_error
from hf_mixup.models.hooks import hooks_of
from hf_mixup.models.inputs import model_inputs
from hf_mixup.models.labels import LABELS, OWN_WAY, SHIFTS_LABELS, TRAILING, Labels, predicts_next, read_labels
from hf_mixup.models.losses import auxiliary_loss, loss_items, mixed_loss_sum
from hf_mixup.models.outputs import logits_of, loss_of
from hf_mixup.models.probe import eval_without_side_effects, two_samples
from hf_mixup.models.ragged import layouts
from hf_mixup.models.segmentation import capture_auxiliary_logits, scored_parts
from hf_mixup.models.transcripts import MixedCTC

if TYPE_CHECKING:
    from hf_mixup.methods._pairs import PairMethod


def check_loss_once(model: nn.Module, batch: Mapping[str, Any]) -> None:
    """Hold the loss that is going to be mixed against the model's own, on two rows, at the first batch of a kind.

    A model without a loss of its own, or one that does not take these labels, is passed over.

    Raises:
        RuntimeError: if they differ: the model adds or weighs something that mixing would leave out, or its labels are
            scored in other places than one for each label.
    """
    if loss_is_checked(model, batch):
        return
    read_labels(model, batch)  # what it refuses, it is to refuse in the batch's own numbers
    rows = two_samples(batch, model)
    with eval_without_side_effects(model):
        try:
            capture_auxiliary_logits(model)
            with keeping_problem_type(model):
                outputs = model(**rows)
            own = outputs["loss"] if isinstance(outputs, Mapping) else loss_of(outputs)
        except Exception:  # noqa: BLE001 - whatever a head without such a loss raises; the mixed loss will tell
            own = None
        if isinstance(own, Tensor):
            _compare_loss(model, rows, outputs, own)
    hooks_of(model).checked.add(_loss_key(batch))


@contextmanager
def keeping_problem_type(model: nn.Module) -> Iterator[None]:
    """Leave the problem type of a model's configuration as it is, which transformers writes when it reads labels."""
    config = getattr(model, "config", None)
    declared = getattr(config, "problem_type", None)
    try:
        yield
    finally:
        if config is not None and hasattr(config, "problem_type"):
            config.problem_type = declared


def equals_mixed_loss(model: nn.Module, rows: Mapping[str, Any], outputs: Any, own: Tensor) -> bool:
    """Whether a model's own loss of some samples is the one that is mixed."""
    try:
        scored = _without_labels(model, rows, outputs, read_labels(model, rows))
        return same_loss(model, own, _mean_loss(model, rows, scored))
    except (ValueError, IndexError, RuntimeError, TypeError):
        return False


def _without_labels(model: nn.Module, rows: Mapping[str, Any], outputs: Any, labels: Labels) -> Any:
    """Return outputs of which logits are read as in training, where labels are withheld.

    Those of an encoder-decoder, whose own inputs follow from the labels, and of a model that returns no mapping: with
    labels its loss stands where the logits are else.
    """
    generates = labels.vocabulary and getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    if generates or not isinstance(outputs, Mapping):
        return model(**model_inputs(model, rows, labels))
    return outputs


def loss_is_checked(model: nn.Module, batch: Mapping[str, Any]) -> bool:
    """Whether `check_loss_once` has passed this model, for batches of these entries."""
    return _loss_key(batch) in hooks_of(model).checked


def _loss_key(batch: Mapping[str, Any]) -> tuple[str, frozenset[str]]:
    return "loss", frozenset(key for key, value in batch.items() if value is not None)


def _compare_loss(model: nn.Module, rows: Mapping[str, Any], outputs: Any, own: Tensor) -> None:
    """Compare a model's own loss on two rows with ours; learn on the way which places a language model scores."""
    labels = read_labels(model, rows)
    if labels.kind == "transcription":
        return _compare_transcripts(model, rows, own)
    try:
        outputs = _without_labels(model, rows, outputs, labels)
        if labels.vocabulary:
            _learn_places(model, rows, outputs, own)
        ours = _mean_loss(model, rows, outputs)
    except (ValueError, IndexError, RuntimeError, TypeError) as error:
        _forget_places(model)
        raise RuntimeError(
            f"{type(model).__name__} has a loss for these labels, but not the one that is mixed: {error}. {OWN_WAY}"
        ) from error
    if not same_loss(model, own, ours):
        _forget_places(model)
        weighed = "Use class_weights or label_smoothing of MixupConfig for these, or set"
        raise RuntimeError(
            f"the loss of {type(model).__name__} on two rows is {float(own.mean()):.4g}, where the mean cross-entropy "
            f"(or squared error) is {float(ours):.4g}: mixing would leave out what it adds or weighs. {OWN_WAY}. "
            f"{weighed if labels.kind == 'single_label_classification' else 'Or set'} self_check=False to train on the "
            "mixed loss all the same"
        )


def _compare_transcripts(model: nn.Module, rows: Mapping[str, Any], own: Tensor) -> None:
    """Compare a model's own CTC loss on two rows with the mixed one where each row is all itself."""
    whole = torch.arange(2, device=own.device), torch.ones(2, device=own.device)
    with MixedCTC([whole]) as ctc:
        ours = model(**rows)["loss"]
    if ctc.calls != 1 or ctc.reduction == "none" or not same_loss(model, own, ours):
        raise RuntimeError(
            f"{type(model).__name__} learns transcripts by a loss that is not one torch.nn.functional.ctc_loss with "
            f"the mean or sum over samples (it called {ctc.calls} of reduction {ctc.reduction!r}; its loss is "
            f"{float(own.mean()):.4g}, and {float(ours.mean()):.4g} where that is put together of the samples): it "
            "cannot be mixed. Train it without mixing (prob=0)"
        )


def _learn_places(model: nn.Module, rows: Mapping[str, Any], outputs: Any, own: Tensor) -> None:
    """Learn whether a language model moves its labels, and which of more scores than labels belong to these.

    Of all ways the one whose loss is nearest to the model's own is kept: the usual one, if no other is nearer.
    """
    usual, more = predicts_next(model), logits_of(outputs).shape[1] > rows[LABELS].shape[-1]
    ways = [(moves, trailing) for moves in (usual, not usual) for trailing in ((0, 1, -1) if more else (None,))]

    def far(way: tuple[bool, int | None]) -> float:
        _keep(model, *way)
        found = float((own.mean() - _mean_loss(model, rows, outputs)).abs())
        return round(found, 5) if found == found else 0.0  # no number where no label counts

    _keep(model, *min(ways, key=far))


def _keep(model: nn.Module, moves: bool | None, trailing: int | None) -> None:
    SHIFTS_LABELS.pop(model, None)
    TRAILING.pop(model, None)
    if moves is not None:
        SHIFTS_LABELS[model] = moves
    if trailing is not None:
        TRAILING[model] = trailing


def _forget_places(model: nn.Module) -> None:
    _keep(model, None, None)


def _mean_loss(model: nn.Module, rows: Mapping[str, Any], outputs: Any) -> Tensor:
    labels = read_labels(model, rows)
    ones, total = torch.ones(len(labels.values), device=labels.values.device), torch.zeros(())
    for logits, share in scored_parts(model, outputs, labels):
        total = total.to(logits.device) + share * mixed_loss_sum(
            logits, labels.values, labels.values, ones, labels.kind
        )
    return total / loss_items(labels.values, labels.kind) + auxiliary_loss(model, outputs)


def same_loss(model: nn.Module, own: Tensor, ours: Tensor) -> bool:
    """Whether two losses are one but for rounding; without any label both are no number.

    Before training nearly every loss is the logarithm of the number of classes, so that nothing wider would tell.
    """
    if own.numel() != 1:
        return False
    if not bool(torch.isfinite(own).all()) or not bool(torch.isfinite(ours)):
        return bool(own.isnan().all() and ours.isnan())
    rounding = (1e-3 if in_low_precision(model) else 1e-4) if own.dtype in WHOLE else 0.02
    return abs(float(own) - float(ours)) <= rounding * abs(float(ours)) + 1e-4


def probe_dual_encoder(model: nn.Module, inputs: Mapping[str, Any]) -> tuple[DualEncoder, Mapping[str, Any]]:
    """Find the towers of a dual encoder; return them and what it makes of two rows of the batch.

    Raises:
        ValueError: if its joint embeddings cannot be found.
    """
    rows = uneven_pairs(model, inputs)
    with eval_without_side_effects(model):
        return dual_encoder_of(model, rows), model(**rows)


def check_pairs_once(model: nn.Module, method: PairMethod, inputs: Mapping[str, Any]) -> None:
    """Try a method on two pairs of the batch at its first use in a dual encoder.

    With lam = 1 both embeddings must stay, with lam = 0 those of the mixed sides must be the partner's. The two rows
    are those with the longest and the shortest caption.

    Raises:
        RuntimeError: if they are not: a part of the tower reads the row's own ids or length.
    """
    checked = hooks_of(model).checked
    key = (method.name, (method.image_mix, method.text_mix, getattr(method, "side", None)), frozenset(inputs))
    if key in checked:
        return
    rows = uneven_pairs(model, inputs)
    with eval_without_side_effects(model):
        dual_encoder_of(model, rows)
        plain = model(**rows)
        for lam in (1.0, 0.0):
            _check_pair_end(model, method, rows, plain, lam)
    if not torch.equal(*rows["input_ids"]):  # else one pair was doubled, which proves nothing
        checked.add(key)


def _check_pair_end(
    model: nn.Module, method: PairMethod, rows: dict[str, Any], plain: Mapping[str, Any], lam: float
) -> None:
    draw = method.draw_end(model, rows, lam).to(rows["input_ids"].device)
    where = f"{type(model).__name__}, {method.name!r} with image_mix={method.image_mix!r}, text_mix={method.text_mix!r}"
    try:
        mixed = model(**method.apply(model, rows, draw, inplace=False))
    except (TypeError, IndexError, RuntimeError) as error:
        raise RuntimeError(f"{where}: its encoders do not take that: {error}. Use text_mix='late'") from error
    hooks_of(model).forget()
    image, text = (side and lam == 0 for side in (method.mixes_image, method.mixes_text))
    way = "latent" if method.image_mix == "blend" and method.text_mix == "late" else "blend"
    for name, found, expected in _exchanged(mixed, plain, image, text):
        far = relative_error(model, found, expected, expected)
        if not far < TOLERANCE:
            raise RuntimeError(
                f"{where}: {name} are not mixed rightly: at lam = {lam:g} what it makes of them is off by {far:.0%} "
                f"of the rows' difference. Use text_mix='late' and image_mix={way!r}"
            )


def _exchanged(
    mixed: Mapping[str, Any], plain: Mapping[str, Any], image: bool, text: bool
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield what was found and what is expected of two rows whose images, captions or both were exchanged."""
    if embeds_of(plain)[1].dim() == 2:
        for name, found, own, swapped in zip(("images", "captions"), embeds_of(mixed), embeds_of(plain), (image, text)):
            found, own = (F.normalize(each.double(), dim=-1, eps=1e-100) for each in (found, own))
            yield name, found, own[[1, 0]] if swapped else own
        return
    # A text whose embedding depends on the image: only the similarities can be compared.
    found, own = (pair_logits_of(each)[0].double() for each in (mixed, plain))
    own = own[[1, 0]] if image else own
    yield "pairs", found, own[:, [1, 0]] if text else own


def uneven_pairs(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pairs with the longest and with the shortest caption, of those whose images have the commonest size.

    A pair alone is doubled.
    """
    groups = layouts(model, inputs, tokens=False)
    if groups is not None:
        inputs = select_samples(inputs, (groups == groups.mode().values).nonzero()[:, 0], len(groups))
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    # Without a mask, a caption that ends early repeats its last token.
    lengths = mask.sum(-1) if mask is not None else (ids != ids[:, -1:]).sum(-1)
    pick = torch.stack([lengths.argmax(), lengths.argmin()])
    if len(ids) > 1 and pick[0] == pick[1]:
        pick = torch.tensor([0, 1], device=ids.device)
    return {k: v[pick] if isinstance(v, Tensor) and v.dim() and len(v) == len(ids) else v for k, v in inputs.items()}
