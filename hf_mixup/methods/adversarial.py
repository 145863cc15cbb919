"""Adversarial training: samples moved to where their loss is larger, beside the clean ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from hf_mixup.functional import ascent_points, bounded, fgm, fgsm, pgd, reverse_gradient
from hf_mixup.methods._adversary import network_for, propose
from hf_mixup.methods._learner import Learner
from hf_mixup.methods.base import Batch, Draw, FloatInputs, Request, Term, setting
from hf_mixup.methods.capabilities import Learns, MixesPixelLabels
from hf_mixup.methods.registry import register
from hf_mixup.models.attack_space import AttackSpace, attack_space, logits_at_points, with_points
from hf_mixup.models.batches import concat_batches, select_samples
from hf_mixup.models.inputs import float_keys
from hf_mixup.models.labels import ProblemType
from hf_mixup.models.losses import mixed_loss_sum
from hf_mixup.models.noise import IDS, install_noise
from hf_mixup.models.segmentation import at_pixels
from hf_mixup.utils.constants import Modality

NORMS: dict[str, Literal["linf", "l2"]] = {"fgsm": "linf", "fgm": "l2", "pgd": "linf", "pgd_l2": "l2", "freelb": "l2"}
REACH = {"linf": 0.1, "l2": 1.0}


@dataclass(frozen=True, kw_only=True)
class AttackDraw(Draw):
    """A draw of an attack.

    Args:
        clean: how the samples are mixed without an attack.
        points: samples moved to where their loss is larger: floats [K, R, ...] for each input; empty where none is.
        seed: of the random starts.
    """

    clean: Draw
    points: dict[str, Tensor]
    seed: int

    def to(self, device: torch.device) -> AttackDraw:
        return replace(super().to(device), clean=self.clean.to(device))


@register
class AdversarialTraining(FloatInputs, MixesPixelLabels, Learns):
    """Train on each sample and on an attacked copy, which is moved by at most `epsilon` to where the loss is larger.

    `attack` says how that point is found. It moves every float input (or those that `keys` names), or the embeddings of
    tokens; padding and labels stay as they are. `fgsm` (one step of the gradient's sign) and `pgd` (`attack_steps` such
    steps from a random start) reach `epsilon` in each value; `fgm` (one step along the gradient) and `pgd_l2` reach it
    in the L2 norm of the whole sample. Units are those of what the model is given: an epsilon of 8/255 of an image is
    0.063 for pixels normalised by 0.5, and a table of embeddings often has entries as small as 0.02. `attack_range`
    keeps values within the range of real inputs. `freelb` takes K = `attack_steps` steps from a random start; its loss
    is the mean over all K points. In total the loss is clean_weight * clean + (1 - clean_weight) * adversarial.

    `network` trains a second, small network, which sees a sample and its label and proposes the point. Its reach is
    that of fgsm (for tokens of fgm). Its gradient is reversed, so that one backward pass lowers the loss by the model's
    weights and raises it by those of the network. Its optimizer (Adam, `attack_learning_rate`) steps when that of the
    model does, by the sum over accumulated batches and processes. Its first weights come from the seed of the run; a
    Trainer's checkpoints hold it (`mixup_learnt.pt`), and so does `Mixup.state_dict`. It is convolutional for images,
    spectrograms and the frames of videos, an MLP over embeddings for tokens; other inputs are refused. It does not see
    the model, and is a far weaker attack than one by gradients.

    Cost: the attack is a forward and a backward pass (through activations, not to the weights) for each step (freelb:
    one less; network: none, but its own), then the training pass takes both halves at once: 2 B samples, freelb K B.
    (Measured on a CPU, as ratios to the plain step: a small ResNet fgsm 2.7, pgd 4.7, network 3.2; a BERT fgm 2.6,
    freelb 4.2, network 2.0.) An attack by gradients sees the model in evaluation mode, where neither dropout nor the
    other samples bear on a sample (the papers attack in training mode), and leaves nothing behind. Batch normalisation
    takes its statistics from both halves together. Logits and accuracy are of the adversarial samples behind the clean
    ones; `prob` and `prob_per` say which samples are attacked. An epsilon of 0 is plain training. FreeLB's code draws
    the start from a cube and keeps one dropout mask for all K.

    Raises:
        ValueError: for a partner or a lam that is given; `attack_range` where token embeddings are moved; inputs
            that the network cannot read.

    Source: Goodfellow et al. 2014, arXiv 1412.6572, section 5 (there clean_weight = 0.5); Madry et al. 2017, arXiv
    1706.06083, equation 2.1 (0); Miyato et al. 2016, arXiv 1605.07725, equation 5 (the sum of both, on embeddings
    normalised to variance 1); Zhu et al. 2019, "FreeLB", arXiv 1909.11764, algorithm 1 (0). A network
    that is trained against a classifier: Lee et al. 2017, "Generative Adversarial Trainer", arXiv 1705.03387 (it is
    shown the gradient of the loss, and both learn in turn); the reversed gradient: Ganin and Lempitsky 2015, arXiv
    1409.7495.

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
    blends = "nothing: moves float inputs, or token embeddings, to where the loss is larger, as a second loss"
    modalities: ClassVar[tuple[Modality, ...]] = ("image", "text", "audio", "video")
    paper = "arXiv:1412.6572"
    begin_with = "clean_weight=0.5"
    citation = (
        "@inproceedings{goodfellow2015explaining, title={Explaining and Harnessing Adversarial Examples}, "
        "author={Goodfellow, Ian J. and Shlens, Jonathon and Szegedy, Christian}, booktitle={ICLR}, year={2015}}"
    )
    exchanges = False
    own_loss = True

    attack: Literal["fgsm", "fgm", "pgd", "pgd_l2", "freelb", "network"] | None = setting(
        None,
        "A step of signs, an L2 step, several of either, FreeLB, or a network that learns (default: fgsm; of tokens "
        "fgm).",
    )
    epsilon: float | None = setting(
        None,
        "Reach in units of inputs or embeddings (default: fgsm, pgd 0.1 a value; others 1 a sample).",
        at_least=0,
    )
    attack_steps: int = setting(3, "Gradient steps of pgd, pgd_l2 and freelb.", at_least=1)
    attack_step_size: float | None = setting(None, "Length of such a step (default: 2.5 epsilon / steps).", at_least=0)
    attack_range: list[float] | None = setting(
        None, "Lowest and highest value of an input, e.g. -1 1 for pixels normalised by 0.5 and 0.5."
    )
    attack_learning_rate: float = setting(0.01, "Learning rate (of Adam) of the network.", above=0)
    clean_weight: float | None = setting(
        None,
        "The clean samples' share of the loss (default: 0.5, freelb 0; at 0 they are not run).",
        at_least=0,
        below=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        low_high = self.attack_range
        if low_high is not None and (len(low_high) != 2 or not low_high[0] < low_high[1]):
            raise ValueError(f"attack_range={low_high!r}: expected two numbers low < high")

    def unread(self) -> dict[str, str]:
        several = dict.fromkeys(("attack_steps", "attack_step_size"), "with attack='pgd', 'pgd_l2' or 'freelb'")
        learning = {"attack_learning_rate": "with attack='network'"}
        unread = {} if self.attack in ("pgd", "pgd_l2", "freelb") else several
        return {**unread, **({} if self.attack == "network" else learning), **super().unread()}

    @property
    def off(self) -> bool:
        return super().off or self.epsilon == 0

    @property
    def learns(self) -> bool:
        return self.attack == "network" and self.epsilon != 0 and not self.off

    def prepare(self, model: nn.Module) -> None:
        install_noise(model)

    def draw(self, request: Request) -> AttackDraw:
        if request.partner is not None or request.lam is not None:
            raise ValueError(f"method {self.name!r} mixes no rows: leave partner and lam")
        chosen = self.tosses(request).expand(request.rows)
        if self.off:
            chosen = torch.zeros_like(chosen)
        rows = chosen.nonzero()[:, 0]
        clean = Draw(self.name, torch.arange(request.rows), torch.ones(request.rows), rows=rows)
        return self._attacked(request, clean, rows)

    def _attacked(self, request: Request, clean: Draw, rows: Tensor) -> AttackDraw:
        """Return a draw with the points to which the attack moves these samples."""
        seed = int(torch.randint(2**62, (), generator=request.rng))
        draw = clean.more(AttackDraw, method=self.name, clean=clean, points={}, seed=seed)
        if not len(rows):
            if request.together and self.epsilon != 0 and not self.off:  # the model is run as in other processes
                self._find(request, request.batch, request.labels, seed)
            return draw
        where = rows.to(request.labels.device, non_blocking=True)
        batch = select_samples(request.batch, where, request.rows)
        labels = request.labels if len(rows) == request.rows else request.labels[where]
        points = self._find(request, batch, labels, seed)
        return replace(draw, points=points)

    def _find(self, request: Request, batch: Batch, labels: Tensor, seed: int) -> dict[str, Tensor]:
        model, keys = request.model, self._moved_keys(batch, len(labels))
        space = attack_space(model, batch, keys)
        if self.attack == "network":
            return space.named(self._propose(request, batch, labels, space)[None])
        loss_sum = request.loss_sum or partial(_loss_sum, kind=request.kind)
        with logits_at_points(model, batch, space) as logits_at:

            def loss_of(points: Tensor) -> Tensor:
                logits = logits_at(points)
                return loss_sum(at_pixels(model, logits, labels) if labels.dim() == 3 else logits, labels)

            return space.named(self._climb(space, loss_of, "fgm" if keys is None else "fgsm", seed))

    def _moved_keys(self, batch: Batch, rows: int) -> list[str] | None:
        """Return the float inputs that are moved; None where it is the embeddings of tokens."""
        if IDS not in batch or self.keys is not None:
            return float_keys(batch, rows, self.name, self.keys)
        if self.attack_range is not None:
            raise ValueError("attack_range is for float inputs, and here the embeddings of tokens are moved: leave it")
        return None

    def learner_for(self, request: Request) -> Learner:
        if self.learner is None:
            keys = self._moved_keys(request.batch, request.rows)
            network = network_for(request.model, request.batch, request.labels, keys, request.seed)
            self.learner = Learner(network, self.attack_learning_rate)
            if self.saved is not None:
                self.learner.load_state_dict(self.saved)
                self.saved = None
        return self.learner

    def _propose(self, request: Request, batch: Batch, labels: Tensor, space: AttackSpace) -> Tensor:
        """Return the points that the network proposes, [B, ...], through which it learns what raises the loss."""
        x, mask, tokens = space.x, space.mask, IDS in batch and self.keys is None
        norm: Literal["linf", "l2"] = "l2" if tokens else "linf"
        values = propose(self.learner_for(request).network, request.model, batch, labels, x, mask)
        low, high = self.attack_range or (None, None)
        return bounded(x, reverse_gradient(values), self._reach(norm), norm, low, high, mask)

    def _reach(self, norm: str) -> float:
        return REACH[norm] if self.epsilon is None else self.epsilon

    def _climb(self, space: AttackSpace, loss_of: Callable[[Tensor], Tensor], default: str, seed: int) -> Tensor:
        """Return the points of the attack, [K, B, ...]: one, but for freelb."""
        attack = self.attack or default
        norm = NORMS[attack]
        eps = self._reach(norm)
        low, high = self.attack_range or (None, None)
        if attack in ("fgsm", "fgm"):
            step = fgsm if attack == "fgsm" else fgm
            return step(space.x, loss_of, eps, low, high, space.mask)[None]
        start = torch.Generator(space.x.device).manual_seed(seed)
        climb = ascent_points if attack == "freelb" else pgd
        size = self.attack_step_size
        found = climb(space.x, loss_of, eps, self.attack_steps, size, norm, start, low, high, space.mask)
        return found if attack == "freelb" else found[None]

    def apply(self, model: nn.Module, batch: Batch, draw: AttackDraw, inplace: bool) -> dict[str, Any]:
        if not draw.points:
            return self._clean(model, batch, draw)
        count, kept = len(draw.lam), self._kept(draw)
        parts = [select_samples(self._clean(model, batch, draw), kept, count)] if len(kept) else []
        parts += [self._moved(model, batch, floats, draw) for floats in self._floats(draw)]
        return self._shifted(model, concat_batches(parts, batch, count), draw, draw.partner)

    def _clean(self, model: nn.Module, batch: Batch, draw: AttackDraw) -> dict[str, Any]:
        """Return the batch as it is trained on without an attack."""
        return dict(batch)

    def _moved(self, model: nn.Module, batch: Batch, floats: dict[str, Tensor], draw: AttackDraw) -> dict[str, Any]:
        """Return the attacked samples, with moved floats in place of their own."""
        return {**select_samples(batch, self._run(draw), len(draw.lam)), **floats}

    def _floats(self, draw: AttackDraw) -> list[dict[str, Tensor]]:
        """Return the moved float inputs, for each of the K points."""
        floats = {key: value for key, value in draw.points.items() if key != IDS}
        return [{key: value[copy] for key, value in floats.items()} for copy in range(self._copies(draw))]

    def _shifted(self, model: nn.Module, inputs: dict[str, Any], draw: AttackDraw, partner: Tensor) -> dict[str, Any]:
        """Arm the table of words with the shifts of the tokens, if there are any; clean samples have none."""
        shifts = draw.points.get(IDS)
        if shifts is None:
            return inputs
        clean = shifts.new_zeros(len(self._kept(draw)), *shifts.shape[2:])
        return with_points(model, inputs, {IDS: torch.cat([clean, shifts.flatten(0, 1)])}, partner)

    def terms(self, logits: Tensor, labels: Tensor, draw: AttackDraw) -> list[Term]:
        rows, clean = draw.rows, self._clean_weight
        if rows is None or not draw.points:
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

    def changed_places(self, draw: AttackDraw) -> Tensor | None:
        if draw.rows is None or not draw.points:
            return None
        order = draw.rows if len(self._run(draw)) > len(draw.rows) else torch.arange(len(draw.rows))
        return len(self._kept(draw)) + order

    @property
    def _clean_weight(self) -> float:
        weight = self.clean_weight
        return weight if weight is not None else 0.0 if self.attack == "freelb" else 0.5

    def _kept(self, draw: AttackDraw) -> Tensor:
        """Return the samples that are run as they are, long: all, or those left alone if clean ones do not count."""
        whole = torch.arange(len(draw.lam), device=draw.lam.device)
        return whole if self._clean_weight or draw.rows is None else _left(draw.rows, len(whole))

    def _run(self, draw: AttackDraw) -> Tensor:
        """Return the samples that are run at each of their points, long: those that are attacked."""
        return torch.arange(len(draw.lam)) if draw.rows is None else draw.rows

    def _copies(self, draw: AttackDraw) -> int:
        """Return how many points each sample has."""
        return len(next(iter(draw.points.values())))


def _loss_sum(logits: Tensor, labels: Tensor, kind: ProblemType) -> Tensor:
    return mixed_loss_sum(logits, labels, labels, torch.ones(len(labels), device=labels.device), kind)


def _left(rows: Tensor, count: int) -> Tensor:
    """Return the samples that are not among these, long."""
    others = torch.ones(count, dtype=torch.uint8, device=rows.device).index_fill(0, rows, 0)
    return others.argsort(descending=True, stable=True)[: count - len(rows)]  # nonzero would wait for the device
