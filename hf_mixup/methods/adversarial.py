"""Adversarial training: rows moved to where their loss is larger, beside the clean ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hf_mixup.functional import ascent_points, fgm, fgsm, pgd
from hf_mixup.methods.base import Batch, Draw, Method, Request, Term
from hf_mixup.models.attack_space import Space, attack_space, logits_at_points, with_points
from hf_mixup.models.batches import concat_batches, select_samples
from hf_mixup.models.inputs import float_keys
from hf_mixup.models.losses import mixed_loss_sum
from hf_mixup.models.noise import IDS, install_noise
from hf_mixup.models.segmentation import at_pixels

NORMS: dict[str, Literal["linf", "l2"]] = {"fgsm": "linf", "fgm": "l2", "pgd": "linf", "pgd_l2": "l2", "freelb": "l2"}
REACH = {"linf": 0.1, "l2": 1.0}


class Adversarial(Method):
    """Train on each row and on its worst neighbour: the point within `epsilon` to which the gradient of its loss leads.

    `attack` says how it is found, on every float input (of those `keys` names) or on the embeddings of tokens; padding
    stays as it is, and so do the labels. `fgsm` (one step of the gradient's sign) and `pgd` (`attack_steps` such steps
    from a random start) reach `epsilon` in each value; `fgm` (one step along the gradient) and `pgd_l2` reach it in the
    L2 norm of the whole row. Units are those of what the model is given: an epsilon of 8/255 of an image is 0.063 for
    pixels normalised by 0.5, and a table of embeddings often has entries as small as 0.02. `attack_range` holds values
    within those of real inputs. `freelb` takes the K = `attack_steps` points of the ascent from a random start, all of
    them, the loss being their mean. The loss is clean_weight * clean + (1 - clean_weight) * adversarial.

    Cost: the attack is a forward and a backward pass (through activations, not to the weights) for each step
    (freelb: one less), then the training pass takes both halves at once: 2 B rows, freelb K B. The attack sees the
    model in evaluation mode, where neither dropout nor the other rows bear on a row (the papers attack in training
    mode), and leaves nothing behind. Batch normalisation takes its statistics from both halves together. Logits and
    accuracy are of the adversarial rows behind the clean ones; `prob` and `prob_per` say which rows are attacked.
    An epsilon of 0 is plain training. FreeLB's code draws the start from a cube and keeps one dropout mask for all K.

    Raises:
        ValueError: for a partner or a lam that is given; `attack_range` where the embeddings of tokens are moved.

    Source: Goodfellow et al. 2014, arXiv 1412.6572, section 5 (there clean_weight = 0.5); Madry et al. 2017, arXiv
    1706.06083, equation 2.1 (0); Miyato et al. 2016, arXiv 1605.07725, equation 5 (the sum of both, on embeddings
    normalised to variance 1); Zhu et al. 2019, "FreeLB", arXiv 1909.11764, algorithm 1 (0).

    >>> from hf_mixup import Mixup
    >>> from hf_mixup.testing.batches import tiny
    >>> model, batch = tiny("image-classification", "vit")
    >>> settings = {"method": "adversarial", "attack": "fgsm", "epsilon": 8 / 255}
    >>> with Mixup(settings)(model, batch) as mixed:
    ...     loss = mixed.loss(model(**mixed.inputs))
    >>> clean, attacked = mixed.inputs["pixel_values"].chunk(2)
    >>> round(float((attacked - clean).abs().max() * 255))
    8
    """

    name = "adversarial"
    alone = True
    title = "Adversarial training"
    blends = "nothing: moves float inputs, or token embeddings, up the gradient, as a second loss"
    paper = "arXiv:1412.6572"
    citation = (
        "@inproceedings{goodfellow2015explaining, title={Explaining and Harnessing Adversarial Examples}, "
        "author={Goodfellow, Ian J. and Shlens, Jonathon and Szegedy, Christian}, booktitle={ICLR}, year={2015}}"
    )
    exchanges = False
    own_loss = True
    for_pixels = True

    def prepare(self, model: nn.Module) -> None:
        install_noise(model)

    def draw(self, request: Request) -> Draw:
        if request.partner is not None or request.lam is not None:
            raise ValueError(f"method {self.name!r} mixes no rows: leave partner and lam")
        tosses = torch.rand(1 if self.config.prob_per == "batch" else request.rows, generator=request.rng)
        chosen = (tosses < request.prob).expand(request.rows)
        if self.config.off:
            chosen = torch.zeros_like(chosen)
        rows = chosen.nonzero()[:, 0]
        draw = Draw(self.name, torch.arange(request.rows), torch.ones(request.rows), rows=rows)
        return self._attacked(request, draw, rows)

    def _attacked(self, request: Request, draw: Draw, rows: Tensor) -> Draw:
        """Return the parameters with the points to which the attack moves these rows."""
        seed = int(torch.randint(2**62, (), generator=request.rng))
        if not len(rows):
            return draw
        where = rows.to(request.labels.device)
        batch = select_samples(request.batch, where, request.rows)
        labels = request.labels if len(rows) == request.rows else request.labels[where]
        points = self._find(request, batch, labels, seed)
        return replace(draw, seed=seed, points=points)

    def _find(self, request: Request, batch: Batch, labels: Tensor, seed: int) -> dict[str, Tensor]:
        model, cfg = request.model, self.config
        tokens = IDS in batch and cfg.keys is None
        if tokens and cfg.attack_range is not None:
            raise ValueError("attack_range is for float inputs, and here the embeddings of tokens are moved: leave it")
        space = attack_space(model, batch, None if tokens else float_keys(batch, len(labels), self.name, cfg.keys))
        weights = None if cfg.class_weights is None else torch.tensor(cfg.class_weights, device=labels.device)
        whole = torch.ones(len(labels), device=labels.device)
        with logits_at_points(model, batch, space) as logits_at:

            def loss_of(points: Tensor) -> Tensor:
                logits, smoothing, bce = logits_at(points), cfg.label_smoothing, cfg.loss == "bce"
                logits = at_pixels(model, logits, labels) if labels.dim() == 3 else logits
                return mixed_loss_sum(logits, labels, labels, whole, request.kind, smoothing, weights, bce)

            return space.named(self._climb(space, loss_of, "fgm" if tokens else "fgsm", seed))

    def _climb(self, space: Space, loss_of: Callable[[Tensor], Tensor], default: str, seed: int) -> Tensor:
        """Return the points of the attack, [K, B, ...]: one, but for freelb."""
        cfg, attack = self.config, self.config.attack or default
        norm = NORMS[attack]
        eps = REACH[norm] if cfg.epsilon is None else cfg.epsilon
        low, high = cfg.attack_range or (None, None)
        if attack in ("fgsm", "fgm"):
            step = fgsm if attack == "fgsm" else fgm
            return step(space.x, loss_of, eps, low, high, space.mask)[None]
        start = torch.Generator(space.x.device).manual_seed(seed)
        climb = ascent_points if attack == "freelb" else pgd
        size = cfg.attack_step_size
        found = climb(space.x, loss_of, eps, cfg.attack_steps, size, norm, start, low, high, space.mask)
        return found if attack == "freelb" else found[None]

    def apply(self, model: nn.Module, batch: Batch, draw: Draw, inplace: bool) -> dict[str, Any]:
        if draw.points is None:
            return self._clean(model, batch, draw)
        count, kept = len(draw.lam), self._kept(draw)
        parts = [select_samples(self._clean(model, batch, draw), kept, count)] if len(kept) else []
        parts += [self._moved(model, batch, floats, draw) for floats in self._floats(draw)]
        return self._shifted(model, concat_batches(parts, batch, count), draw, draw.partner)

    def _clean(self, model: nn.Module, batch: Batch, draw: Draw) -> dict[str, Any]:
        """Return the batch as it is trained on without an attack."""
        return dict(batch)

    def _moved(self, model: nn.Module, batch: Batch, floats: dict[str, Tensor], draw: Draw) -> dict[str, Any]:
        """Return the attacked rows, with moved floats in place of their own."""
        return {**select_samples(batch, self._run(draw), len(draw.lam)), **floats}

    def _floats(self, draw: Draw) -> list[dict[str, Tensor]]:
        """Return the moved float inputs, for each of the K points."""
        floats = {key: value for key, value in (draw.points or {}).items() if key != IDS}
        return [{key: value[copy] for key, value in floats.items()} for copy in range(self._copies(draw))]

    def _shifted(self, model: nn.Module, inputs: dict[str, Any], draw: Draw, partner: Tensor) -> dict[str, Any]:
        """Arm the table of words with the shifts of the tokens, if there are any; clean rows have none."""
        shifts = (draw.points or {}).get(IDS)
        if shifts is None:
            return inputs
        clean = shifts.new_zeros(len(self._kept(draw)), *shifts.shape[2:])
        return with_points(model, inputs, {IDS: torch.cat([clean, shifts.flatten(0, 1)])}, partner)

    def terms(self, logits: Tensor, labels: Tensor, draw: Draw) -> list[Term]:
        rows, clean = draw.rows, self._clean_weight
        if rows is None or draw.points is None:
            return super().terms(logits, labels, draw)
        others, lam = self.other_labels(labels, draw), self.label_lam(labels, draw)
        kept, copies, left = len(self._kept(draw)), self._copies(draw), _left(rows, len(labels))
        own, moved = logits[:kept], logits[kept:]
        if len(moved) > copies * len(rows):
            moved = moved.unflatten(0, (copies, len(labels)))[:, rows].flatten(0, 1)

        def term(scored: Tensor, which: Tensor, share: float, times: int = 1) -> Term:
            one, other, weight = (torch.cat([each[which]] * times) for each in (labels, others, lam))
            return Term(scored, one, other, weight, share)

        terms = [term(moved, rows, (1 - clean) / copies, copies)]
        if clean:
            terms.append(term(own[rows], rows, clean))
        if len(left):
            terms.append(term(own if kept == len(left) else own[left], left, 1.0))
        return terms

    def changed_places(self, draw: Draw) -> Tensor | None:
        if draw.rows is None or draw.points is None:
            return None
        order = draw.rows if len(self._run(draw)) > len(draw.rows) else torch.arange(len(draw.rows))
        return len(self._kept(draw)) + order

    @property
    def _clean_weight(self) -> float:
        weight = self.config.clean_weight
        return weight if weight is not None else 0.0 if self.config.attack == "freelb" else 0.5

    def _kept(self, draw: Draw) -> Tensor:
        """Return the rows that are run as they are, long: all, or where clean ones do not count, those left alone."""
        whole = torch.arange(len(draw.lam), device=draw.lam.device)
        return whole if self._clean_weight or draw.rows is None else _left(draw.rows, len(whole))

    def _run(self, draw: Draw) -> Tensor:
        """Return the rows that are run at each of their points, long: those that are attacked."""
        return torch.arange(len(draw.lam)) if draw.rows is None else draw.rows

    def _copies(self, draw: Draw) -> int:
        """Return how many points each row has."""
        return len(next(iter((draw.points or {}).values())))


def _left(rows: Tensor, count: int) -> Tensor:
    """Return the rows that are not among these, long."""
    if len(rows) == count:  # as a rule; on a device, finding the others would have to wait for it
        return rows[:0]
    return torch.ones(count, dtype=torch.bool, device=rows.device).index_fill(0, rows, False).nonzero()[:, 0]
