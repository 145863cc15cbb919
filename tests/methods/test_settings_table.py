"""Every setting of every method changes something or is refused, however it is written; others are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import torch
import yaml
from transformers import PreTrainedModel

from hf_mixup import Mixup, MixupConfig
from hf_mixup.engine.settings import PARTS
from hf_mixup.experiments.compare.variants import parse_variants
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.integrations.model_card import mixing_section
from hf_mixup.methods import METHODS, first_try, settings_of
from hf_mixup.methods.registry import brief, readers
from hf_mixup.models.hooks import hooks_of
from hf_mixup.tabular import TabularConfig, TabularMLP
from hf_mixup.testing.batches import tiny
from tests.conftest import CLASSES, batch_of, build
from tests.methods.pairs import Tokenizer
from tests.settings import ROWS, VALUES, Values
from tests.writers import make, whisper

OF_METHODS = sorted({name for method in METHODS for name in settings_of(method)})
OF_PAIRS = vars(PARTS["pairs"]())
# No effect in one process, within the range of a scale, or on the loss: test_dual_encoders.py, test_distributed.py.
ELSEWHERE = {"local_loss", "max_logit_scale", "chunk_size"}
LATER = {"attack_learning_rate"}  # nothing is learnt in the first batch: test_network_attack.py
HELD = {"methods", "by"}  # settings that are methods


@cache
def scene(name: str) -> tuple[PreTrainedModel, Values]:
    """Return a tiny model and a batch of four samples or more."""
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
    if name == "transcribed":
        return make(whisper)
    families = {
        "audio": ("audio-classification", "wav2vec2"),
        "spectrogram": ("audio-classification", "audio-spectrogram-transformer"),
        "tagged": ("token-classification", "bert"),
        "causal": ("causal-lm", "llama"),
    }
    return tiny(*families[name])  # type: ignore[arg-type]


def outcome(place: str, config: MixupConfig, seed: int) -> list[Any]:
    """Return all that a mixed batch comes to, or the reason why it is refused."""
    model, batch = scene(place)
    before = {key: value.clone() for key, value in model.state_dict().items() if "logit_scale" in key}
    try:
        engine = Mixup(config.replace(draw_seed=seed, self_check=False), tokenizer=Tokenizer())
        engine.prepare(model)
        with torch.random.fork_rng(devices=[]), engine(model, batch) as mixed:
            torch.manual_seed(0)
            loss = mixed.loss(mixed.forward(model))
        drawn = [value for name, value in sorted(vars(mixed.draw).items()) if name not in ("points", "clean")]
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


def place_of(method: str, name: str = "") -> str:
    return ROWS[method].scenes.get(name, ROWS[method].scene)


def known(method: str) -> set[str]:
    return {*settings_of(method), *(OF_PAIRS if METHODS[method].for_pairs is True else ())}


def default_of(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def other_value(method: str, name: str) -> tuple[Any, Values]:
    """Return a value that is not the method's default, and what it needs beside it."""
    value, beside = ROWS[method].values.get(name) or VALUES[name]
    beside = {key: each for key, each in beside.items() if key in known(method)}
    default = OF_PAIRS[name] if name in OF_PAIRS else default_of(settings_of(method)[name])
    return (not value if value is default else value), beside


def any_value(name: str) -> Any:
    """Return a value of a setting that some method reads."""
    return other_value((readers(name) or ["cross_modal"])[0], name)[0]


def spelled(method: str, settings: Values, folder: Path) -> Iterator[MixupConfig]:
    """Yield a configuration written in each of the ways that there are, first with the class."""
    flat = {"method": method, **settings}
    of_pairs = {name: value for name, value in settings.items() if name in OF_PAIRS}
    own = {name: value for name, value in settings.items() if name not in OF_PAIRS}
    yield MixupConfig(METHODS[method](**own), **of_pairs)
    yield MixupConfig(method, **settings)
    yield MixupConfig.from_any(flat)
    (folder / "mixup.yaml").write_text(yaml.safe_dump(flat))
    yield MixupConfig.from_yaml(folder / "mixup.yaml")


@pytest.mark.parametrize("method", METHODS)
def test_each_setting_changes_something(method: str) -> None:
    """The draw, the inputs or the loss; or the value is refused."""
    of_audio = {"time_axis"} if METHODS[method].for_pairs else set()  # images beside captions have none
    for name in sorted(known(method) - ELSEWHERE - LATER - of_audio):
        value, beside = other_value(method, name)
        base, changed = (MixupConfig(method, **each) for each in (beside, {**beside, name: value}))
        assert name in changed.read
        place = place_of(method, name)
        pairs = ([outcome(place, each, seed) for each in (base, changed)] for seed in range(6))
        assert any(not same(*pair) for pair in pairs), name
        assert len(outcome(place, base, 0)) > 1, name  # was not refused itself


@pytest.mark.parametrize("method", METHODS)
def test_four_spellings_are_one_configuration(method: str, tmp_path: Path) -> None:
    for name in sorted(known(method)):
        if name not in ELSEWHERE:
            value, beside = other_value(method, name)
            first, *others = spelled(method, {**beside, name: value}, tmp_path)
            assert all(other == first and other.to_dict() == first.to_dict() for other in others), name
    first, *others = (outcome(place_of(method), each, 1) for each in spelled(method, {"prob": 0.9}, tmp_path))
    assert len(first) > 1
    assert all(same(first, other) for other in others)


@pytest.mark.parametrize("method", METHODS)
def test_settings_of_other_methods_are_refused(method: str, tmp_path: Path) -> None:
    for name in {*OF_METHODS} - known(method):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            METHODS[method](**{name: any_value(name)})
        refuse(method, name, f" does not read it; {', '.join(readers(name))} (does|do)", tmp_path)
    for name in {*OF_PAIRS} - known(method) - ELSEWHERE:
        refuse(method, name, " does not read it; .*cross_modal.* do", tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_a_class_suggests_the_setting_that_was_meant(method: str) -> None:
    for name in known(method) & {"prob", "alpha", "lam_per"}:
        with pytest.raises(TypeError, match=rf"keyword argument '{name}_': did you mean '{name}'\? Valid: "):
            METHODS[method](**{f"{name}_": 0.5})


def refuse(method: str, name: str, message: str, folder: Path) -> None:
    flat = {"method": method, name: any_value(name)}
    (folder / "mixup.yaml").write_text(yaml.safe_dump(flat))
    for written in (
        lambda: MixupConfig(**flat),
        lambda: MixupConfig(flat),
        lambda: MixupConfig.from_yaml(folder / "mixup.yaml"),
    ):
        with pytest.raises(ValueError, match=rf"^{name}=.*method '{method}'{message}"):
            written()


@pytest.mark.parametrize("method", METHODS)
def test_numbers_out_of_range_are_refused(method: str) -> None:
    for name, field in settings_of(method).items():
        for bound, step in (("at_least", -1), ("above", 0), ("at_most", 1), ("below", 0)):
            limit = getattr(field, bound, None)
            if limit is None:
                continue
            wrong = limit + step
            with pytest.raises(ValueError, match=rf"^{name}=-?[\d.]+: expected a (whole )?number .*{limit}"):
                METHODS[method](**{name: [wrong] if isinstance(other_value(method, name)[0], list) else wrong})


@pytest.mark.parametrize("method", METHODS)
def test_values_of_another_type_are_refused(method: str) -> None:
    hints = get_type_hints(METHODS[method])
    for name in settings_of(method).keys() - HELD:
        kind = hints[name]
        if get_origin(kind) in (Union, UnionType):
            (kind,) = {*get_args(kind)} - {NoneType}
        if get_origin(kind) is list:
            (kind,) = get_args(kind)
        wrong: Any = {"a": 1} if kind is str else "wrong"
        says = "is not known: .*[Vv]alid" if get_origin(kind) is Literal else "expected (a|true)"
        with pytest.raises(ValueError, match=rf"^{name}=.*{says}"):
            METHODS[method](**{name: wrong})
    for name in settings_of(method).keys() & HELD:
        with pytest.raises(TypeError, match=r"3: expected a method, its name or a mapping"):
            METHODS[method](**{name: 3})


@pytest.mark.parametrize("method", METHODS)
def test_what_to_begin_with_is_accepted(method: str) -> None:
    """In the spelling of a comparison, as the method's settings and as those of YAML."""
    kind, began = METHODS[method], first_try(method)
    assert began, f"{method}: name in `begin_with` the settings that a first try is best made with"
    variant = parse_variants([f"{method}:{kind.begin_with}"], SharedSettings(), paired=kind.for_pairs)[0]
    mixing = MixupConfig(**{"method": method, **began}).mixing
    assert variant.mixup.mixing == mixing
    assert {name: brief(getattr(mixing, name)) for name in began} == began
    assert not mixing.off
    assert f"Begin with `{method}:{kind.begin_with}`" in str(kind.__doc__)


def test_every_setting_has_another_value() -> None:
    own = {name for row in ROWS.values() for name in row.values}
    assert all(row.values.keys() <= known(method) for method, row in ROWS.items())
    assert own | set(VALUES) == {*OF_METHODS, *OF_PAIRS} - ELSEWHERE


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("adversarial", {"attack_steps": 5}, "only with attack='pgd', 'pgd_l2' or 'freelb'"),
        ("adversarial", {"attack": "network", "attack_steps": 5}, "only with attack='pgd', 'pgd_l2' or 'freelb'"),
        ("adversarial", {"attack_learning_rate": 0.1}, "only with attack='network'"),
        ("resizemix", {"box_sides": [0.2, 0.8], "lam": 0.3}, "only without lam"),
        ("specmix", {"band_share": 0.1, "lam": 0.3}, "only without lam"),
        ("mixup", {"lam": 0.3, "beta": 2}, "only without lam"),
        ("cutmix", {"box_sides": [0.2, 0.8], "lam": 0.3}, "only without lam"),
        ("cutmix", {"box_sides": [0.2, 0.8], "beta": 2}, "only without box_sides"),
        ("cross_modal", {"box_style": "torchvision"}, "only where images are mixed with image_mix='cut'"),
        ("one_sided", {"text_mix": "aligned"}, "only where the text is mixed"),
        ("geodesic", {"side": "image", "paper_compat": True}, "only with side='both'"),
        ("cross_modal", {"learn_temperature": False, "max_logit_scale": 50}, "only with learn_temperature=true"),
        ("one_sided", {"class_weights": [1, 2]}, "a contrastive loss has no classes"),
        ("one_sided", {"loss": "bce"}, "loss='bce' is for labels"),
        ("mixup", {"loss": "infonce"}, "loss='infonce' is for pairs"),
    ],
)
def test_what_is_read_beside_other_settings_only(method: str, settings: Values, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixupConfig(method, **settings)


def test_held_methods_take_their_own_settings() -> None:
    switch = MixupConfig("switch", methods=["mixup", {"method": "gridmix", "grid": 5}])
    assert switch.mixing.choices()[1] == METHODS["gridmix"](grid=5)
    adversarial = MixupConfig("interpolated_adversarial", by={"method": "cutmix", "box_sides": [0.1, 0.2]})
    assert adversarial.by == METHODS["cutmix"](box_sides=[0.1, 0.2])
    assert MixupConfig("switch", methods=["cross_modal", "m2"], temperature=0.1).temperature == 0.1
    with pytest.raises(ValueError, match=r"class_weights=.*no classes"):
        MixupConfig("switch", methods=["cross_modal", "m2"], class_weights=[1, 2])
    with pytest.raises(ValueError, match="grid=5: method 'mixup' does not read it; gridmix does"):
        MixupConfig("interpolated_adversarial", by={"method": "mixup", "grid": 5})


OFF = {"method": "mixup", "alpha": 0}


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
        ("interpolated_adversarial", {"by": {"method": "mixup", "alpha": 0}}, True),
        ("switch", {"methods": [OFF, OFF]}, True),
        ("switch", {"methods": [OFF, "cutmix"]}, False),
        ("switch", {"methods": [OFF, "cutmix"], "probs": [1, 0]}, True),
        ("switch", {"methods": ["gaussian", OFF]}, False),
    ],
)
def test_off_asks_only_what_is_read(method: str, settings: Values, off: bool) -> None:
    assert MixupConfig(method, **settings).off is off


@pytest.mark.parametrize(
    ("method", "settings", "shown"),
    [
        ("mixup", {}, {"prob": "1.0", "alpha": "1.0"}),
        ("gaussian", {"sigma": 0.3}, {"prob": "1.0", "sigma": "0.3"}),
        ("mixup", {"alpha": 0.4, "lam": 0.3}, {"prob": "1.0", "lam": "0.3"}),
        (
            "cutmix",
            {"box_sides": [0.2, 0.8], "label_smoothing": 0.1},
            {"box_sides": "[0.2, 0.8]", "label_smoothing": "0.1"},
        ),
        ("switch", {}, {"methods": "mixup, cutmix"}),
        ("switch", {"methods": [{"method": "mixup", "alpha": 0.2}, "fmix"]}, {"methods": "mixup (alpha=0.2), fmix"}),
        (
            "interpolated_adversarial",
            {"by": {"method": "cutmix", "box_sides": [0.1, 0.2], "prob": 0.5}},
            {"by": "cutmix (prob=0.5, box_sides=[0.1, 0.2])"},
        ),
    ],
)
def test_a_card_shows_what_was_read(method: str, settings: Values, shown: Values) -> None:
    lines = mixing_section(MixupConfig(method, **settings)).splitlines()
    rows = [line[2:-2].split(" | ") for line in lines if line.startswith("| ")]
    assert dict(rows[2:]) == {"method": method, "prob": "1.0", **shown}


def test_a_comparison_deals_shared_settings_out() -> None:
    base = SharedSettings({"method": "cmixup", "alpha": 0.4, "label_bandwidth": 0.5, "grid": 2})
    labels = ["none,mixup,cmixup:label_bandwidth=0.2,gridmix,gaussian:sigma=0.3"]
    none, mixup, cmixup, gridmix, gaussian = parse_variants(labels, base)
    assert mixup.mixup.changed == {"alpha": 0.4}
    assert cmixup.mixup.changed == {"alpha": 0.4, "label_bandwidth": 0.2}
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
    base = SharedSettings({"method": "cross_modal", "temperature": 0.1, "alpha": 0.4})
    control = parse_variants(["none", "cross_modal"], base, paired=True)[0].mixup
    assert control.changed == {"temperature": 0.1, "prob": 0.0}
