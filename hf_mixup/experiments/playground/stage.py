"""Two rows of a task, mixed by the engine as training mixes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from hf_mixup.engine.config import MixupConfig
from hf_mixup.engine.mixup import Mixup
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.functional import sample_lam
from hf_mixup.methods import METHODS
from hf_mixup.models.labels import LABEL_KEYS, ProblemType, dense_targets
from hf_mixup.models.outputs import logits_of

POINTS = 21
_OWN, _SWAPPED = 0, torch.tensor([1, 0])
_KIND: ProblemType = "single_label_classification"


@dataclass(frozen=True)
class Mixed:
    """A row and its partner, mixed by the engine.

    Attributes:
        clean: the batch of both rows, the own one first, with their labels.
        inputs: inputs of the model in place of the own sample, without the batch axis.
        inside: whether the rows are blended inside the model or behind it, so that `inputs` do not show the mixture.
        method: the method that mixed them, which may be one that the chosen method draws.
        layer: the block after which hidden states are blended, 0 for the input of the first; None elsewhere.
        target: soft label, float32 [C].
        probabilities: the model's prediction, float32 [C].
    """

    clean: dict[str, Any]
    inputs: dict[str, Tensor]
    inside: bool
    method: str
    layer: int | None
    target: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class Interpolation:
    """Soft labels and predictions along lam, [P], from the partner at 0 to the own sample at 1: float32 [P, C] each."""

    lam: Tensor
    targets: Tensor
    probabilities: Tensor


class Stage:
    """Rows of a classification task and a model, to mix any two of them.

    Args:
        rows: inputs of the model with `labels`, by number.
        collator: makes a batch of a list of rows.
        model: classifier; it is set to evaluation mode, so that dropout does not blur the effect of mixing.
        config: settings of the methods; prob and the schedule are ignored.
        tokenizer: for methods that ask which tokens are special.

    >>> from transformers import ResNetConfig, ResNetForImageClassification, default_data_collator
    >>> model = ResNetForImageClassification(ResNetConfig(num_labels=3, hidden_sizes=[8, 8], depths=[1, 1],
    ...     embedding_size=8, layer_type="basic"))
    >>> rows = [{"pixel_values": torch.full((3, 32, 32), float(n)), "labels": n} for n in range(3)]
    >>> mixed = Stage(rows, default_data_collator, model, SharedSettings()).mix(2, 0, "mixup", lam=0.25)
    >>> float(mixed.inputs["pixel_values"][0, 0, 0]), mixed.target.tolist()
    (0.5, [0.75, 0.0, 0.25])
    """

    def __init__(
        self,
        rows: Any,
        collator: Callable[[list[Any]], Any],
        model: nn.Module,
        settings: SharedSettings,
        tokenizer: Any = None,
    ) -> None:
        self.rows, self.collator, self.model, self.tokenizer = rows, collator, model.eval(), tokenizer
        dropped = ("lam", "prob", "prob_warmup_ratio", "disable_last_ratio", "disable_last_epochs")
        self.settings = SharedSettings({k: v for k, v in settings.values.items() if k not in dropped})
        of_lam = ("alpha", "beta", "lam_at_least_half")
        self.alpha, self.beta, self.folded = (settings.values.get(name) for name in of_lam)
        self._engines: dict[str, Mixup] = {}
        self._lock = Lock()  # a model has hooks for one batch at a time, and a page asks from several threads
        self.interpolation = lru_cache(maxsize=64)(self._interpolation)

    def mix(self, own: int, partner: int, method: str, lam: float, draw: int = 0) -> Mixed:
        """Mix row `own` with row `partner`.

        Args:
            lam: weight of the own sample in [0, 1].
            draw: number of the draw of all else: boxes, masks, the block. It is the same along lam.

        Raises:
            ValueError, TypeError, RuntimeError: if the method does not fit, as the engine says it.
        """
        with self._lock, torch.no_grad():
            engine = self._engine(method)
            engine.set_step(draw)
            clean = dict(self.collator([self.rows[own], self.rows[partner]]))
            with engine(self.model, clean, partner=_SWAPPED, lam=lam) as mixed:
                outputs = self.model(**mixed.inputs)
                mixed.loss(outputs)  # some methods weigh labels only now
            at_work = engine.method.chosen(mixed.draw)
            # The terms of the loss: a method may blend the logits, or append the mixed rows to the others.
            term = at_work.terms(logits_of(outputs), mixed.labels, mixed.draw)[0]
            smoothing, classes = engine.config.label_smoothing, term.logits.shape[-1]
            target = dense_targets(term.labels, term.others, term.lam, classes, _KIND, smoothing, term.further)
        changed = mixed.changed_places
        row = _OWN if changed is None or not len(changed) else int(changed[_OWN])
        unchanged = lam < 1 and all(mixed.inputs.get(key) is value for key, value in clean.items() if key != "labels")
        return Mixed(
            clean=clean,
            inputs={key: value[row] for key, value in mixed.inputs.items() if isinstance(value, Tensor)},
            inside=unchanged or at_work.enters(self.model, {k: v for k, v in clean.items() if k not in LABEL_KEYS}),
            method=at_work.name,
            layer=getattr(mixed.draw, "depth", None),
            target=target[_OWN],
            probabilities=term.logits[_OWN].float().softmax(-1),
        )

    def _interpolation(self, own: int, partner: int, method: str, draw: int = 0) -> Interpolation:
        """Return soft label and prediction at lam = 0, 0.05, ..., 1; see `mix`."""
        steps = torch.linspace(0, 1, POINTS)
        made = [self.mix(own, partner, method, lam, draw) for lam in steps.tolist()]
        targets = torch.stack([each.target for each in made])
        return Interpolation(steps, targets, torch.stack([each.probabilities for each in made]))

    def draw_lam(self, alpha: float, draw: int) -> float:
        """Draw lam as training would, with another alpha."""
        beta = alpha if self.beta is None else self.beta
        rng = torch.Generator().manual_seed(draw)
        return float(sample_lam((alpha, beta), generator=rng, lam_at_least_half=bool(self.folded)))

    def _engine(self, method: str) -> Mixup:
        if method not in self._engines:
            config = self.settings.for_method(method)
            self._engines[method] = Mixup(config, tokenizer=self.tokenizer)
            self._engines[method].prepare(self.model)
        return self._engines[method]


def fitting_methods(stage: Stage, own: int, partner: int, check: Callable[[MixupConfig], None]) -> dict[str, str]:
    """Return for each method of the registry "" if it mixes these rows, or the reason why not.

    Args:
        check: raises ValueError for settings that training would refuse.
    """
    found = {}
    for method in METHODS:
        try:
            check(stage.settings.for_method(method))
            stage.mix(own, partner, method, 0.5)
            found[method] = ""
        except (ValueError, TypeError, RuntimeError) as error:
            found[method] = str(error)
    return found
