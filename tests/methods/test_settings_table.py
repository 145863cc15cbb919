"""Each setting of each method changes something, or is refused: the table of who reads what, against the code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, replace
from functools import cache
from typing import Any

import pytest
import torch
from hf_mixup.methods.settings import READS, known_by
from transformers import PreTrainedModel

from hf_mixup import Mixup, MixupConfig
from hf_mixup.experiments.compare.variants import parse_variants
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.integrations.model_card import mixing_section
from hf_mixup.methods import METHODS, Method
from hf_mixup.methods.mixup import InputMixup
from hf_mixup.models.hooks import hooks_of
from hf_mixup.tabular import TabularConfig, TabularMLP
from hf_mixup.testing.batches import tiny
from tests.conftest import CLASSES, batch_of, build
from tests.methods.test_cross_modal import Tokenizer

Values = dict[str, Any]
NAMES = [field.name for field in fields(MixupConfig) if field.name != "method"]
# What the engine reads for every method, with tests of its own.
ENGINE = {
    *("loss", "label_smoothing", "class_weights", "distill_weight", "distill_temperature"),
    *("prob_warmup", "off_ratio", "off_epochs", "self_check", "draw_seed"),
}
# No effect in one process, within the range of a scale, or on the loss: test_dual_encoders.py, test_distributed.py.
ELSEWHERE = {"local_loss", "max_logit_scale", "chunk_size"}
# Drawn as every method draws, and then of no use: such settings are refused.
DRAWN_IN_VAIN = {("intra", "pairing"), ("intra", "pair_class"), ("m2", "pairing"), ("m2", "pair_class")}
DRAWN_IN_VAIN |= {("intra", "host_dominant"), ("sftmix", "pairing"), ("sftmix", "pair_class"), ("cross_modal", "side")}
CUT = {"image_mix": "cut", "lam_per": "row"}
# For each setting another value than the default, and what it needs beside it.
OTHER: dict[str, tuple[Any, Values]] = {
    "alpha": (30.0, {}),
    "beta": (4.0, {}),
    "lam": (0.3, {}),
    "lam_per": ("row", {}),
    "host_dominant": (True, {"lam_per": "row"}),
    "prob": (0.3, {}),
    "prob_per": ("row", {"prob": 0.5}),
    "pairing": ("flip", {}),
    "pair_class": ("different", {"lam": 0.5}),
    "keys": (["wrong"], {}),
    "layers": ([0], {}),
    "modules": (["wrong"], {}),
    "mask": ("weighted", {}),
    "minmax": ([0.2, 0.4], {}),
    "box": ("torchvision", {"lam_per": "row"}),
    "cut_along": ("time", {}),
    "time_axis": (9, {}),
    "correct_lam": (False, {"lam": 0.37}),
    "grid": (3, {}),
    "saliency": ("gradient", {}),
    "attention": ("rollout", {}),
    "bands": (1, {}),
    "band_width": (0.1, {}),
    "swap_keys": (["wrong"], {}),
    "methods": (["fmix", "gridmix"], {}),
    "probs": ([0.0, 1.0], {}),
    "switch_alphas": ([0.2, 5.0], {}),
    "bandwidth": (0.01, {}),
    "sampling_rate": (8000, {}),
    "mix_weight": (0.9, {}),
    "eta": (0.3, {}),
    "sigma": (0.5, {}),
    "attack": ("pgd_l2", {}),
    "epsilon": (0.02, {}),
    "attack_steps": (1, {"attack": "pgd"}),
    "attack_step_size": (0.01, {"attack": "pgd"}),
    "attack_range": ([0.0, 0.1], {}),
    "clean_weight": (0.1, {}),
    "by": ("cutmix", {}),
    "side": ("text", {}),
    "image_mix": ("latent", {}),
    "text_mix": ("two_eot", {}),
    "duplicates": (False, {}),
    "paper_compat": (True, {}),
    "m2_weight": (0.7, {}),
    "m2_temperature": (0.5, {}),
    "temperature": (0.2, {}),
    "learn_temperature": (False, {}),
}
BESIDE: dict[tuple[str, str], Values] = {
    **{("cross_modal", name): CUT for name in ("minmax", "box", "cut_along", "time_axis")},
    **{("one_sided", name): CUT for name in ("minmax", "box", "cut_along", "time_axis")},
    ("cross_modal", "correct_lam"): {**CUT, "lam": 0.37},
    ("one_sided", "correct_lam"): {**CUT, "lam": 0.37},
    ("one_sided", "text_mix"): {"side": "text"},
    ("resizemix", "minmax"): {"lam_per": "row"},
    ("one_sided", "keys"): {"side": "image"},
}
SCENES = {"between_class": "audio", "specmix": "spectrogram", "tabular": "table", "cmixup": "numbers"}
SCENES |= {"embedding": "bert", "manifold": "bert", "features": "bert", "sentence": "bert", "span_cut": "bert"}
SCENES |= {"ssmix": "bert", "intra": "tagged", "sftmix": "causal", "transmix": "attending"}
SCENES |= dict.fromkeys(("cross_modal", "one_sided", "geodesic", "m2", "mixgen"), "clip")
OTHER_SCENES = {("cutmix", "cut_along"): "spectrogram", ("cutmix", "time_axis"): "spectrogram"}
OTHER_SCENES |= {("tabular", "correct_lam"): "categories", ("cmixup", "correct_lam"): "numbers of categories"}
OTHER_SCENES |= {("cmixup", "mask"): "scored", ("one_sided", "cut_along"): "clip"}


@cache
def scene(name: str) -> tuple[PreTrainedModel, Values]:
    """Return a tiny model and a batch of four rows or more."""
    if name in ("vit", "bert", "clip"):
        batch = batch_of(name, rows=8, lengths=name == "bert")
        if name == "clip":
            batch["input_ids"][4:], batch["attention_mask"][4:] = batch["input_ids"][:4], batch["attention_mask"][:4]
        return build(name).eval(), batch
    if name == "attending":
        return build("vit", attn_implementation="eager").eval(), batch_of("vit", rows=8)
    if name == "scored":
        batch = batch_of("bert", rows=8, lengths=True)
        return build("bert", problem_type="regression").eval(), {**batch, "labels": torch.rand(8, CLASSES)}
    if name in ("table", "numbers", "categories", "numbers of categories"):
        rng = torch.Generator().manual_seed(0)
        batch = {
            "numerical_values": torch.randn(8, 3, generator=rng),
            "categorical_values": torch.randint(3, (8, 2), generator=rng),
            "labels": torch.randint(CLASSES, (8,), generator=rng),
        }
        number, floats = name.startswith("numbers"), not name.endswith("categories")
        if not floats:
            del batch["numerical_values"]
        if number:
            batch["labels"] = torch.linspace(0, 1, 8)
        config = TabularConfig(
            numerical_size=3 * floats, categorical_sizes=[3, 3], hidden_size=8, num_labels=1 if number else CLASSES
        )
        torch.manual_seed(0)
        return TabularMLP(config).eval(), batch
    families = {
        "audio": ("audio-classification", "wav2vec2"),
        "spectrogram": ("audio-classification", "audio-spectrogram-transformer"),
        "tagged": ("token-classification", "bert"),
        "causal": ("causal-lm", "llama"),
    }
    return tiny(*families[name])  # type: ignore[arg-type]


class Recorder:
    """A configuration that notes which settings are looked at."""

    def __init__(self, config: MixupConfig, seen: set[str]) -> None:
        self._config, self._seen = config, seen

    def __getattr__(self, name: str) -> Any:
        if name in NAMES:
            self._seen.add(name)
        return getattr(self._config, name)


def outcome(place: str, config: MixupConfig, seed: int, seen: set[str]) -> list[Any]:
    """Return all that a mixed batch comes to, or the reason why it is refused."""
    model, batch = scene(place)
    before = {key: value.clone() for key, value in model.state_dict().items() if "logit_scale" in key}
    try:
        engine = Mixup(replace(config, draw_seed=seed, self_check=False), tokenizer=Tokenizer())
        engine.method.config = Recorder(engine.method.config, seen)  # type: ignore[assignment]
        engine.prepare(model)
        with torch.random.fork_rng(devices=[]), engine(model, batch) as mixed:
            torch.manual_seed(0)
            loss = mixed.loss(mixed.forward(model))
        drawn = [value for name, value in sorted(vars(mixed.draw).items()) if name != "points"]
        inputs = [value for value in mixed.inputs.values() if isinstance(value, torch.Tensor)]
        learns = [parameter.requires_grad for key, parameter in model.named_parameters() if key in before]
        return [loss.detach().clone(), *drawn, *inputs, *learns]
    except (ValueError, RuntimeError, TypeError) as error:
        return [str(error)]
    finally:
        hooks_of(model).forget()
        hooks_of(model).checked.clear()
        model.load_state_dict(before, strict=False)
        model.requires_grad_(True)


def same(one: list[Any], other: list[Any]) -> bool:
    def alike(a: Any, b: Any) -> bool:
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            return a.shape == b.shape and torch.equal(a, b)
        return type(a) is type(b) and a == b

    return len(one) == len(other) and all(map(alike, one, other))


def known(method: str) -> set[str]:
    return known_by(vars(MixupConfig(method))) - {"method"}


def test_every_method_has_a_line() -> None:
    assert set(READS) == set(METHODS)
    assert set(" ".join(READS.values()).split()) <= set(NAMES)


@pytest.mark.parametrize("method", READS)
def test_what_a_method_does_not_read_is_refused(method: str) -> None:
    for name in set(OTHER) - known(method):
        with pytest.raises(ValueError, match=rf"^{name}=.* (does not read it|reads it only|loss has no classes)"):
            MixupConfig(method, **{name: OTHER[name][0]})


def settings_of(method: str) -> Iterator[str]:
    of_audios = {"time_axis"} if METHODS[method].for_pairs else set()  # images beside captions have none
    yield from sorted(known(method) - ENGINE - ELSEWHERE - of_audios)


@pytest.mark.parametrize("method", READS)
def test_what_a_method_reads_changes_something(method: str) -> None:
    """Draws, inputs or loss differ, or the value is refused; and nothing beyond the table is looked at."""
    seen: set[str] = set()
    for name in settings_of(method):
        value, beside = OTHER[name]
        beside = BESIDE.get((method, name), beside)
        place = OTHER_SCENES.get((method, name), SCENES.get(method, "vit"))
        base = MixupConfig(method).for_method(method, **{k: v for k, v in beside.items() if k in known(method)})
        changed = base.for_method(method, **{name: value})
        assert name in changed.read
        pairs = ([outcome(place, each, seed, seen) for each in (base, changed)] for seed in range(6))
        assert any(not same(*pair) for pair in pairs), name
        assert len(outcome(place, base, 0, seen)) > 1, name  # was not refused itself
    beyond = {(method, name) for name in seen - known(method)}
    assert beyond <= DRAWN_IN_VAIN


def test_every_setting_has_another_value() -> None:
    defaults = {field.name: field.default for field in fields(MixupConfig)}
    assert MISSING not in defaults.values()
    assert set(OTHER) == set(NAMES) - ENGINE - ELSEWHERE
    assert all(value != defaults[name] for name, (value, _) in OTHER.items())


def test_a_method_of_ones_own_reads_what_its_nearest_base_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    described = {"title": "Own", "blends": "nothing", "paper": "none", "apply": lambda *each: {}}
    bases = {"half": InputMixup, "box": METHODS["cutmix"], "plain": Method, "pair": METHODS["one_sided"]}
    for name, base in bases.items():
        monkeypatch.setitem(METHODS, name, type(name.title(), (base,), {"name": name, **described}))
    monkeypatch.setitem(METHODS, "inner", type("Inner", (METHODS["half"],), {"name": "inner", **described}))
    assert known("half") == known("inner") == known("mixup")
    assert known("plain") == {*known("mixup"), "correct_lam"}
    assert known("box") == known("cutmix")
    assert known("pair") == known("one_sided")
    with pytest.raises(ValueError, match="grid=9: method 'inner' does not read it; gridmix does"):
        MixupConfig("inner", grid=9)
    with pytest.raises(ValueError, match="'wavelength' is no setting"):
        MixupConfig.from_dict({"method": "half", "wavelength": 3})


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("adversarial", {"attack_steps": 5}, "only with attack='pgd', 'pgd_l2' or 'freelb'"),
        ("interpolated_adversarial", {"grid": 5}, "does not read it; gridmix does"),
        ("switch", {"grid": 5}, "does not read it; gridmix does"),
        ("switch", {"switch_alphas": [1, 2], "lam": 0.5}, "only without lam"),
        ("mixup", {"lam": 0.3, "beta": 2}, "only without lam"),
        ("cutmix", {"minmax": [0.2, 0.8], "lam": 0.3}, "only without lam"),
        ("cutmix", {"minmax": [0.2, 0.8], "beta": 2}, "only without minmax"),
        ("cross_modal", {"box": "torchvision"}, "only where images are mixed with image_mix='cut'"),
        ("one_sided", {"text_mix": "aligned"}, "only where the text is mixed"),
        ("geodesic", {"side": "image", "paper_compat": True}, "only with side='both'"),
        ("cross_modal", {"learn_temperature": False, "max_logit_scale": 50}, "only with learn_temperature=true"),
        ("cross_modal", {"class_weights": [1, 2]}, "a contrastive loss has no classes"),
        ("cross_modal", {"loss": "bce"}, "loss='bce' is for labels"),
        ("mixup", {"loss": "infonce"}, "loss='infonce' is for pairs"),
        ("gaussian", {"alpha": 0.4}, "does not read it; mixup, "),
    ],
)
def test_what_is_read_beside_other_settings_only(method: str, settings: Values, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixupConfig(method, **settings)


def test_delegates_read_what_their_methods_read() -> None:
    assert MixupConfig("switch", methods=["mixup", "gridmix"], grid=5).grid == 5
    assert MixupConfig("interpolated_adversarial", by="cutmix", minmax=[0.1, 0.2]).minmax == [0.1, 0.2]
    assert MixupConfig("switch", methods=["cross_modal", "m2"], temperature=0.1).temperature == 0.1
    with pytest.raises(ValueError, match=r"class_weights=.*no classes"):
        MixupConfig("switch", methods=["cross_modal", "m2"], class_weights=[1, 2])


@pytest.mark.parametrize(
    ("method", "settings", "off"),
    [
        ("mixup", {"alpha": 0}, True),
        ("mixup", {"lam": 1}, True),
        ("mixup", {"alpha": 0, "lam": 0.5}, False),
        ("specmix", {}, False),
        ("specmix", {"lam": 1}, True),
        ("gaussian", {"sigma": 0}, True),
        ("gaussian", {"prob": 0}, True),
        ("adversarial", {"epsilon": 0}, True),
        ("interpolated_adversarial", {"epsilon": 0}, False),
        ("interpolated_adversarial", {"alpha": 0}, True),
        ("switch", {"switch_alphas": [0, 0]}, True),
        ("switch", {"switch_alphas": [0, 1], "alpha": 0}, False),
        ("switch", {"switch_alphas": [0, 1], "probs": [1, 0]}, True),
        ("switch", {"methods": ["gaussian", "mixup"], "alpha": 0}, False),
    ],
)
def test_off_asks_only_what_is_read(method: str, settings: Values, off: bool) -> None:
    assert MixupConfig(method, **settings).off is off


@pytest.mark.parametrize(
    ("method", "settings", "shown"),
    [
        ("mixup", {}, ["method", "alpha", "prob"]),
        ("gaussian", {"sigma": 0.3}, ["method", "prob", "sigma"]),
        ("mixup", {"alpha": 0.4, "lam": 0.3}, ["method", "lam", "prob"]),
        ("switch", {"alpha": 0.4, "switch_alphas": [0.2, 1.0]}, ["method", "prob", "switch_alphas"]),
        ("cutmix", {"label_smoothing": 0.1, "grid": 4}, ["method", "alpha", "prob", "label_smoothing"]),
    ],
)
def test_a_card_shows_what_was_read(method: str, settings: Values, shown: list[str]) -> None:
    lines = mixing_section(MixupConfig(method, **settings)).splitlines()
    assert [line.split(" | ")[0][2:] for line in lines if line.startswith("| ")][2:] == shown


def test_a_comparison_deals_shared_settings_out() -> None:
    base = SharedSettings("cmixup", alpha=0.4, bandwidth=0.5, grid=2)
    labels = ["none,mixup,cmixup:bandwidth=0.2,gridmix,gaussian:sigma=0.3"]
    none, mixup, cmixup, gridmix, gaussian = parse_variants(labels, base)
    assert mixup.mixup.changed == {"alpha": 0.4}
    assert cmixup.mixup.changed == {"alpha": 0.4, "bandwidth": 0.2}
    assert gridmix.mixup.changed == {"alpha": 0.4, "grid": 2}
    assert gaussian.mixup.changed == {"sigma": 0.3}
    assert none.mixup.plain
    for methods, message in (
        ("none,mixup,cmixup", r"^grid=2: none of the methods \(mixup, cmixup\) reads it; gridmix does"),
        ("mixup:grid=3,gridmix,cmixup", r"^mixup:grid=3: grid=3: method 'mixup' does not read it"),
        ("mixup:method=cutmix,gridmix,cmixup", "the method is what stands before the first colon"),
        ("mixup:lam=" + "[" * 2000, "cannot read the value"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_variants([methods], base)
    assert parse_variants(["none,smoothing"], base)[0].mixup.plain  # there is no method to read them


def test_controls_keep_only_what_is_theirs() -> None:
    base = SharedSettings("cross_modal", temperature=0.1, alpha=0.4)
    control = parse_variants(["none", "cross_modal"], base, paired=True)[0].mixup
    assert control.changed == {"temperature": 0.1, "prob": 0.0}
