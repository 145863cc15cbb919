"""The checks of one architecture."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_mixup.engine.mixup import Mixup
from hf_mixup.testing.batches import Lengths, make_batch, real_tokens
from hf_mixup.testing.build import build
from hf_mixup.testing.exchange import (
    SCORE_TOLERANCE,
    Settings,
    brief,
    is_refusal,
    mixed_loss,
    mixed_scores,
    plain_inputs,
    plain_scores,
    score_error,
    try_exchange,
)
from hf_mixup.testing.families import Family
from hf_mixup.utils.constants import IGNORE_INDEX

YES = "yes"
PER_TOKEN = ("token-classification", "masked-lm", "causal-lm")
SAMPLES, LONGER = 4, 4


@dataclass
class ArchitectureChecks:
    """The checks of one architecture, each on a new model, so that no check depends on an earlier one."""

    family: Family
    model_type: str

    @cached_property
    def _model(self) -> PreTrainedModel:
        return build(self.family, self.model_type)

    def floats(self) -> dict[str, str]:
        inputs, manifold = {"method": "mixup"}, self._manifold()
        found = {"inputs": self._exchange(inputs), "manifold": manifold[0]}
        return {**found, **self._trains([s for s, ok in ((inputs, found["inputs"] == YES), manifold[1:]) if ok])}

    def text(self) -> dict[str, str]:
        embedding, manifold = {"method": "embedding"}, self._manifold()
        found = {"embedding": self._exchange(embedding), "manifold": manifold[0]}
        right = [s for s, ok in ((embedding, found["embedding"] == YES), manifold[1:]) if ok]
        for side in ("right", "left"):
            found[side] = _all(right, partial(self._uneven, side=side))
        found["longer"] = _all(right, self._longer)
        return {**found, **self._trains(right)}

    def _trains(self, settings: list[Settings]) -> dict[str, str]:
        checks = {"gradients": self._gradients, "checkpointing": self._checkpointing, "bf16": self._bf16}
        return {name: _all(settings, check) for name, check in checks.items()}

    def _new(self, lengths: Lengths = "equal") -> tuple[PreTrainedModel, dict[str, Any]]:
        model = deepcopy(self._model)
        return model, make_batch(self.family, model, SAMPLES, lengths=lengths)

    def _exchange(self, settings: Settings) -> str:
        model, batch = self._new()
        found = try_exchange(model, batch, settings)
        return YES if found == "exact" else found if found.startswith("refused") else f"no: {found}"

    def _manifold(self) -> tuple[str, Settings, bool]:
        """Return the cell, the settings at one of the default depths, and whether they are exact."""
        try:
            depths, left_out = default_depths(*self._new())
        except Exception as error:  # noqa: BLE001 - a survey reports all
            return f"{'refused' if is_refusal(error) else 'no'}: {brief(error)}", {}, False
        found = {depth: self._exchange(_at(depth)) for depth in depths}
        wrong = next((f"{cell} (at {depth})" for depth, cell in found.items() if cell != YES), None)
        partly = f"{YES}: at depths {_listed(depths)}, not at {_listed(left_out)}" if left_out else YES
        return wrong or partly, _at(depths[len(depths) // 2]), wrong is None

    @torch.no_grad()
    def _uneven(self, settings: Settings, side: Lengths) -> str:
        """lam = 1 gives the batch, a sample with itself stays, lam = 0 gives (in hidden layers: shows) the partner."""
        model, batch = self._new(side)
        own = torch.arange(SAMPLES)
        others = own.roll(1)
        plain = self._real(plain_scores(model, batch), batch, side)
        if not torch.isfinite(plain).all():
            return "-"  # of a sample that ends early, some models see nothing at all
        errors = {}
        for name, partner, lam, expected in (("lam=1", others, 1.0, plain), ("itself", own, 0.3, plain)):
            found = self._real(mixed_scores(model, batch, settings, partner, lam), batch, side)
            errors[name] = score_error(found, expected, plain)
        swapped = self._real(mixed_scores(model, batch, settings, others, 0.0), batch, side, others)
        if settings["method"] == "embedding":
            errors["lam=0"] = score_error(swapped, plain[others], plain)
        elif score_error(swapped, plain, plain) < 10 * SCORE_TOLERANCE:
            return "no: lam = 0 shows nothing of the partner"
        return _verdict(errors)

    def _real(self, scores: Tensor, batch: Mapping[str, Any], side: Lengths, which: Tensor | None = None) -> Tensor:
        """Return scores with 0 at padding."""
        ids = next(iter(batch.values()))
        real = real_tokens(SAMPLES, ids.shape[-1], side)
        real = real if which is None else real[which]
        if self.family == "question-answering":
            return scores.where(real[:, None, :], 0)
        if self.family in PER_TOKEN and scores.shape[1] == real.shape[1]:
            return scores.where(real[:, :, None], 0)
        if self.family == "seq2seq":
            labels = batch["labels"] if which is None else batch["labels"][which]
            return scores.where((labels != IGNORE_INDEX)[..., None], 0)
        return scores

    @torch.no_grad()
    def _longer(self, settings: Settings) -> str:
        """Padding all samples to a longer length changes nothing."""
        model, batch = self._new()
        if "attention_mask" not in batch:
            return "-"
        longer = _pad(batch, model.config.get_text_config().pad_token_id)
        others, plain = torch.arange(SAMPLES).roll(1), plain_scores(model, batch)
        try:
            padded = _as_short(plain_scores(model, longer), plain)
        except (IndexError, ValueError):
            return "-"  # more tokens than the model has positions
        if not score_error(padded, plain, plain) < SCORE_TOLERANCE:
            return "-"  # the model itself reads its padding
        found, expected = (mixed_scores(model, each, settings, others, 0.5) for each in (longer, batch))
        return _verdict({"longer": score_error(_as_short(found, expected), expected, plain)})

    def _gradients(self, settings: Settings) -> str:
        model, batch = self._new()
        grads = _grads(model, batch, settings)
        if not torch.isfinite(grads).all():
            return "no: gradients are not finite"
        return YES if bool(grads.any()) else "no: gradients are 0"

    def _checkpointing(self, settings: Settings) -> str:
        """Gradient checkpointing does not change the gradients."""
        model, batch = self._new()
        if not model.supports_gradient_checkpointing:
            return "-"
        _grads(model, batch, settings)  # some models set themselves up in their first pass
        error = _checkpoint_error(model, batch, settings)
        if not error < SCORE_TOLERANCE and not _checkpoint_error(model, batch) < SCORE_TOLERANCE:
            return "-"  # the model itself does not do it
        return _verdict({"gradients": error})

    @torch.no_grad()
    def _bf16(self, settings: Settings) -> str:
        model, batch = self._new()
        others = torch.arange(SAMPLES).roll(1)
        with torch.autocast("cpu", torch.bfloat16):
            try:
                plain = plain_scores(model, batch)
            except Exception:  # noqa: BLE001 - the model itself does not do it
                return "-"
            found = mixed_scores(model, batch, settings, others, 1.0)
            half = mixed_scores(model, batch, settings, others, 0.5)
        if not torch.isfinite(half).all():
            return "no: scores are not finite"
        return _verdict({"lam=1": score_error(found, plain, plain)}, tolerance=0.05)


@torch.no_grad()
def default_depths(model: PreTrainedModel, batch: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Return the depths at which method 'manifold' mixes in a model by default, and those that it leaves out."""
    mixup, inputs = Mixup("manifold"), plain_inputs(model, batch)
    first = mixup.method.depths(model, inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        mixup(model, batch)
    kept = mixup.method.depths(model, inputs)
    return kept, [depth for depth in first if depth not in kept]  # type: ignore[return-value, misc]


def _listed(depths: list[int]) -> str:
    return ", ".join(map(str, depths))


def _at(depth: float) -> Settings:
    return {"method": "manifold", "layers": [depth]}


def _all(settings: list[Settings], check: Callable[[Settings], str]) -> str:
    """Return the worst result of a check over several settings; empty if it applies to none."""
    found = []
    for each in settings:
        try:
            cell = check(each)
        except Exception as error:  # noqa: BLE001 - a survey reports all
            cell = f"{'refused' if is_refusal(error) else 'no'}: {brief(error)}"
        if cell != "-":
            found.append(cell if cell == YES else f"{cell} ({each['method']})")
    return min(found, key=lambda cell: ("no", "re", "ye").index(cell[:2]), default="")


def _verdict(errors: Mapping[str, float], tolerance: float = SCORE_TOLERANCE) -> str:
    wrong = [f"{name} misses by {error:.0%}" for name, error in errors.items() if not error < tolerance]
    return f"no: {', '.join(wrong)}" if wrong else YES


def _grads(model: PreTrainedModel, batch: Mapping[str, Any], settings: Settings | None = None) -> Tensor:
    """Return all gradients in training mode, mixed at lam = 0.5 or (without settings) plain."""
    model.train()
    model.zero_grad()
    torch.manual_seed(0)
    others = torch.arange(SAMPLES).roll(1)
    loss = model(**batch).loss if settings is None else mixed_loss(model, batch, settings, others, 0.5)
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def _checkpoint_error(model: PreTrainedModel, batch: Mapping[str, Any], settings: Settings | None = None) -> float:
    """Return the error of gradients with gradient checkpointing; infinity if it does not run."""
    model.gradient_checkpointing_disable()
    expected = _grads(model, batch, settings)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        return _apart(_grads(model, batch, settings), expected)
    except RuntimeError:  # as where a cache is filled twice
        return torch.inf


def _apart(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def _pad(batch: Mapping[str, Any], pad: int) -> dict[str, Any]:
    """Return the batch with more padding at the end."""
    length = batch["attention_mask"].shape[-1]
    fill = {"input_ids": pad, "inputs": pad, "labels": IGNORE_INDEX}
    axes = {name: value.shape.index(length, 1) for name, value in batch.items() if length in value.shape[1:]}
    longer = dict(batch)
    for name, axis in axes.items():
        shape = list(batch[name].shape)
        shape[axis] = LONGER
        longer[name] = torch.cat([batch[name], batch[name].new_full(shape, fill.get(name, 0))], axis)
    return longer


def _as_short(scores: Tensor, short: Tensor) -> Tensor:
    """Return the scores at the positions of the shorter samples."""
    return scores[tuple(slice(size) for size in short.shape)]
