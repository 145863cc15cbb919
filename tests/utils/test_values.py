"""Values of settings, from every way in: constructor, mapping, YAML, JSON, flags, a collator's keywords, compare."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
import yaml

from hf_mixup import Mixup, MixupCollator, MixupConfig
from hf_mixup.engine.settings import LossSettings, PairSettings, Schedule, SelfCheck
from hf_mixup.experiments.compare.arguments import CompareArguments
from hf_mixup.experiments.compare.variants import parse_variants
from hf_mixup.experiments.evaluate.arguments import EvaluateArguments
from hf_mixup.experiments.mixing import SharedSettings
from hf_mixup.experiments.sweep.arguments import SweepArguments
from hf_mixup.experiments.tasks import TaskArguments, parse_settings
from hf_mixup.utils.values import convert
from tests.conftest import batch_of, build

Values = dict[str, Any]
MIXING = (LossSettings, Schedule, PairSettings, SelfCheck)
OURS = (*MIXING, TaskArguments, CompareArguments, SweepArguments, EvaluateArguments)


def from_file(suffix: str) -> Callable[[Path, Values], MixupConfig]:
    def read(folder: Path, values: Values) -> MixupConfig:
        path = folder / f"c{suffix}"
        path.write_text(json.dumps(values) if suffix == ".json" else yaml.safe_dump(values))
        return parse_settings([MixupConfig], [str(path)])[0]

    return read


def from_flags(folder: Path, values: Values) -> MixupConfig:
    flags: list[str] = []
    for name, value in values.items():
        flags += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return parse_settings([MixupConfig], flags)[0]


def from_compare(folder: Path, values: Values) -> MixupConfig:
    text = "".join(f":{name}={json.dumps(value)}" for name, value in values.items() if name != "method")
    return parse_variants([f"{values.get('method', 'mixup')}{text}"], SharedSettings())[0].mixup


def from_collator(folder: Path, values: Values) -> MixupConfig:
    given = {"mixup" if name == "method" else name: value for name, value in values.items()}
    return MixupCollator(**given).mixup.config


WAYS: dict[str, Callable[[Path, Values], MixupConfig]] = {
    "constructor": lambda folder, values: MixupConfig(**values),
    "mapping": lambda folder, values: MixupConfig.from_dict(values),
    "any": lambda folder, values: MixupConfig.from_any(values),
    "collator": from_collator,
    "yaml": from_file(".yaml"),
    "json": from_file(".json"),
    "flags": from_flags,
    "compare": from_compare,
}
REFUSED: list[Values] = [
    {"method": "cutmix", "correct_lam": "perhaps"},
    {"method": "cutmix", "correct_lam": 2},
    {"prob": None},
    {"method": "specmix", "num_bands": True},
    {"draw_seed": [1, 2]},
    {"draw_seed": 1.5},
    {"alpha": "much"},
    {"alpha": True},
    {"alpha": [0.2, 0.4]},
    {"alpha": float("nan")},
    {"lam": float("inf")},
    {"disable_last_epochs": float("-inf")},
    {"method": "cutmix", "box_sides": 0.5},
    {"method": "cutmix", "box_sides": [0.2, None]},
    {"method": "manifold", "layers": [0.5, "deep"]},
    {"method": "manifold", "layers": {"a": 1}},
    {"method": "gridmix", "grid": 2.5},
    {"method": "gridmix", "grid": -1},
    {"method": "between_class", "sampling_rate": 10**9},
    {"pairing": 3},
    {"keys": [["pixel_values"]]},
    {"class_weights": [0, 0]},
    {"method": "switch", "methods": []},
]


@pytest.mark.parametrize("values", REFUSED, ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_value_is_refused_by_its_name(way: str, values: Values, tmp_path: Path) -> None:
    name = next(name for name in values if name != "method")
    value = values[name]
    spoken = not isinstance(value, (list, dict, type(None))) or name in ("box_sides", "class_weights")
    if (way == "flags" and not spoken) or (way == "compare" and isinstance(value, dict)):
        pytest.skip("has no spelling there")
    if way in ("json", "compare") and isinstance(value, float) and not np.isfinite(value):
        pytest.skip("JSON has no such number")
    with pytest.raises(ValueError, match=rf"(^|: |argument --){name}\b") as error:
        WAYS[way](tmp_path, values)
    assert re.search("expected|not known|names nothing|all 0", str(error.value))


MEANT: list[tuple[Values, Any]] = [
    ({"method": "cutmix", "correct_lam": "false"}, False),
    ({"method": "cutmix", "correct_lam": "no"}, False),
    ({"method": "cutmix", "correct_lam": 0}, False),
    ({"alpha": "1e-3"}, 0.001),
    ({"lam": 0}, 0.0),
    ({"method": "manifold", "layers": 1}, [1.0]),
    ({"keys": "pixel_values"}, ["pixel_values"]),
    ({"method": "gridmix", "grid": 3.0}, 3),
    ({"method": "gridmix", "grid": "3"}, 3),
    ({"draw_seed": 2**60 + 1}, 2**60 + 1),
    ({"class_weights": [1, 2]}, [1.0, 2.0]),
]


@pytest.mark.parametrize(("values", "meant"), MEANT, ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_obviously_meant_is_converted(way: str, values: Values, meant: Any, tmp_path: Path) -> None:
    name = next(name for name in values if name != "method")
    found = getattr(WAYS[way](tmp_path, values), name)
    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        ({"alpha": np.float32(0.5)}, 0.5),
        ({"alpha": torch.tensor(0.5)}, 0.5),
        ({"method": "gridmix", "grid": np.int64(3)}, 3),
        ({"method": "cutmix", "correct_lam": np.bool_(False)}, False),
        ({"class_weights": torch.tensor([1.0, 2.0])}, [1.0, 2.0]),
        ({"class_weights": np.array([1, 2])}, [1.0, 2.0]),
        ({"method": "cutmix", "box_sides": (0.2, 0.8)}, [0.2, 0.8]),
    ],
)
def test_scalars_and_arrays_are_plain_values(values: Values, meant: Any, tmp_path: Path) -> None:
    config = MixupConfig(**values)
    found = getattr(config, next(name for name in values if name != "method"))
    assert (found, type(found)) == (meant, type(meant))
    config.save_pretrained(tmp_path)
    assert MixupConfig.from_pretrained(tmp_path) == config


@pytest.mark.parametrize("value", [["mixup"], True, 3])
def test_a_method_is_a_name_a_mapping_or_a_method(value: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(f"method={value!r}: expected a method, its name or a mapping")):
        MixupConfig(method=value)
    with pytest.raises(TypeError, match=re.escape(f"mixup={value!r}: expected a method, its name, a mapping")):
        MixupConfig.from_any(value)


def test_a_whole_lam_is_a_float() -> None:
    model, batch = build("resnet"), batch_of("resnet")
    with Mixup({"lam": 0})(model, batch) as mixed:
        assert mixed.lam.dtype == torch.float32


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_no_field_takes_a_value_of_another_type(kind: Any) -> None:
    """By the type of each field: none for what has to be given, a mapping, and a text that is no number."""
    for field in fields(kind):
        hint = get_type_hints(kind)[field.name]
        kinds = [each for each in get_args(hint) if each is not type(None)] if type(None) in get_args(hint) else [hint]
        if dict in kinds:
            continue
        if type(None) not in get_args(hint):
            with pytest.raises(ValueError, match=rf"^{field.name}=None"):
                kind(**{field.name: None})
        with pytest.raises(ValueError, match=rf"^{field.name}="):
            kind(**{field.name: {"a": 1}})
        inner = get_args(kinds[0])[0] if get_origin(kinds[0]) is list else kinds[0]
        if inner in (int, float, bool) or get_origin(inner) is Literal:
            with pytest.raises(ValueError, match=rf"^{field.name}='what'"):
                kind(**{field.name: "what"})


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (TaskArguments, {"task": "text-classification", "max_length": 0}, "max_length=0: expected a whole number"),
        (TaskArguments, {"flip": "perhaps"}, "flip='perhaps': expected true or false"),
        (TaskArguments, {"config_overrides": [1], "model_type": "resnet"}, "expected a JSON mapping"),
        (TaskArguments, {"config_overrides": "[" * 100000, "model_type": "resnet"}, "nested too deeply"),
        (CompareArguments, {"seeds": 0}, "seeds=0"),
        (CompareArguments, {"fractions": "many"}, "fractions='many'"),
        (SweepArguments, {"alphas": 0.1}, r"alphas=\[0.1\]"),
        (SweepArguments, {"layer_sets": "[" * 2000}, "expected lists of layers"),
        (EvaluateArguments, {"adversarial_steps": 0}, "adversarial_steps=0"),
    ],
)
def test_bounds_of_the_other_settings(kind: Any, values: Values, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**values)
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=message):
        parse_settings([kind], [str(path)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpha: " + "[" * 2000, "c.yaml: not readable as YAML: brackets are nested too deeply"),
        ("alpha: 2024-13-45", "c.yaml: not readable as YAML: month must be"),
        ("alpha: !!int x", "c.yaml: not readable as YAML"),
        ("a: 1\nb: [", "c.yaml, line 2: not readable as YAML"),
    ],
)
def test_files_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    for read in (MixupConfig.from_yaml, lambda path: parse_settings([MixupConfig], [str(path)])):
        with pytest.raises(ValueError, match=message):
            read(path)


def test_json_that_is_nested_too_deeply(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"alpha": ' + "[" * 100000)
    with pytest.raises(ValueError, match=r"c.json: not readable as JSON: brackets are nested too deeply"):
        MixupConfig.from_yaml(path)


@pytest.mark.parametrize(
    ("method", "settings", "name", "message"),
    [("gridmix", {"grid": 30000}, "vit", "grid=30000: images of 16 x 16 pixels have no room")],
)
def test_more_cells_than_pixels_are_refused(method: str, settings: Values, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixup({"method": method, **settings})(build(name), batch_of(name))
    with Mixup({"method": "gridmix", "grid": 16})(build(name), batch_of(name)):
        pass


def test_more_bands_than_places_are_refused() -> None:
    from hf_mixup.testing.batches import tiny

    model, batch = tiny("audio-classification", "audio-spectrogram-transformer")
    with pytest.raises(ValueError, match=r"num_bands=1000000000: spectrograms of .* have no room"):
        Mixup({"method": "specmix", "num_bands": 10**9})(model, batch)


def test_a_type_is_read_by_its_hint() -> None:
    assert convert("x", "on", bool) is True
    assert convert("x", (1, "2"), list[float] | None) == [1.0, 2.0]
    assert convert("x", None, int | None) is None
    assert convert("x", Path("a"), str) == "a"
    assert convert("x", 7, str) == "7"
    with pytest.raises(ValueError, match=r"x='1e400': expected a number"):
        convert("x", "1e400", float)
