"""The labels of a batch as the loss reads them, and the dense targets of a mixed batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_mixup.functional import soft_targets
from hf_mixup.functional.blending import expand_like
from hf_mixup.functional.targets import in_range, weighted
from hf_mixup.models.adapters import base_model
from hf_mixup.models.label_checks import refuse_half_spans, refuse_no_class_numbers, refuse_other_count
from hf_mixup.models.sharded import whole_shape
from hf_mixup.models.transcripts import learns_transcripts
from hf_mixup.utils.constants import IGNORE_INDEX

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression", "transcription"]
Further = tuple[tuple[Tensor, Tensor], ...]
"""Labels of further partners, and the weight of each, float32 [B]."""
LABELS = "labels"
SPANS = ("start_positions", "end_positions")
LABEL_KEYS = (LABELS, *SPANS, "target_values")
OWN_WAY = "With loss='own' a model computes its loss itself, once with each label, by a second forward pass"
TAKES = {
    "single_label_classification": "class numbers, integers [B]",
    "multi_label_classification": "floats [B, C], one for each class",
    "regression": "floats [B] or [B, C]",
}
"""Labels of each problem type, in words."""
SHIFTS_LABELS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Whether a language model shifts its labels, as the self-check found."""
TRAILING: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""Of a language model that scores more places than labels: how many scores follow those of the labels, -1 for all."""


@dataclass(frozen=True)
class Labels:
    """The labels of a batch, each aligned with the logits that are scored against it.

    Args:
        values: integers [B]; [B, T] one a token or frame (for a model that predicts the next token, already moved to
            the position that predicts it); [B, 2] the ends of a span; [B, H, W] one a pixel; [B, U] transcripts; or
            floats [B], [B, 1] or [B, C].
        kind: the problem type as transformers names it. Tokens and spans are single-label problems with one label for
            each position, -100 where there is none; transcripts belong to no position.
        classes: number of classes, None if only the logits tell.
        vocabulary: whether the classes are the tokens of a language model.
        pixels: whether there is a label for each pixel. What the model ignores is -100 here.
    """

    values: Tensor
    kind: ProblemType
    classes: int | None
    vocabulary: bool = False
    pixels: bool = False


def read_labels(model: nn.Module, batch: Mapping[str, Any]) -> Labels:
    """Read the labels of a batch as the model's own loss would.

    Raises:
        ValueError: if there are none, or their shape fits no head that can be mixed.

    >>> read_labels(nn.Linear(2, 3), {"labels": torch.tensor([0, 2])}).kind
    'single_label_classification'
    """
    _refuse_margins(model)
    values, spans = _values(model, batch)
    if learns_transcripts(model):
        return _transcripts(model, values)
    if spans:
        refuse_no_class_numbers(values)
        return Labels(values, "single_label_classification", None)
    config: Any = getattr(model, "config", None)
    if values.dim() == 3 and classifies_frames(model):
        return Labels(values.argmax(-1), "single_label_classification", config.num_labels)
    if values.dim() == 3 and segments(model):
        return Labels(pixel_labels(values, config), "single_label_classification", config.num_labels, pixels=True)
    series = LABELS not in batch and values.is_floating_point()
    kind: ProblemType = "single_label_classification"
    if series or not _one_a_token(model, values):
        values = values[:, 0] if values.shape[1:] == (1,) and not values.is_floating_point() else values
        kind = "regression" if series else problem_type(config, values)
    if kind == "single_label_classification":
        refuse_no_class_numbers(values)
        if values.dim() == 1 and vocabulary_of(model) is not None and predicts_next(model):
            raise ValueError(
                f"labels of shape {list(values.shape)}, where {type(model).__name__} learns the next tokens: expected "
                f"integers [B, T], one for each token, and {IGNORE_INDEX} for those that do not count"
            )
    if kind != "single_label_classification" or values.dim() == 1:
        ids = batch.get("input_ids")
        choices = ids.shape[1] if isinstance(ids, Tensor) and ids.dim() == 3 else None  # [B, choices, T]
        return Labels(values, kind, choices or classes_of(config))
    vocabulary = vocabulary_of(model)
    if vocabulary and predicts_next(model):
        values = F.pad(values[:, 1:], (0, 1), value=IGNORE_INDEX)
    return Labels(values, kind, vocabulary or getattr(config, "num_labels", None), vocabulary is not None)


def _refuse_margins(model: nn.Module) -> None:
    """Refuse a model that learns to tell speakers apart by a margin: the score of the label itself is lowered by it."""
    name = type(base_model(model)).__name__
    if name.endswith("ForXVector"):
        raise ValueError(
            f"{name} takes a margin off the score of each sample's label, so that its loss for two labels is not that "
            f"of one set of scores: it has no rule of its own. {OWN_WAY}"
        )


def classes_of(config: Any) -> int | None:
    """Return the number of classes that a configuration names, of answers where these have a head of their own."""
    return getattr(config, "num_qa_labels", None) or getattr(config, "num_labels", None)


def _values(model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, bool]:
    """Return the labels' tensor, and whether it holds the ends of spans."""
    ends = [end for key in SPANS if isinstance(end := batch.get(key), Tensor)]
    labels = batch.get(LABELS)
    spans = len(ends) == len(SPANS)
    if any(batch.get(key) is not None for key in SPANS):
        refuse_half_spans({key: batch.get(key) for key in SPANS})
    if spans:
        labels = _within(torch.stack([end.reshape(len(end)) for end in ends], dim=1), batch)
    elif isinstance(batch.get("target_values"), Tensor):
        labels = batch["target_values"]  # what time-series models call their labels
    elif any(key in batch for key in ("mask_labels", "class_labels")):
        raise ValueError(
            f"{type(model).__name__} takes masks and their classes, for which there is no rule: {_holds(batch)}. "
            f"{OWN_WAY}; or use a model of AutoModelForSemanticSegmentation"
        )
    elif labels is not None and not isinstance(labels, Tensor):
        raise ValueError(
            f"labels of the batch for {type(model).__name__} are no tensor but {type(labels).__name__}: make them one "
            f"in the collator (torch.as_tensor). {OWN_WAY}"
        )
    elif labels is None:
        raise ValueError(
            f"the batch for {type(model).__name__} has no tensor 'labels' to mix; {_holds(batch)}. A Trainer passes "
            f"on a column of the dataset that is called 'label' or 'labels'. {OWN_WAY}"
        )
    if labels.dim() == 0:
        raise ValueError(f"labels={labels.tolist()}: one number, where each sample needs a label, [B]")
    if len(labels) == 0:
        raise ValueError(f"labels of shape {list(labels.shape)}: the batch has no samples")
    refuse_other_count(labels, batch)
    return labels, spans


def _holds(batch: Mapping[str, Any]) -> str:
    return f"it holds: {', '.join(batch) or 'nothing'}"


def _transcripts(model: nn.Module, values: Tensor) -> Labels:
    """Return the transcripts of a model that learns them by CTC, as they are."""
    base = base_model(model)
    if values.dim() != 2 or values.is_floating_point():
        raise ValueError(
            f"labels hold {values.dtype} {list(values.shape)}, where {type(base).__name__} learns transcripts: "
            f"expected integers [B, U], the tokens of each in order, and {IGNORE_INDEX} behind its end"
        )
    return Labels(values, "transcription", getattr(base.config, "vocab_size", None))


def _within(ends: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Return the ends of answers [B, 2] as transformers reads them: -100 behind the last token, 0 before the first.

    >>> _within(torch.tensor([[1, 7], [-1, 2]]), {"input_ids": torch.ones(2, 4)})
    tensor([[   1, -100],
            [   0,    2]])
    """
    held = batch.get("input_ids", batch.get("inputs_embeds"))
    if not isinstance(held, Tensor):
        return ends
    tokens = held.shape[1]
    return ends.clamp(min=0).masked_fill(ends >= tokens, IGNORE_INDEX)


def _one_a_token(model: nn.Module, labels: Tensor) -> bool:
    """Whether integer labels [B, T] belong to tokens, even if each sample has only one."""
    if labels.is_floating_point() or labels.dim() != 2:
        return False
    base = base_model(model)
    return labels.shape[1] > 1 or "ForTokenClassification" in type(base).__name__ or vocabulary_of(model) is not None


def classifies_frames(model: nn.Module) -> bool:
    """Whether a model finds the class of each frame of audio; its labels are one-hot, [B, T, C].

    The class with the highest number counts, in every frame, padding included, as the models' own loss has it.
    """
    base = base_model(model)
    return "ForAudioFrameClassification" in type(base).__name__ and LABELS in signature(base.forward).parameters


def segments(model: nn.Module) -> bool:
    """Whether a model scores each pixel of an image, as its name says."""
    base = base_model(model)
    return "ForSemanticSegmentation" in type(base).__name__ and getattr(base, "config", None) is not None


def pixel_labels(labels: Tensor, config: Any) -> Tensor:
    """Return labels of pixels [B, H, W] as long integers, -100 where the model's own loss ignores them.

    Raises:
        ValueError: for labels that are no integers, or a model with one class, which scores yes and no.

    >>> pixel_labels(torch.tensor([[[3, 255]]]), None)
    tensor([[[   3, -100]]])
    """
    if labels.is_floating_point():
        raise ValueError(f"labels of pixels hold {labels.dtype}: expected integers [B, H, W]")
    if getattr(config, "num_labels", None) == 1:
        raise ValueError("num_labels=1: mixing labels of pixels needs a logit for each class, two for yes and no")
    ignored = getattr(config, "semantic_loss_ignore_index", getattr(config, "loss_ignore_index", 255))
    labels = labels.long()
    return labels.masked_fill(labels == ignored, IGNORE_INDEX)


def at_labels(model: nn.Module, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logits [B, T, V] of the places that labels [B, T] belong to, among those of more places.

    A captioner may score the places of its image, too, before those of the text. Which they are the self-check finds
    out by the model's own loss; before, and for all other heads, the logits are returned as they are.
    """
    more = logits.shape[1] - labels.shape[-1] if logits.dim() == 3 and labels.dim() == 2 else 0
    if more <= 0 or model not in TRAILING:
        return logits
    trailing = TRAILING[model] if TRAILING[model] >= 0 else more
    return logits[:, more - trailing : logits.shape[1] - trailing]


def predicts_next(model: nn.Module) -> bool:
    """Whether a language model scores the label of each token at the token before.

    As transformers decides it, unless the self-check found that the model's own loss does otherwise.
    """
    if model in SHIFTS_LABELS:
        return SHIFTS_LABELS[model]
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return False
    loss = str(getattr(model, "loss_type", None) or type(model).__name__)
    shifted = any(name in loss for name in ("ForCausalLM", "ForConditionalGeneration", "LMHead"))
    return shifted and "WithLMHead" not in loss


def vocabulary_of(model: nn.Module) -> int | None:
    """Return how many tokens a language model scores, None for another head."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    weight = getattr(head, "weight", None)
    if isinstance(weight, Tensor) and len(whole_shape(weight)) == 2:
        return whole_shape(weight)[0]
    if not getattr(model, "can_generate", lambda: False)():
        return None
    config: Any = getattr(model, "config", None)  # a model that does not return its head, such as a captioner
    return getattr(getattr(config, "text_config", config), "vocab_size", None)


def problem_type(config: Any, labels: Tensor) -> ProblemType:
    """Decide how labels are to be read, by the rule of transformers, without writing it into the model's config.

    Args:
        config: the model's configuration; None for a model that has none.
        labels: [B] integers ([B, T] one for each token), [B, C] floats in [0, 1], or floats [B] or [B, 1] for
            regression.

    Raises:
        ValueError: for labels of a shape that no supported head takes.
    """
    if not labels.is_floating_point() and labels.dim() == 2 and labels.shape[1] > 1:
        return "single_label_classification"
    if labels.is_floating_point() and labels.dim() > 2:
        raise ValueError(
            f"labels hold {labels.dtype} {list(labels.shape)}, a number for each pixel or position (depth, heatmaps, "
            f"...), for which there is no rule. {OWN_WAY}"
        )
    classes = getattr(config, "num_labels", None)
    found = _declared_or_inferred(config, classes, labels)
    shapes = {"single_label_classification": (1,), "multi_label_classification": (2,), "regression": (1, 2)}
    declared = getattr(config, "problem_type", None) == found
    if declared and labels.dim() <= 2 and labels.dim() not in shapes[found]:
        raise ValueError(
            f"labels hold {labels.dtype} {list(labels.shape)}, but the model's configuration has "
            f"problem_type={found!r}, which takes {TAKES[found]}: give it those, or change problem_type"
        )
    if found == "regression" and labels.dim() == 1 and classes not in (None, 1):
        if declared and not labels.is_floating_point():
            raise ValueError(
                f"labels hold {labels.dtype} [B], but the model's configuration has problem_type='regression' and "
                f"num_labels={classes}: leave problem_type out for class numbers, or set num_labels=1 for one number"
            )
        raise ValueError(
            f"labels hold {labels.dtype} [B], but the model has {classes} outputs: convert class ids to "
            "integers, or set num_labels=1 for regression"
        )
    if labels.dim() not in shapes[found]:
        raise ValueError(
            f"labels of shape {list(labels.shape)} do not fit problem type {found!r}: mixing takes one target a "
            f"sample or one a token. {OWN_WAY}"
        )
    return found


def _declared_or_inferred(config: Any, classes: int | None, labels: Tensor) -> ProblemType:
    declared = getattr(config, "problem_type", None)
    if declared in ("single_label_classification", "multi_label_classification", "regression"):
        return declared
    if not labels.is_floating_point():
        return "regression" if classes == 1 else "single_label_classification"
    if labels.dim() == 1 or labels.shape[-1] == 1:
        return "regression"
    return "multi_label_classification"


def check_labels(labels: Tensor, num_labels: int | None, kind: ProblemType) -> None:
    """Refuse class ids outside the model's classes.

    Raises:
        ValueError: naming the label found and the classes the model has.

    >>> check_labels(torch.tensor([0, 3]), 3, "single_label_classification")
    Traceback (most recent call last):
    ...
    ValueError: label 3 is outside the model's 3 classes (0 to 2): set num_labels, or check the label column
    """
    if kind not in ("single_label_classification", "transcription") or num_labels is None:
        return
    if labels.is_floating_point() or not labels.numel():
        return
    if in_range(labels, num_labels):
        return  # the common case, in one pass
    wrong = labels[((labels < 0) & (labels != IGNORE_INDEX)) | (labels >= num_labels)]
    if len(wrong):
        raise ValueError(
            f"label {int(wrong[0])} is outside the model's {num_labels} classes (0 to {num_labels - 1}): "
            "set num_labels, or check the label column"
        )


def dense_targets(
    labels: Tensor,
    other: Tensor,
    lam: Tensor,
    classes: int,
    kind: ProblemType,
    smoothing: float,
    further: Further = (),
) -> Tensor:
    """Return the float32 targets of a mixed batch: [B, C] ([B, T, C] for tokens), or the shape of float labels.

    >>> one, other, more = torch.tensor([0]), torch.tensor([1]), ((torch.tensor([2]), torch.tensor([0.25])),)
    >>> dense_targets(one, other, torch.tensor([0.5]), 3, "single_label_classification", 0.0, more)
    tensor([[0.5000, 0.2500, 0.2500]])
    """
    own, rest = (_dense(each, classes, kind, smoothing) for each in (labels, other))
    targets = weighted(expand_like(lam, own), own) + weighted(expand_like(partner_weight(lam, further), own), rest)
    for label, weight in further:
        targets = targets + weighted(expand_like(weight, own), _dense(label, classes, kind, smoothing))
    return targets


def partner_weight(lam: Tensor, further: Further) -> Tensor:
    """Return the weight that is left for the partner's labels, of the shape of lam."""
    if not further:
        return 1 - lam
    return (1 - lam - torch.stack([weight for _, weight in further]).sum(0)).clamp(min=0)


def _dense(labels: Tensor, classes: int, kind: ProblemType, smoothing: float) -> Tensor:
    if kind == "single_label_classification":
        alone = torch.arange(len(labels), device=labels.device)
        return soft_targets(labels, alone, 1.0, classes, smoothing=smoothing)
    labels = labels.to(torch.promote_types(labels.dtype, torch.float32))
    # Several labels a sample: each is a choice between yes and no.
    return labels * (1 - smoothing) + smoothing / 2 if kind == "multi_label_classification" and smoothing else labels
